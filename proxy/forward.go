package proxy

import (
	"errors"
	"net/http"
	"os"

	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/rewrite"
	"wstunnel/internal/upstream"
)

// forward carries a request to a server of an upstream, and its answer back.
type forward struct{ delivery }

// serve begins.
func (x *forward) serve() { x.takeIn(x) }

// start begins with the server whose turn it is.
func (x *forward) start() { x.ask(x.client.Worker().Fields[:0]) }

// ask asks a server, with a head whose fields are made in dst.
func (x *forward) ask(dst head.Fields) {
	out := x.request(dst)
	x.send(out, dst, x, upstream.Needs{MaxIdle: x.maxIdle(out.Close)})
}

// request makes the head that a server is sent.
func (x *forward) request(dst head.Fields) head.Request {
	target := x.upstream.Target
	out := rewrite.Request(dst, &x.in, x.location.Location, target, "")
	if out.Length = x.upload.knownLength(); out.Length == head.Unknown {
		out.Fields = rewrite.Announce(out.Fields, x.in.Request.Fields)
	}
	out.Close = x.in.Request.HasBody() && !http1.BodyExpected(x.in.Request.Method) || target.KeepAlive == 0
	return out
}

// Connected sends the request.
func (x *forward) Connected(b *upstream.Conn) { x.deliver(b, x) }

// Answered takes a head of the answer.
func (x *forward) Answered(r *head.Response) {
	x.backend.NoteAnswer(r)
	x.pass(r)
}

// Broke deals with a server that broke off.
func (x *forward) Broke(err error) {
	backend := x.backend
	x.backend = nil
	backend.Close()
	silent, late := !backend.Began(), errors.Is(err, os.ErrDeadlineExceeded)
	stale := backend.Reused() && silent && !late
	switch {
	case x.client.Responded():
		x.breakOff(err)
		x.upload.drop()
	case stale && x.repeatable():
		x.stale = true
		x.upload.rewind()
		x.ask(nil)
	case stale: // no fault of the server's
		x.fail(err)
	case x.repeatable() && !late && x.way.MayRepeat():
		x.out = x.request(nil)
		x.upload.rewind()
		x.way.Repeat(err)
	case silent && !backend.Reused():
		x.way.Broke(err)
		x.diagnose(err)
	default:
		x.way.Broke(err)
		x.fail(err)
	}
}

// idempotent reports whether a request can be sent again after a connection broke under it (RFC 9110, section 9.2.2).
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}
