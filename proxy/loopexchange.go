package proxy

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/reactor"
	"wstunnel/internal/relay"
	"wstunnel/internal/session"
	"wstunnel/internal/tunnel"
)

// loopExchange is an exchange on an event loop.
type loopExchange struct {
	*exchange
	conn   *connection // of a client over HTTP/1.x
	client session.Stream

	// What the backend is sent.
	out      *head.Request
	held     []byte // of the body, until there is a backend
	whole    bool
	trailers head.Fields

	// The way to a backend.
	upstream  *upstream
	servers   *attempt
	fresh     bool               // no idle connection will do
	withdraw  func()             // leaves the queue of max_connections; nil where there is none
	lookUp    context.CancelFunc // ends the resolving of a name under way, or nil
	dialing   *reactor.Dialing   // nil before there is an address
	shaking   *reactor.Conn      // in its TLS handshake
	connectBy time.Duration      // on the loop's clock
	pool      *pool              // of the server that is tried now
	wait      *list.Element      // in that pool
	backend   *loopBackend       // nil before it is connected

	file         *download   // nil where no file is sent
	answerFields head.Fields // of the backend's answer, as they came
	opening      bool        // counted among the handshakes that may become a tunnel
	over         bool
}

// maxHeld bounds what is held of a body while there is no backend to take it.
const maxHeld = 64 << 10

// begin decides what becomes of the request, and begins with it.
func (x *loopExchange) begin() {
	if a := x.answerForChallenge(); a != nil && !x.extended {
		x.give(a)
		return
	}
	d := x.decide()
	if x.extended {
		d = onlyTunnel(d)
	}
	x.tell(d)
	switch d.action {
	case forwardHTTP:
		x.forward(x.location.http, "")
	case openTunnel:
		x.forward(x.location.websocket, x.in.request.Protocol)
	case serveStatic:
		x.sendFile()
	default:
		x.give(x.answerFor(d))
	}
}

// give gives an answer of this front end's own, and ends the exchange.
func (x *loopExchange) give(a *answer) {
	fields := a.fields
	x.addHSTS(&fields)
	if a.close {
		x.client.CloseAfterAnswer()
	}
	x.status, x.sent = a.status, int64(len(a.body))
	x.finish()
	x.client.Respond(&head.Response{Status: a.status, Fields: fields, Length: int64(len(a.body))})
	x.client.Write([]byte(a.body))
	x.client.End(nil)
}

// fail answers for a backend that did not.
func (x *loopExchange) fail(err error) {
	x.err = err
	x.leaveServer()
	x.give(answerForFailure(err))
}

// finish ends the exchange: it is logged once, and whatever it holds is let go.
func (x *loopExchange) finish() {
	if x.over {
		return
	}
	x.over = true
	x.leaveServer()
	if x.file != nil {
		x.file.end()
	}
	if x.opening {
		x.server.tunnels.release()
	}
	x.log()
}

// Data takes a piece of the request's body, or what the client says behind an upgrade request.
func (x *loopExchange) Data(p []byte) {
	if x.file != nil {
		return // nobody reads it
	}
	if x.backend == nil || x.out.Protocol != "" {
		x.held = append(x.held, p...)
		if len(x.held) >= maxHeld {
			x.client.Pause()
		}
		return
	}
	x.backend.Write(p)
	if x.over || x.backend.Pending() == 0 {
		return
	}
	x.client.Pause()
	if x.status == 0 {
		x.backend.Await(x.location.Timeouts.ResponseHead)
	}
}

// Whole takes the end of the request.
func (x *loopExchange) Whole(trailers head.Fields) {
	x.whole, x.trailers = true, rewriteTrailers(trailers, x.in.request.Fields)
	if x.backend != nil {
		x.endRequest()
	}
}

// Drained says that the client takes more of its answer.
func (x *loopExchange) Drained() {
	switch {
	case x.file != nil:
		x.file.drained()
	case x.backend != nil:
		x.backend.Limit(x.client.Room())
		x.backend.Resume()
	}
}

// Gone deals with a client that left, or that does not go on.
func (x *loopExchange) Gone(err error) {
	if x.over {
		return
	}
	broken := errors.Is(err, session.ErrStalled) || errors.Is(err, session.ErrMalformed)
	if !broken {
		x.clientGone = true
		if !isGone(err) {
			x.err = err
		}
		x.finish()
		return
	}
	x.err = err
	x.leaveServer()
	switch {
	case x.client.Responded():
		x.finish()
		x.client.Abort()
	case errors.Is(err, session.ErrStalled):
		x.giveLast(textAnswer(http.StatusRequestTimeout, "the request body did not come in time"))
	default:
		x.giveLast(textAnswer(http.StatusBadRequest, "the request body is malformed or incomplete"))
	}
}

func (x *loopExchange) giveLast(a *answer) {
	a.close = true
	x.give(a)
}

// Answered takes a head of the backend's answer.
func (x *loopExchange) Answered(r *head.Response) {
	x.backend.noteAnswer(r.Fields)
	switch {
	case r.Status == http.StatusSwitchingProtocols && x.out.Protocol != "":
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
	worker := x.client.Worker()
	fields := worker.Fields[:0]
	x.addHSTS(&fields)
	fields = rewriteResponse(fields, r.Fields, r.Status, &x.in, x.location, u.target)
	if r.Chunked {
		fields = announce(fields, r.Fields)
	}
	worker.Fields = fields[:0]
	x.hintAtHTTPS(r.Status, fields)
	x.answerFields, x.status = r.Fields, r.Status
	x.backend.Await(x.location.Timeouts.ResponseBody)
	x.client.Respond(&head.Response{Status: r.Status, Fields: fields, Length: r.Length})
}

// Body takes a piece of the answer.
func (x *loopExchange) Body(p []byte) {
	x.sent += int64(len(p))
	x.client.Write(p)
	if !x.over && x.client.Pending() > 0 {
		x.backend.Pause()
	}
}

// Sink is the client, over HTTP/1.x.
func (x *loopExchange) Sink() *session.Client {
	client, _ := x.client.(*session.Client)
	return client
}

// Spliced counts a piece of the answer that was not seen.
func (x *loopExchange) Spliced(n int) {
	x.sent += int64(n)
	if !x.over && x.client.Pending() > 0 {
		x.backend.Pause()
	}
}

// Caught sends on what came: an event, half a page.
func (x *loopExchange) Caught() { x.client.Flush() }

// Done ends the exchange.
func (x *loopExchange) Done(trailers head.Fields) {
	trailers = rewriteTrailers(trailers, x.answerFields)
	backend := x.backend
	x.backend = nil
	if x.whole && x.out.Protocol == "" && !x.out.Close {
		backend.release()
	} else {
		backend.close()
	}
	x.finish()
	x.client.End(trailers)
}

// Took says that the backend takes more of the request, which is for the client to send.
func (x *loopExchange) Took() {
	if !x.uploading() {
		return
	}
	if x.status == 0 {
		x.backend.Await(0)
	}
	x.client.Resume()
}

// Broke deals with a backend that broke off.
func (x *loopExchange) Broke(err error) {
	backend := x.backend
	x.backend = nil
	backend.close()
	silent := !backend.Began()
	switch {
	case x.client.Responded():
		x.err, x.brokeOff = fmt.Errorf("reading the response body: %w", err), true
		x.finish()
		x.client.Abort()
	case x.out.Protocol != "" && silent:
		x.pool.delay()
		x.tryNext(x.wrapHandshake(err))
	case x.out.Protocol != "":
		x.fail(x.wrapHandshake(err))
	case backend.Reused() && silent && x.repeatable() && !errors.Is(err, os.ErrDeadlineExceeded):
		x.fresh = true // the connection was stale
		x.leaveServer()
		x.servers = x.upstream.attempt()
		x.dialNext()
	case silent && !backend.Reused():
		x.diagnose(err)
	default:
		x.fail(err)
	}
}

// diagnose fails, when it is known what a server that broke off without a word looks like.
func (x *loopExchange) diagnose(err error) {
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
func (x *loopExchange) repeatable() bool {
	return !x.in.request.HasBody() && idempotent(x.in.request.Method)
}

// switched checks a 101 and joins both ends.
func (x *loopExchange) switched(r *head.Response) {
	if err := x.checkSwitching(r.Fields); err != nil {
		x.fail(x.wrapHandshake(err))
		return
	}
	relayed := x.location.Mode == config.ModeRelay
	if relayed {
		if err := relay.CheckRequest(x.in.request.Fields); err != nil {
			x.leaveServer()
			x.giveLast(textAnswer(http.StatusBadRequest, err.Error()))
			return
		}
	}
	fields := rewriteResponse(nil, r.Fields, r.Status, &x.in, x.location, x.upstream.target)
	backend, backendEarly := x.backend.take()
	x.backend = nil
	client, early := x.takeClient()
	if relayed {
		x.relay(session.NewBridge(client, early), session.NewBridge(backend, backendEarly), fields, x.finish)
		return
	}
	x.join(client, backend, early, backendEarly, fields)
}

// takeClient takes the client's end out of its session, with what came of it.
func (x *loopExchange) takeClient() (client reactor.Endpoint, early []byte) {
	if x.extended {
		x.server.pools.count.Add(1)
		return session.Switch(x.client), x.held
	}
	conn, early := x.conn.client.Take()
	x.conn.forget(conn.Loop(), x.conn)
	return conn, append(x.held, early...)
}

// join answers the client and makes a tunnel of both ends.
func (x *loopExchange) join(client, backend reactor.Endpoint, early, backendEarly []byte, fields head.Fields) {
	defer func() {
		if !x.tunnelled {
			backend.Close()
			client.Close()
			x.holder().leave()
		}
		x.finish()
	}()
	answer := http1.AppendStatus(make([]byte, 0, 512), http.StatusSwitchingProtocols)
	answer = append(answer, "Upgrade: websocket\r\nConnection: Upgrade\r\n"...)
	answer = append(http1.AppendFields(answer, fields, false), "\r\n"...)
	if err := client.Write(answer); err != nil {
		x.err, x.clientGone = err, true
		return
	}
	info, options := x.tunnelInfo(fields), x.tunnelOptions(fields)
	x.server.tunnels.start(info, func(done func(tunnel.Result)) *tunnel.Tunnel {
		x.tunnelled, x.slot = true, nil // the slot is the tunnel's
		return tunnel.Join(client, backend, early, backendEarly, options, done)
	})
}
