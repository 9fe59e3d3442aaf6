package proxy

import (
	"errors"
	"net/http"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/rewrite"
	"wstunnel/internal/session"
)

// exchange is one request and what becomes of it, from its head to its line in the log. It belongs to its client's loop.
type exchange struct {
	server *Server
	gen    *generation
	from   clientInfo
	conn   *connection // of a client over HTTP/1.x
	client session.Stream
	start  time.Time

	in        rewrite.Inbound
	site      *site
	location  *location
	routed    int         // how often a location was looked for
	trace     *trace      // what is told of that, for [Explain]; nil for a client's exchange
	responder responder   // nil before it is decided, and where the answer was given at once
	holds     int         // how many wait for something before anybody can take the request's body
	address   string      // of the server that was asked last
	cookies   head.Fields // that the server of auth_request sets

	status     int   // that was answered; 0 for none
	sent       int64 // bytes of the answer's body
	compressed int64 // what they have become, where they were compressed

	err        error // what went wrong, for the log
	brokeOff   bool  // after the answer's head, through no fault of the client's
	clientGone bool
	extended   bool // it began with an extended CONNECT (RFC 8441)
	tunnelled  bool // a tunnel logs for itself
	over       bool
}

// responder is what serves an exchange: one type for each thing that a location is for. It answers by [exchange.respond] and ends the exchange by
// [exchange.finish].
type responder interface {
	// serve begins.
	serve()
	// data takes a piece of the request's body, or of what the client says behind an upgrade request.
	data(p []byte)
	// whole takes the end of the request.
	whole(trailers head.Fields)
	// drained says that the client takes more of its answer.
	drained()
	// leave lets go of all that the responder holds. It is called once, at the end of the exchange.
	leave()
}

func (s *Server) newExchange(client session.Stream, r *head.Request, from clientInfo) *exchange {
	gen := s.gen.Load()
	return &exchange{server: s, gen: gen, from: from, client: client, start: time.Now(), in: gen.inbound(r, &from, s.loopID)}
}

// inbound returns what is known of a request before it is decided.
func (g *generation) inbound(r *head.Request, from *clientInfo, loopID string) rewrite.Inbound {
	peer := from.remote.Addr()
	in := rewrite.Inbound{
		Request: r, Target: r.Target, TLSVersion: from.tlsVersion(),
		Peer: peer, Client: peer, Secure: from.secure, Port: from.port(),
		Trusted: g.trusts(peer), LoopID: loopID,
	}
	if in.Trusted {
		in.Client = g.clientOf(peer, r.Fields.Joined(head.XForwardedFor))
	}
	return in
}

// begin decides what becomes of the request, and begins with it.
func (x *exchange) begin() {
	if a := x.answerForChallenge(); a != nil && !x.extended {
		x.give(a)
		return
	}
	x.proceed(x.decide())
}

// proceed does what was decided, if the request may have it.
func (x *exchange) proceed(d decision) {
	if d.action == openTunnel && x.server.opensNone(x.site.name) {
		d = refuseUpgrade()
	}
	if x.extended {
		d = onlyTunnel(d)
	}
	x.tell(d)
	if g := x.guard(d); g != nil {
		x.responder = g
		g.serve()
		return
	}
	x.act(d)
}

// act does what was decided.
func (x *exchange) act(d decision) {
	if l := x.location; l != nil && l.Access.MaxBody > 0 && x.in.Request.Length > l.Access.MaxBody {
		x.giveLast(bodyTooLong())
		return
	}
	switch d.action {
	case forwardHTTP:
		x.responder = &forward{delivery{reply: reply{exchange: x, upstream: x.location.http}}}
	case openTunnel:
		x.responder = &upgrade{reply: reply{exchange: x, upstream: x.location.websocket}}
	case serveStatic:
		x.responder = &download{search: search{x: x}}
	case servePHP:
		x.responder = &lookup{x: x}
	case respond:
		x.giveResponse(x.location.Respond)
		return
	default:
		x.give(x.answerFor(d))
		return
	}
	x.responder.serve()
}

// answerFields returns where the fields of an answer's head are made, with those that every answer has.
func (x *exchange) answerFields() head.Fields {
	fields := x.client.Worker().Fields[:0]
	x.addHSTS(&fields)
	return append(fields, x.cookies...)
}

// respond writes the head of the answer. Its fields were made in what [exchange.answerFields] returned. The length is that of the body, or
// [head.Unknown].
func (x *exchange) respond(status int, fields head.Fields, length int64) {
	fields = x.applyAnswerRules(status, fields)
	fields, length = x.compress(status, fields, length)
	w := x.client.Worker()
	w.Fields, w.Answer = fields[:0], head.Response{Status: status, Fields: fields, Length: length}
	x.status = status
	x.client.Respond(&w.Answer)
}

// give gives an answer of this front end's own, and ends the exchange.
func (x *exchange) give(a *answer) {
	x.dress(a)
	if a.close {
		x.client.CloseAfterAnswer()
	}
	x.status, x.sent = a.status, int64(len(a.body))
	x.finish()
	x.respond(a.status, append(x.answerFields(), a.fields...), int64(len(a.body)))
	x.client.Write([]byte(a.body))
	x.client.End(nil)
}

// giveLast is a give behind which the connection ends.
func (x *exchange) giveLast(a *answer) {
	a.close = true
	x.give(a)
}

// hold keeps the request's body away until it is released, as often as it was held.
func (x *exchange) hold() {
	x.holds++
	x.client.Pause()
}

// release lets the request's body come, if nobody else holds it.
func (x *exchange) release() {
	if x.holds--; x.holds == 0 && !x.over && !x.tunnelled {
		x.client.Resume()
	}
}

// complete ends the exchange with the whole answer, when all of it is compressed if it is to be.
func (x *exchange) complete(trailers head.Fields) {
	if c, compressed := x.client.(*compressor); compressed {
		c.End(trailers)
		return
	}
	x.finish()
	x.client.End(trailers)
}

// abort ends the exchange in the middle of its answer, which can't be gone on with.
func (x *exchange) abort(err error) {
	x.err, x.brokeOff = err, true
	x.finish()
	x.client.Abort()
}

// finish ends the exchange: it is logged once, and whatever it holds is let go.
func (x *exchange) finish() {
	if x.over {
		return
	}
	x.over = true
	if c, compressed := x.client.(*compressor); compressed {
		c.end()
	}
	if x.responder != nil {
		x.responder.leave()
	}
	x.count()
	x.log()
}

// Data takes a piece of the request's body, or what the client says behind an upgrade request.
func (x *exchange) Data(p []byte) { x.responder.data(p) }

// Whole takes the end of the request.
func (x *exchange) Whole(trailers head.Fields) { x.responder.whole(trailers) }

// Drained says that the client takes more of its answer.
func (x *exchange) Drained() {
	if c, compressed := x.client.(*compressor); compressed && !c.drained() {
		return // more is to come, before more can be taken
	}
	x.responder.drained()
}

// Gone deals with a client that left, or that does not go on.
func (x *exchange) Gone(err error) {
	stalled := errors.Is(err, session.ErrStalled)
	switch {
	case x.over:
	case !stalled && !errors.Is(err, session.ErrMalformed):
		x.clientGone = true
		if !isGone(err) {
			x.err = err
		}
		x.finish()
	case x.client.Responded():
		x.err = err
		x.finish()
		x.client.Abort()
	case stalled:
		x.err = err
		x.giveLast(textAnswer(http.StatusRequestTimeout, "the request body did not come in time"))
	default:
		x.err = err
		x.giveLast(textAnswer(http.StatusBadRequest, "the request body is malformed or incomplete"))
	}
}

// holder returns what counts as the client's end of the exchange's tunnel.
func (x *exchange) holder() *holder {
	return &holder{listener: x.from.listener, remote: x.from.remote, secure: x.from.secure, counted: x.from.counted, shared: x.extended}
}
