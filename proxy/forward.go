package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/proxyproto"
	"wstunnel/internal/session"
	"wstunnel/internal/upstream"
)

// forward carries an exchange to a server of an upstream, and its answer back.
type forward struct {
	*exchange
	upstream *upstream.Upstream
	protocol string // that an upgrade is asked for; empty where none is

	// What the server is sent.
	out          head.Request
	upload       upload
	answer       backlog
	answerFields head.Fields // of the backend's answer, as they came

	way     upstream.Way
	stale   bool           // a kept connection was, and no other will do
	backend *upstream.Conn // nil before it is connected
}

// serve begins; with a request whose body is collected, when that has come.
func (x *forward) serve() {
	x.upload.x, x.answer.x = x, x
	if x.protocol != "" {
		x.server.tunnels.hold()
	} else if x.in.request.HasBody() {
		x.upload.begin()
	}
	if !x.upload.collecting {
		x.start()
	}
}

// start begins with the server whose turn it is.
func (x *forward) start() {
	x.upload.collecting = false
	x.makeRequest(x.client.Worker().Fields[:0])
	x.goToServer()
	if x.backend == nil { // it goes later, when the place of its fields is another's
		x.out.Fields = slices.Clone(x.out.Fields)
	}
}

// goToServer asks for a connection.
func (x *forward) goToServer() {
	x.way.Begin(x.upstream, x, x.client.Conn(), x.client.Worker(), upstream.Needs{
		MaxIdle: x.maxIdle(), Connect: x.location.Timeouts.Connect,
		Upgrade: x.protocol != "",
	})
}

// maxIdle is how long a connection may have been idle to carry the request.
func (x *forward) maxIdle() time.Duration {
	switch {
	case x.protocol != "" || x.out.Close || x.stale:
		return 0
	case !x.repeatable():
		return upstream.Fresh
	}
	return upstream.Any
}

// Introduction returns the PROXY header with which a connection to the exchange's target begins, if it is to have one.
func (x *forward) Introduction() []byte {
	version := x.upstream.Target.ProxyProtocol
	if version == 0 {
		return nil
	}
	h := proxyproto.Header{Source: x.from.remote, Destination: x.from.public}
	if x.in.client != x.in.peer { // whose port nobody knows
		h.Source = netip.AddrPortFrom(x.in.client, 0)
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
func (x *forward) Unreachable(err error) { x.fail(err) }

// makeRequest makes the head that a server is sent, with its fields in dst.
func (x *forward) makeRequest(dst head.Fields) {
	if x.protocol != "" {
		x.out = x.upgradeRequest(dst)
	} else {
		x.out = x.plainRequest(dst)
	}
	if dst != nil {
		x.client.Worker().Fields = x.out.Fields[:0]
	}
}

func (x *forward) plainRequest(dst head.Fields) head.Request {
	target := x.upstream.Target
	out := rewriteRequest(dst, &x.in, x.location, target, "")
	if out.Length = x.upload.knownLength(); out.Length == head.Unknown {
		out.Fields = announce(out.Fields, x.in.request.Fields)
	}
	out.Close = x.in.request.HasBody() && !http1.BodyExpected(x.in.request.Method) || target.KeepAlive == 0
	return out
}

// leave lets go of the server and of all that leads there.
func (x *forward) leave() {
	x.address = x.way.Server()
	x.leaveServer()
	x.upload.leave()
	x.answer.leave()
	if x.protocol != "" {
		x.server.tunnels.release()
	}
}

// leaveServer ends what the server was asked for; it may be called more than once.
func (x *forward) leaveServer() {
	x.way.Leave()
	if x.backend != nil {
		x.backend.Close()
		x.backend = nil
	}
}

// Connected sends the request, with what has come of its body.
func (x *forward) Connected(b *upstream.Conn) {
	x.backend = b
	var body []byte
	if x.protocol == "" { // else what came behind the request is for the tunnel
		body = x.upload.first()
	}
	b.Limit(x.client.Room())
	b.Ask(x, &x.out, body)
	if x.backend != b {
		return // it broke
	}
	if x.protocol != "" {
		b.Await(x.location.Timeouts.Handshake)
		return
	}
	x.upload.goOn()
}

// wrapHandshake says what an error was about.
func (x *forward) wrapHandshake(err error) error {
	return fmt.Errorf("handshake with %s: %w", x.way.Server(), err)
}

// data takes a piece of the request's body, or what the client says behind an upgrade request.
func (x *forward) data(p []byte) { x.upload.data(p) }

// whole takes the end of the request.
func (x *forward) whole(trailers head.Fields) { x.upload.whole(trailers) }

// idempotent reports whether a request can be sent again after a connection broke under it (RFC 9110, section 9.2.2).
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// Answered takes a head of the backend's answer.
func (x *forward) Answered(r *head.Response) {
	x.backend.NoteAnswer(r.Fields)
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
	fields := rewriteResponse(x.exchange.answerFields(), r.Fields, r.Status, &x.in, x.location, x.upstream.Target)
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
		backend.Release()
	} else {
		backend.Close()
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
	backend.Close()
	silent := !backend.Began()
	switch {
	case x.answer.spool != nil:
		x.answer.end(nil, fmt.Errorf("reading the response body: %w", err))
	case x.client.Responded():
		x.abort(fmt.Errorf("reading the response body: %w", err))
	case x.protocol != "" && silent:
		x.makeRequest(nil)
		x.way.Refused(x.wrapHandshake(err))
	case x.protocol != "":
		x.fail(x.wrapHandshake(err))
	case backend.Reused() && silent && x.repeatable() && !errors.Is(err, os.ErrDeadlineExceeded):
		x.stale = true
		x.makeRequest(nil)
		x.goToServer()
	case silent && !backend.Reused():
		x.diagnose(err)
	default:
		x.fail(err)
	}
}

// diagnose fails, when it is known what a server that broke off without a word looks like.
func (x *forward) diagnose(err error) {
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
