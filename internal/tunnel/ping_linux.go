//go:build linux && !portable

package tunnel

import (
	"crypto/rand"
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
	heard time.Duration // when its last byte came
	sent  time.Duration // when it was last sent a ping; before heard: it has shown life since
}

func newPings(interval time.Duration) *pings {
	p := &pings{interval: interval}
	rand.Read(p.id[:])
	return p
}

func (p *pings) begin(now time.Duration) {
	if p != nil {
		p.sides = [2]pinged{{heard: now, sent: -1}, {heard: now, sent: -1}}
	}
}

func (p *pings) of(s *side) *pinged {
	if s.toBackend {
		return &p.sides[0]
	}
	return &p.sides[1]
}

// heard notes that something came from s.
func (p *pings) heard(s *side) {
	if p != nil {
		p.of(s).heard = s.t.now()
	}
}

// due returns when a side is to be looked at next.
func (p *pings) due(t *looped) time.Duration {
	const never = time.Duration(1<<63 - 1)
	if p == nil {
		return never
	}
	due := never
	for _, s := range t.sides() {
		state := p.of(s)
		at := state.heard + p.interval
		if state.sent >= state.heard {
			at += p.interval
		}
		if !s.ended {
			due = min(due, max(at, t.now()+p.interval/4))
		}
	}
	return due
}

// check pings the silent and gives up the dead.
func (p *pings) check(t *looped) {
	if p == nil || t.order.Load() != nil {
		return
	}
	now := t.now()
	for _, s := range t.sides() {
		state := p.of(s)
		switch {
		case s.ended:
		case !s.conn.Reading():
			state.heard = now // it is not let speak
		case state.sent >= state.heard:
			// A ping that has not left yet, or has no place in its stream, proves nothing.
			if now-state.heard >= 2*p.interval && s.conn.Pending() == 0 && !s.other().queued() {
				t.note(Result{By: s.name(), Cause: CausePing, Code: ws.CloseAbnormal})
				t.close(ws.CloseGoingAway, "ping timeout", CausePing, t.limits.close)
				t.obey()
				return
			}
		case now-state.heard >= p.interval && !s.mute() && !s.other().mute():
			state.sent = now
			s.more().pong = &p.id
			s.other().inject(ws.OpPing, p.id[:])
			if !s.other().boundary() {
				return
			}
		}
	}
}
