package proxy

import (
	"fmt"
	"time"

	"wstunnel/internal/reactor"
	"wstunnel/internal/session"
)

// A slow client is to hold no backend. What it sends of a short body is collected before a server is asked (see [forward.serve]), of a longer one it has
// to send something all the time; what it does not take of an answer is kept, so that the server can go on to others.

const (
	// ratePeriod is over how long a client has to keep to min_rate.
	ratePeriod = 30 * time.Second
	// patienceWithClient is how long a server waits for its client, before more than a read brings of its answer is kept: a client that takes
	// what it is sent costs no memory, and its answer stays inside the kernel.
	patienceWithClient = 200 * time.Millisecond
)

// uploadRate watches that a client sends its request's body.
type uploadRate struct {
	x        *forward
	timer    reactor.Timer
	received int64 // since the period began
	waited   bool  // for us, in that period
	paused   bool  // it waits now
}

// watch begins with a body.
func (u *uploadRate) watch(x *forward) {
	if x.location.MinRate > 0 {
		u.x, u.timer.On = x, u
		x.client.Conn().Loop().Set(&u.timer, time.Duration(x.server.ratePeriod.Load()))
	}
}

// Expired ends a period.
func (u *uploadRate) Expired() { u.x.client.Conn().Do(u.check) }

func (u *uploadRate) check() {
	x := u.x
	if x.over || x.complete {
		return
	}
	period := time.Duration(x.server.ratePeriod.Load())
	talking := x.status > 0 // the server has answered, and does not wait for this body
	if least := x.location.MinRate * int64(period) / int64(time.Second); u.received < least && !u.waited && !talking {
		x.Gone(fmt.Errorf("%w: %d bytes of its body in %s, where min_rate asks for %d", session.ErrStalled, u.received, period, least))
		return
	}
	u.received, u.waited = 0, u.paused
	x.client.Conn().Loop().Set(&u.timer, period)
}

// backlog decides how much of an answer is kept for a client that does not take it.
type backlog struct {
	x       *forward
	timer   reactor.Timer
	keeping bool // more than a read brings
}

// note looks at what the client has yet to take. Where that is enough, the server waits.
func (b *backlog) note(x *forward) {
	most := int(x.location.Buffer.Response)
	switch {
	case x.over || x.client.Pending() == 0, b.keeping && !x.client.Full(most):
		return
	case !b.keeping && most > 0:
		b.x, b.timer.On = x, b
		x.client.Conn().Loop().Set(&b.timer, patienceWithClient)
	}
	x.backend.Pause()
}

// Expired ends the server's waiting for its client.
func (b *backlog) Expired() {
	x := b.x
	x.client.Conn().Do(func() {
		if !x.over && x.backend != nil && x.client.Pending() > 0 {
			b.keeping = true
			x.backend.Resume()
		}
	})
}

// taken says that the client has taken all there was.
func (b *backlog) taken() {
	b.keeping = false
	b.stop()
}

func (b *backlog) stop() {
	if b.x != nil {
		b.x.client.Conn().Loop().Stop(&b.timer)
	}
}
