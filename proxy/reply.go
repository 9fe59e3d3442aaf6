package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"

	"wstunnel/internal/head"
	"wstunnel/internal/proxyproto"
	"wstunnel/internal/rewrite"
	"wstunnel/internal/session"
	"wstunnel/internal/upstream"
)

// reply is the way to a server of an upstream, and its answer on the way to the client: what all that asks a server has in common.
type reply struct {
	*exchange
	upstream *upstream.Upstream
	out      head.Request // what the server is sent
	way      upstream.Way
	backend  *upstream.Conn // nil before it is connected, and when it has answered
	fields   head.Fields    // of its answer, as they came
	backlog  backlog
}

// send has a server asked, when one is connected with, with a head whose fields were made in dst: nil, or the worker's place for them.
func (x *reply) send(out head.Request, dst head.Fields, asker upstream.Asker, needs upstream.Needs) {
	x.out = out
	if dst != nil {
		x.client.Worker().Fields = out.Fields[:0]
	}
	needs.Connect, needs.Choice = x.location.Timeouts.Connect, x.choice()
	x.way.Begin(x.upstream, asker, x.client.Conn(), x.client.Worker(), needs)
	if dst != nil && x.backend == nil { // it goes later, when the place of its fields is another's
		x.out.Fields = slices.Clone(x.out.Fields)
	}
}

// Introduction returns the PROXY header with which a connection to the exchange's target begins, if it is to have one.
func (x *reply) Introduction() []byte {
	version := x.upstream.Target.ProxyProtocol
	if version == 0 {
		return nil
	}
	h := proxyproto.Header{Source: x.from.remote, Destination: x.from.public}
	if x.in.Client != x.in.Peer { // whose port nobody knows
		h.Source = netip.AddrPortFrom(x.in.Client, 0)
	}
	if !h.Destination.IsValid() {
		h.Destination = x.client.Conn().LocalAddr()
	}
	if version == 1 {
		return proxyproto.Append1(nil, h)
	}
	return proxyproto.Append2(nil, h)
}

// Unreachable answers for servers that can't be connected with.
func (x *reply) Unreachable(err error) { x.fail(err) }

// fail answers for a server that did not.
func (x *reply) fail(err error) {
	x.err = err
	x.hintAtFailure(err)
	x.give(answerForFailure(err))
}

// diagnose fails, when it is known what a server that broke off without a word looks like.
func (x *reply) diagnose(err error) {
	conn, diagnose := x.client.Conn(), x.way.Diagnose()
	go func() {
		err := diagnose(err)
		conn.Loop().Post(func() {
			conn.Do(func() {
				if !x.over {
					x.fail(err)
				}
			})
		})
	}()
}

// pass passes a head on to the client.
func (x *reply) pass(r *head.Response) {
	switch {
	case r.Status == http.StatusSwitchingProtocols:
		x.fail(errors.New("the backend switched protocols, which nobody had asked for"))
		return
	case r.Status == http.StatusContinue:
		return
	case r.Status < http.StatusOK:
		x.client.Respond(&head.Response{Status: r.Status, Fields: rewrite.Informational(r.Fields)})
		x.client.Flush()
		return
	}
	if x.intercepts(r.Status) {
		x.leaveServer()
		x.give(x.interceptedAnswer(r))
		return
	}
	x.in.Answer = r.Fields
	fields := rewrite.Response(x.stick(x.answerFields()), r.Fields, r.Status, &x.in, x.location.Location, x.upstream.Target, x.site.HSTS > 0)
	if r.Chunked {
		fields = rewrite.Announce(fields, r.Fields)
	}
	x.hintAtHTTPS(r.Status, fields)
	x.hintAtLoop(r.Status)
	x.fields = r.Fields
	x.backend.Await(x.location.Timeouts.ResponseBody)
	x.respond(r.Status, fields, r.Length)
}

// Body takes a piece of the answer.
func (x *reply) Body(p []byte) {
	if x.backlog.spool != nil {
		x.backlog.add(p)
		return
	}
	x.hintAtComplaint(p)
	x.sent += int64(len(p))
	x.client.Write(p)
	x.backlog.note()
}

// Sink is the client, over HTTP/1.x, where nothing waits for it in a file.
func (x *reply) Sink() *session.Client {
	if x.backlog.spool != nil {
		return nil
	}
	client, _ := x.client.(*session.Client)
	return client
}

// Spliced counts a piece of the answer that was not seen.
func (x *reply) Spliced(n int) {
	x.sent += int64(n)
	x.backlog.note()
}

// Caught sends on what came: an event, half a page.
func (x *reply) Caught() { x.client.Flush() }

// drained lets more of the answer come.
func (x *reply) drained() { x.backlog.goOn() }

// end ends the exchange with the whole answer, at once or when the client has taken what is kept of it.
func (x *reply) end(trailers head.Fields) {
	trailers = rewrite.Trailers(trailers, x.fields)
	if x.backlog.spool != nil {
		x.backlog.end(trailers, nil)
		return
	}
	x.backlog.ended, x.backlog.trailers = true, trailers
	x.complete(trailers)
}

// breakOff ends the exchange in the middle of the answer, likewise.
func (x *reply) breakOff(err error) {
	err = fmt.Errorf("reading the response body: %w", err)
	if x.backlog.spool != nil {
		x.backlog.end(nil, err)
		return
	}
	x.abort(err)
}

// leaveServer ends what the server was asked for; it may be called more than once.
func (x *reply) leaveServer() {
	x.way.Leave()
	if x.backend != nil {
		x.backend.Close()
		x.backend = nil
	}
}

// leave lets go of the server and of all that leads there.
func (x *reply) leave() {
	x.address = x.way.Server()
	x.leaveServer()
	x.backlog.leave()
}
