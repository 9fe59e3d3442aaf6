package proxy

import (
	"errors"
	"net/http"
	"os"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/upstream"
)

// forward carries a request to a server of an upstream, and its answer back.
type forward struct {
	reply
	upload upload
	stale  bool // a kept connection was, and no other will do
}

// serve begins; with a request whose body is collected, when that has come.
func (x *forward) serve() {
	x.upload.x, x.backlog.x = x, &x.reply
	if x.in.request.HasBody() {
		x.upload.begin()
	}
	if !x.upload.collecting {
		x.start()
	}
}

// start begins with the server whose turn it is.
func (x *forward) start() {
	x.upload.collecting = false
	x.ask(x.client.Worker().Fields[:0])
}

// ask asks a server, with a head whose fields are made in dst.
func (x *forward) ask(dst head.Fields) {
	target := x.upstream.Target
	out := rewriteRequest(dst, &x.in, x.location, target, "")
	if out.Length = x.upload.knownLength(); out.Length == head.Unknown {
		out.Fields = announce(out.Fields, x.in.request.Fields)
	}
	out.Close = x.in.request.HasBody() && !http1.BodyExpected(x.in.request.Method) || target.KeepAlive == 0
	x.send(out, dst, x, upstream.Needs{MaxIdle: x.maxIdle(out.Close)})
}

// maxIdle is how long a connection may have been idle to carry the request.
func (x *forward) maxIdle(last bool) time.Duration {
	switch {
	case last || x.stale:
		return 0
	case !x.repeatable():
		return upstream.Fresh
	}
	return upstream.Any
}

// repeatable reports whether the request can be sent again after a connection broke under it.
func (x *forward) repeatable() bool {
	return !x.in.request.HasBody() && idempotent(x.in.request.Method)
}

// idempotent reports whether a request can be sent again after a connection broke under it (RFC 9110, section 9.2.2).
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// Connected sends the request, with what has come of its body.
func (x *forward) Connected(b *upstream.Conn) {
	x.backend = b
	b.Limit(x.client.Room())
	b.Ask(x, &x.out, x.upload.first())
	if x.backend == b { // it did not break
		x.upload.goOn()
	}
}

// data takes a piece of the request's body.
func (x *forward) data(p []byte) { x.upload.data(p) }

// whole takes the end of the request.
func (x *forward) whole(trailers head.Fields) { x.upload.whole(trailers) }

// Took says that the server takes more of the request, which is for the client to send.
func (x *forward) Took() {
	if x.upload.ends() {
		return
	}
	if x.status == 0 {
		x.backend.Await(0)
	}
	x.upload.goOn()
}

// Answered takes a head of the answer.
func (x *forward) Answered(r *head.Response) {
	x.backend.NoteAnswer(r.Fields)
	x.pass(r)
}

// Done ends the exchange.
func (x *forward) Done(trailers head.Fields) {
	backend := x.backend
	x.backend = nil
	if x.upload.complete && !x.out.Close {
		backend.Release()
	} else {
		backend.Close()
	}
	x.end(trailers)
	x.upload.drop()
}

// Broke deals with a server that broke off.
func (x *forward) Broke(err error) {
	backend := x.backend
	x.backend = nil
	backend.Close()
	silent := !backend.Began()
	switch {
	case x.client.Responded():
		x.breakOff(err)
		x.upload.drop()
	case backend.Reused() && silent && x.repeatable() && !errors.Is(err, os.ErrDeadlineExceeded):
		x.stale = true
		x.ask(nil)
	case silent && !backend.Reused():
		x.diagnose(err)
	default:
		x.fail(err)
	}
}

// leave lets go of the server, and of what is kept of the body.
func (x *forward) leave() {
	x.reply.leave()
	x.upload.leave()
}
