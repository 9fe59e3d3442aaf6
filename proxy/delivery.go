package proxy

import (
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/session"
	"wstunnel/internal/upstream"
)

// delivery is a request on its way to a server with its body, and the answer on its way back: what [forward] and [php] have in common.
type delivery struct {
	reply
	upload upload
	stale  bool // a kept connection was, and no other will do
}

// starter is what asks a server when the time has come.
type starter interface{ start() }

// takeIn begins; with a request whose body is collected, the start comes when that has.
func (x *delivery) takeIn(s starter) {
	x.upload.x, x.upload.starter, x.backlog.x = &x.reply, s, &x.reply
	if x.in.Request.HasBody() {
		x.upload.begin()
	}
	if !x.upload.collecting {
		s.start()
	}
}

// maxIdle is how long a connection may have been idle to carry the request.
func (x *delivery) maxIdle(last bool) time.Duration {
	switch {
	case last || x.stale:
		return 0
	case x.in.Request.HasBody() || !idempotent(x.in.Request.Method):
		return upstream.Fresh
	}
	return upstream.Any
}

// repeatable reports whether the request can be sent again after a connection broke under it. If it is, [upload.rewind] has to come before.
func (x *delivery) repeatable() bool {
	return idempotent(x.in.Request.Method) && !x.upload.lost
}

// deliver sends the request, with what has come of its body.
func (x *delivery) deliver(b *upstream.Conn, asker session.Asker) {
	x.backend = b
	b.Limit(x.client.Room())
	b.Ask(asker, &x.out, x.upload.first())
	if x.backend == b { // it did not break
		x.upload.goOn()
	}
}

// data takes a piece of the request's body.
func (x *delivery) data(p []byte) { x.upload.data(p) }

// whole takes the end of the request.
func (x *delivery) whole(trailers head.Fields) { x.upload.whole(trailers) }

// Took says that the server takes more of the request, which is for the client to send.
func (x *delivery) Took() {
	if x.upload.ends() {
		return
	}
	if x.status == 0 {
		x.backend.Await(0)
	}
	x.upload.goOn()
}

// Done ends the exchange.
func (x *delivery) Done(trailers head.Fields) {
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

// leave lets go of the server, and of what is kept of the body.
func (x *delivery) leave() {
	x.reply.leave()
	x.upload.leave()
}
