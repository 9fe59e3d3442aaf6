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
	heard    time.Duration // when its last byte came
	sent     time.Duration // when it was last sent a ping; before heard: it has shown life since
	taken    uint64        // bytes that it has taken of what it was sent
	progress time.Duration // when taken last grew, or nothing was left to be taken
}

func newPings(interval time.Duration) *pings {
	p := &pings{interval: interval}
	rand.Read(p.id[:])
	return p
}

func (p *pings) begin(now time.Duration) {
	if p != nil {
		for i := range p.sides {
			p.sides[i] = pinged{heard: now, sent: -1, progress: now}
		}
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
			if now-state.heard >= 2*p.interval && state.hadItsChance(s, 2*p.interval) {
				t.note(Result{By: s.name(), Cause: CausePing, Code: ws.CloseAbnormal})
				t.close(ws.CloseGoingAway, "ping timeout", CausePing, t.limits.close)
				t.obey()
				return
			}
		case now-state.heard >= p.interval && !s.mute() && !s.other().mute():
			state.sent, state.progress = now, now
			s.more().pong = &p.id
			ping := newFrame(s.name(), ws.OpPing, p.id[:])
			s.other().backlog.Add(int64(len(ping)))
			s.other().inject(ws.OpPing, ping)
			if !s.other().boundary() {
				return
			}
		}
	}
}

// hadItsChance reports whether a side that was pinged could have answered. A ping that has no place in its stream yet proves
// nothing, and neither does one that waits for its turn, unless the side has taken nothing for so long as patience.
func (p *pinged) hadItsChance(s *side, patience time.Duration) bool {
	now, waiting := s.t.now(), s.untaken()
	if taken := s.other().bytes.Load() - waiting; taken != p.taken || waiting == 0 {
		p.taken, p.progress = taken, now
	}
	if waiting > 0 {
		return now-p.progress >= patience
	}
	return !s.other().queued()
}
