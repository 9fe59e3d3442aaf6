package tunnel

import (
	"crypto/rand"
	"math"
	"time"

	"wstunnel/internal/ws"
)

// pings find out whether the sides of a tunnel are alive. A nil *pings sends none.
type pings struct {
	interval time.Duration
	id       pingID
	sides    [2]pinged // client, backend
}

// pinged is what is known of a side.
type pinged struct {
	heard    time.Duration // when its last byte came
	sent     time.Duration // when it was last sent a ping; before heard: it has shown life since
	end      uint64        // of the ping, in all that the side is sent
	taken    uint64        // bytes of that which the side's system has acknowledged
	progress time.Duration // when taken last grew, up to end
}

// nowhere is the end of a ping that has no place in its stream yet.
const nowhere = math.MaxUint64

func newPings(interval time.Duration) *pings {
	p := &pings{interval: interval}
	rand.Read(p.id[:])
	return p
}

func (p *pings) begin(now time.Duration) {
	if p != nil {
		for i := range p.sides {
			p.sides[i] = pinged{heard: now, sent: -1}
		}
	}
}

func (p *pings) of(s *endpoint) *pinged {
	if s.toBackend {
		return &p.sides[0]
	}
	return &p.sides[1]
}

// heard notes that something came from s.
func (p *pings) heard(s *endpoint) {
	if p != nil {
		p.of(s).heard = s.t.now()
	}
}

// due returns when a side is to be looked at next.
func (p *pings) due(t *Tunnel) time.Duration {
	const never = time.Duration(1<<63 - 1)
	if p == nil {
		return never
	}
	due := never
	for _, s := range t.endpoints() {
		state := p.of(s)
		at := t.now() + p.interval/4
		if state.sent < state.heard {
			at = max(at, state.heard+p.interval)
		}
		if !s.ended {
			due = min(due, at)
		}
	}
	return due
}

// check pings the silent and gives up the dead.
func (p *pings) check(t *Tunnel) {
	if p == nil || t.order.Load() != nil {
		return
	}
	now := t.now()
	for _, s := range t.endpoints() {
		state := p.of(s)
		switch {
		case s.ended:
		case !s.conn.Reading():
			state.heard = now // it is not let speak
		case state.sent >= state.heard:
			if state.overdue(s, p.interval) {
				t.note(Result{By: s.name(), Cause: CausePing, Code: ws.CloseAbnormal})
				t.Close(ws.CloseGoingAway, "ping timeout", CausePing, t.limits.close)
				t.startClosing()
				return
			}
		case now-state.heard >= p.interval && !s.takesNoFrames() && !s.other().takesNoFrames() && !s.other().ended:
			state.sent, state.progress, state.end = now, now, nowhere
			state.taken, _, _ = s.conn.Taken()
			s.queue().pong = &p.id
			ping := newFrame(s.name(), ws.OpPing, p.id[:])
			s.other().backlog.Add(int32(len(ping)))
			s.other().inject(ws.OpPing, ping)
			if !s.other().boundary() {
				return
			}
		}
	}
}

// overdue reports whether a side that was pinged is dead: for one period it has had the ping and not answered, or for two it has taken nothing
// of what comes before the ping. One that takes little is alive; peers open their windows in steps. A ping that has no place in its stream
// proves nothing.
func (p *pinged) overdue(s *endpoint, period time.Duration) bool {
	now := s.t.now()
	taken, onTheWay, known := s.conn.Taken()
	queued := s.other().queued()
	switch {
	case queued && onTheWay == 0, !known && onTheWay > 0, taken > p.taken && p.taken < p.end:
		p.progress = now
	}
	p.taken = taken
	if p.end == nowhere && !queued {
		p.end = taken + onTheWay
	}
	if taken < p.end {
		period *= 2
	}
	return now-p.progress >= period
}
