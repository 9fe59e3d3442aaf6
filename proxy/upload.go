package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
	"wstunnel/internal/session"
	"wstunnel/internal/spool"
)

// ratePeriod is over how long a client has to keep to min_rate.
const ratePeriod = 30 * time.Second

// maxHeld bounds what is held of a body while there is no backend to take it.
const maxHeld = 64 << 10

// upload is a request's body on its way to a server. That a slow client holds no server, it is collected before one is asked if it is short or may be
// spooled; of a longer one the client has to send something all the time.
type upload struct {
	x          *reply
	starter    starter
	collecting bool          // the body is to come whole first
	measured   bool          // its length has to be known first
	continued  bool          // the client was asked for the body that it had announced
	paused     bool          // the client waits
	held       []byte        // until there is a server
	sent       []byte        // of a body that may have to be sent again, what a server was sent
	lost       bool          // that is more than is kept
	share      session.Share // what both are of the memory for slow clients
	spool      *spool.Spool  // with what came behind held; nil where that is nothing
	length     int64         // of what has come
	complete   bool          // it has come to its end
	later      bool          // more is sent when this turn has ended
	trailers   head.Fields

	pauses pauses

	timer    reactor.Timer
	received int64 // since the period began
	waited   bool  // the client had to, in that period
}

// begin begins with a request's body. One that waits to be asked for goes as it comes, if it is not to be spooled.
func (u *upload) begin() {
	x := u.x
	r, l := x.in.Request, x.location
	if l.MinRate > 0 {
		u.timer.On = u
		x.client.Conn().Loop().Set(&u.timer, ratePeriod)
	}
	if u.collecting = u.spools(); u.collecting {
		u.sayContinue()
		return
	}
	u.collecting = r.Length <= l.Buffer.Request && l.Buffer.Request > 0 && !r.Expect
	if u.collecting && r.Length == head.Unknown {
		u.pauses.u, u.pauses.timer.On = u, &u.pauses
		u.pauses.wait()
	}
}

// conversationPause is how long a client may pause within a body of unknown length before a server is asked without the rest: it may be one half of a
// conversation, and wait for the other.
const conversationPause = 2 * time.Second

// pauses watches a body of unknown length for such a pause, while it is collected.
type pauses struct {
	u     *upload
	timer reactor.Timer
}

func (p *pauses) wait() { p.u.x.client.Conn().Loop().Set(&p.timer, conversationPause) }

// Expired ends the collecting.
func (p *pauses) Expired() { p.u.x.client.Conn().Do(p.u.stopCollecting) }

func (u *upload) stopCollecting() {
	if u.collecting && !u.x.over {
		u.ask()
	}
}

// spools reports whether the body goes to a temporary file where it is too long for memory.
func (u *upload) spools() bool {
	l := u.x.location
	return u.measured || l.Spool && u.x.in.Request.Length <= l.Buffer.Request+l.SpoolMax
}

// sayContinue asks for a body that waits for it.
func (u *upload) sayContinue() {
	if u.x.in.Request.Expect && !u.continued {
		u.continued = true
		u.x.client.SayContinue()
	}
}

// Expired ends a period of min_rate.
func (u *upload) Expired() { u.x.client.Conn().Do(u.checkRate) }

func (u *upload) checkRate() {
	x := u.x
	if x.over || u.complete {
		return
	}
	talking := x.status > 0 // the server has answered, and does not wait for this body
	if least := x.location.MinRate * int64(ratePeriod/time.Second); u.received < least && !u.waited && !talking {
		x.Gone(fmt.Errorf("%w: %d bytes of its body in %s, where min_rate asks for %d", session.ErrStalled, u.received, ratePeriod, least))
		return
	}
	u.received, u.waited = 0, u.paused
	x.client.Conn().Loop().Set(&u.timer, ratePeriod)
}

// data takes a piece.
func (u *upload) data(p []byte) {
	x := u.x
	u.received += int64(len(p))
	u.length += int64(len(p))
	if most := x.location.Access.MaxBody; most > 0 && u.length > most {
		u.refuseLong()
		return
	}
	switch {
	case x.backlog.ended: // nobody wants it any more
	case u.spool != nil:
		u.keep(p)
	case x.backend == nil:
		u.hold(p)
	default:
		u.remember(p)
		x.backend.Write(p)
		if !x.over && x.backend != nil && x.backend.Pending() > 0 {
			u.wait()
		}
	}
}

// remember keeps what a server is about to be sent, where the request may be sent again, as far as that is worth it.
func (u *upload) remember(p []byte) {
	switch {
	case u.lost || len(p) == 0:
	case len(u.sent)+len(p) > maxHeld || !idempotent(u.x.in.Request.Method):
		u.lost, u.sent = true, nil
	default:
		u.sent = append(u.sent, p...)
	}
	u.share.Set(u.x.client.Worker().Memory, len(u.sent))
}

// rewind has all that was sent be sent again.
func (u *upload) rewind() { u.held, u.sent = u.sent, nil }

// refuseLong ends the exchange: more of the body has come than max_body lets.
func (u *upload) refuseLong() {
	x := u.x
	if x.client.Responded() {
		x.abort(errors.New("the request's body is longer than max_body lets it be"))
		return
	}
	x.giveLast(bodyTooLong())
}

func bodyTooLong() *answer {
	return textAnswer(http.StatusRequestEntityTooLarge, "the body of the request is too long")
}

// hold keeps a piece in memory until there is a server to take it.
func (u *upload) hold(p []byte) {
	x, memory := u.x, u.x.client.Worker().Memory
	if u.collecting && u.spools() && (int64(len(u.held)+len(p)) > x.location.Buffer.Request || memory.Full()) {
		u.spool = spool.New(&x.server.spools, x.client.Conn(), memory, x.location.SpoolMax, u.moved)
		u.keep(p)
		return
	}
	u.held = append(u.held, p...)
	u.share.Set(memory, len(u.held)+len(u.sent))
	if u.collecting && u.pauses.u != nil {
		u.pauses.wait()
	}
	switch {
	case u.collecting && (memory.Full() || int64(len(u.held)) > x.location.Buffer.Request):
		u.ask() // it goes as it comes
	case !u.collecting && len(u.held) >= maxHeld:
		u.pause()
	}
}

// keep keeps a piece in the temporary file.
func (u *upload) keep(p []byte) {
	u.spool.Add(p)
	if u.spool.Full() {
		u.pause()
	}
	u.goOnIfStuck()
}

// goOnIfStuck asks a server without the rest of the body, where the file takes no more.
func (u *upload) goOnIfStuck() {
	switch {
	case !u.collecting || !u.spool.Stuck():
	case u.measured:
		u.tooLong()
	default:
		u.ask()
	}
}

// tooLong refuses a body of unknown length, of which no more can be kept.
func (u *upload) tooLong() {
	x := u.x
	if u.spool.Failed() {
		x.err = errors.New("the request's body of unknown length can't be kept: temporary files take no more")
		x.giveLast(textAnswer(http.StatusServiceUnavailable, "the server has too much to do"))
		return
	}
	x.err = fmt.Errorf("the request's body of unknown length is above the %d bytes that spool_max lets be kept", x.location.SpoolMax)
	x.giveLast(bodyTooLong())
}

// ask has a server asked.
func (u *upload) ask() {
	u.collecting = false
	u.starter.start()
}

// moved goes on when something was written to the temporary file, or read from it.
func (u *upload) moved() {
	x := u.x
	if x.over || u.spool == nil {
		return
	}
	u.goOnIfStuck()
	if x.backend != nil && x.backend.Pending() == 0 {
		u.goOn()
	}
	if !x.over && u.spool != nil && !u.spool.Full() {
		u.resume()
	}
}

// whole takes the end.
func (u *upload) whole(trailers head.Fields) {
	x := u.x
	u.complete, u.trailers = true, x.requestTrailers(trailers)
	switch {
	case x.backlog.ended:
	case u.collecting:
		u.ask()
	case x.backend != nil && u.spool == nil:
		u.end()
	}
}

// knownLength returns the length of the body that a server is sent.
func (u *upload) knownLength() int64 {
	if u.measured {
		return u.length
	}
	if r := u.x.in.Request; r.Length != head.Unknown || !u.complete || !u.spools() || len(u.trailers) > 0 {
		return r.Length
	}
	return u.length
}

// first returns what goes with the request's head.
func (u *upload) first() []byte {
	p := u.held
	u.held = nil
	u.remember(p)
	return p
}

// ends reports whether nothing more is to be sent.
func (u *upload) ends() bool {
	return u.spool == nil && (u.complete || !u.x.in.Request.HasBody())
}

// goOn sends what is kept, as far as the server takes it, and has more come.
func (u *upload) goOn() {
	x := u.x
	if !u.sendSpooled() {
		return
	}
	switch {
	case u.ends():
		u.end()
	case x.backend.Pending() > 0:
		u.wait()
	default:
		u.sayContinue()
		u.resume()
	}
}

// sendSpooled sends of what was spooled, and reports whether that was all.
func (u *upload) sendSpooled() bool {
	x := u.x
	for sent := 0; u.spool != nil; {
		switch {
		case x.backend.Pending() > 0:
			u.wait()
			return false
		case sent >= turnBytes:
			u.goOnLater()
			return false
		}
		p, err := u.spool.Take(x.client.Worker().Piece(maxHeld))
		switch {
		case err != nil:
			u.unreadable(err)
			return false
		case len(p) > 0:
			u.lost, u.sent = true, nil
			x.backend.Write(p)
			x.client.Worker().FlushAsk()
			sent += len(p)
		case u.spool.Empty():
			u.spool.Close()
			u.spool = nil
		default:
			return false
		}
		if x.over || x.backend == nil {
			return false
		}
	}
	return true
}

// unreadable ends the exchange, since a part of the body is lost.
func (u *upload) unreadable(err error) {
	x := u.x
	err = fmt.Errorf("reading the request's body from a temporary file: %w", err)
	if x.client.Responded() {
		x.abort(err)
		return
	}
	x.err = err
	x.give(textAnswer(http.StatusInternalServerError, "the request could not be passed on"))
}

// goOnLater goes on when others have had their turn.
func (u *upload) goOnLater() {
	if !u.later {
		u.later = true
		u.x.client.Conn().Loop().AtTurnsEnd(u)
	}
}

// TurnEnded goes on.
func (u *upload) TurnEnded() {
	u.later = false
	u.x.client.Conn().Do(func() {
		if !u.x.over && u.x.backend != nil {
			u.goOn()
		}
	})
}

// wait waits for the server to take what it was sent.
func (u *upload) wait() {
	u.pause()
	if u.x.status == 0 {
		u.x.backend.Await(u.x.location.Timeouts.ResponseHead)
	}
}

// end ends the request. The time for the answer's head begins now.
func (u *upload) end() {
	x := u.x
	b := x.backend
	b.End(u.trailers)
	if x.backend == b && x.status == 0 {
		b.Await(x.location.Timeouts.ResponseHead)
	}
}

func (u *upload) pause() {
	u.paused, u.waited = true, true
	u.x.client.Pause()
}

func (u *upload) resume() {
	u.paused = false
	u.x.client.Resume()
}

// drop forgets what is kept, and lets the rest come, since nobody wants it any more.
func (u *upload) drop() {
	if !u.x.over {
		u.forget()
		u.resume()
	}
}

// leave lets go of what is kept.
func (u *upload) leave() {
	loop := u.x.client.Conn().Loop()
	loop.Stop(&u.timer)
	loop.Stop(&u.pauses.timer)
	u.forget()
}

func (u *upload) forget() {
	u.held, u.sent, u.lost = nil, nil, true
	u.share.Set(u.x.client.Worker().Memory, 0)
	if u.spool != nil {
		u.spool.Close()
		u.spool = nil
	}
}
