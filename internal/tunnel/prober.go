package tunnel

import (
	"crypto/rand"
	"sync"
	"time"

	"wstunnel/internal/ws"
)

// prober pings the sides of a tunnel on goroutines, and finds the dead.
type prober struct {
	t  *pumped
	id pingID

	mu      sync.Mutex
	timer   *time.Timer
	sides   [2]probed // client, backend
	stopped bool
}

// probed is what is known of a side.
type probed struct {
	sent     int64  // when it was last pinged; before heard: it has shown life since
	taken    uint64 // bytes that it was sent and has taken
	progress int64  // when taken last grew, or nothing was left to be taken
}

func startProber(t *pumped) *prober {
	p := &prober{t: t, sides: [2]probed{{sent: -1}, {sent: -1}}}
	rand.Read(p.id[:])
	now := monotonic()
	t.toBackend.heard.Store(now)
	t.toClient.heard.Store(now)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.timer = time.AfterFunc(t.opts.Ping, p.check)
	return p
}

func (p *prober) stop() {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stopped = true
	p.timer.Stop()
}

// check looks at both sides, four times in an interval.
func (p *prober) check() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped || p.t.order.Load() != nil {
		return
	}
	if !p.alive(&p.t.toBackend, &p.t.toClient, &p.sides[0]) || !p.alive(&p.t.toClient, &p.t.toBackend, &p.sides[1]) {
		return
	}
	p.timer.Reset(p.t.opts.Ping / 4)
}

// alive pings a silent side: that which d comes from and back goes to.
func (p *prober) alive(d, back *direction, state *probed) bool {
	now, interval := monotonic(), int64(p.t.opts.Ping)
	if d.writing.Load() || d.opaque.Load() || d.closeSeen.Load() || back.opaque.Load() || back.closeSeen.Load() {
		d.heard.Store(now) // it is not let speak, or not to be asked
	}
	silence := now - d.heard.Load()
	switch {
	case state.sent >= d.heard.Load():
		if silence >= 2*interval && state.hadItsChance(back, 2*interval) {
			p.t.note(Result{By: d.from, Cause: CausePing, Code: ws.CloseAbnormal})
			go p.t.close(ws.CloseGoingAway, "ping timeout", CausePing, p.t.opts.CloseTimeout)
			return false
		}
	case silence >= interval:
		state.sent, state.progress = now, now
		d.leave(injection{pong: &p.id})
		p.t.inject(d.from, ws.OpPing, newFrame(d.from, ws.OpPing, p.id[:]))
	}
	return true
}

// hadItsChance reports whether a side that was pinged, to which d goes, could have answered. A ping that has no place in its
// stream yet proves nothing, and neither does one that waits for its turn, unless the side has taken nothing for so long as patience.
func (p *probed) hadItsChance(d *direction, patience int64) bool {
	now, writing := monotonic(), d.writing.Load()
	if taken := d.bytes.Load(); taken != p.taken || !writing {
		p.taken, p.progress = taken, now
	}
	if writing {
		return now-p.progress >= patience
	}
	return !d.waiting.Load()
}
