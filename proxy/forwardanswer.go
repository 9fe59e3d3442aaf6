package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"os"

	"wstunnel/internal/head"
	"wstunnel/internal/session"
)

// Answered takes a head of the backend's answer.
func (x *forward) Answered(r *head.Response) {
	x.backend.noteAnswer(r.Fields)
	switch {
	case r.Status == http.StatusSwitchingProtocols && x.protocol != "":
		x.switched(r)
		return
	case r.Status == http.StatusSwitchingProtocols:
		x.fail(errors.New("the backend switched protocols, which nobody had asked for"))
		return
	case r.Status == http.StatusContinue:
		return
	case x.extended && r.Status >= 200 && r.Status < 300: // which would say that the tunnel is open
		x.fail(x.wrapHandshake(fmt.Errorf("the backend answered %d, not 101", r.Status)))
		return
	case r.Status < 200:
		x.client.Respond(&head.Response{Status: r.Status, Fields: dropHopByHop(r.Fields)})
		x.client.Flush()
		return
	}
	u := x.upstream
	fields := rewriteResponse(x.exchange.answerFields(), r.Fields, r.Status, &x.in, x.location, u.target)
	if r.Chunked {
		fields = announce(fields, r.Fields)
	}
	x.hintAtHTTPS(r.Status, fields)
	x.answerFields = r.Fields
	x.backend.Await(x.location.Timeouts.ResponseBody)
	x.respond(r.Status, fields, r.Length)
}

// Body takes a piece of the answer.
func (x *forward) Body(p []byte) {
	if x.answer.spool != nil {
		x.answer.add(p)
		return
	}
	x.sent += int64(len(p))
	x.client.Write(p)
	x.answer.note()
}

// Spliced counts a piece of the answer that was not seen.
func (x *forward) Spliced(n int) {
	x.sent += int64(n)
	x.answer.note()
}

// Caught sends on what came: an event, half a page.
func (x *forward) Caught() { x.client.Flush() }

// Done ends the exchange.
func (x *forward) Done(trailers head.Fields) {
	trailers = rewriteTrailers(trailers, x.answerFields)
	backend := x.backend
	x.backend = nil
	if x.upload.complete && x.protocol == "" && !x.out.Close {
		backend.release()
	} else {
		backend.close()
	}
	if x.answer.spool != nil {
		x.answer.end(trailers, nil)
		return
	}
	x.finish()
	x.client.End(trailers)
}

// Took says that the backend takes more of the request, which is for the client to send.
func (x *forward) Took() {
	if x.upload.ends() {
		return
	}
	if x.status == 0 {
		x.backend.Await(0)
	}
	x.upload.goOn()
}

// Broke deals with a backend that broke off.
func (x *forward) Broke(err error) {
	backend := x.backend
	x.backend = nil
	backend.close()
	silent := !backend.Began()
	switch {
	case x.answer.spool != nil:
		x.answer.end(nil, fmt.Errorf("reading the response body: %w", err))
	case x.client.Responded():
		x.abort(fmt.Errorf("reading the response body: %w", err))
	case x.protocol != "" && silent:
		x.pool.delay()
		x.tryNext(x.wrapHandshake(err))
	case x.protocol != "":
		x.fail(x.wrapHandshake(err))
	case backend.Reused() && silent && x.repeatable() && !errors.Is(err, os.ErrDeadlineExceeded):
		x.fresh = true // the connection was stale
		x.leaveServer()
		x.servers = x.upstream.attempt()
		x.askAgain()
	case silent && !backend.Reused():
		x.diagnose(err)
	default:
		x.fail(err)
	}
}

// diagnose fails, when it is known what a server that broke off without a word looks like.
func (x *forward) diagnose(err error) {
	conn, p, ctx := x.client.Conn(), x.pool, x.server.ctx
	go func() {
		err := p.diagnose(ctx, err)
		conn.Loop().Post(func() {
			conn.Do(func() {
				if !x.over {
					x.fail(err)
				}
			})
		})
	}()
}

// repeatable reports whether the request can be sent again after a connection broke under it.
func (x *forward) repeatable() bool {
	return !x.in.request.HasBody() && idempotent(x.in.request.Method)
}

// Sink is the client, over HTTP/1.x, where nothing waits for it in a file.
func (x *forward) Sink() *session.Client {
	if x.answer.spool != nil {
		return nil
	}
	client, _ := x.client.(*session.Client)
	return client
}

// drained lets more of the answer come.
func (x *forward) drained() {
	x.answer.goOn()
}

// fail answers for a backend that did not.
func (x *forward) fail(err error) {
	x.err = err
	x.give(answerForFailure(err))
}
