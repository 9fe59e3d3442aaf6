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
	sent    [2]int64 // when the client and the backend were last pinged; before heard: they have shown life since
	stopped bool
}

func startProber(t *pumped) *prober {
	p := &prober{t: t, sent: [2]int64{-1, -1}}
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
	if !p.alive(&p.t.toBackend, &p.t.toClient, &p.sent[0]) || !p.alive(&p.t.toClient, &p.t.toBackend, &p.sent[1]) {
		return
	}
	p.timer.Reset(p.t.opts.Ping / 4)
}

// alive pings a silent side: that which d comes from and back goes to.
func (p *prober) alive(d, back *direction, sent *int64) bool {
	now, interval := monotonic(), int64(p.t.opts.Ping)
	if d.hasEnded() || d.writing.Load() || d.opaque.Load() || d.closeSeen.Load() || back.opaque.Load() || back.closeSeen.Load() {
		d.heard.Store(now) // it is not let speak, or not to be asked
	}
	silence := now - d.heard.Load()
	switch {
	case *sent >= d.heard.Load():
		switch {
		case back.writing.Load() || back.waiting.Load():
			*sent = now // a ping that has not left yet proves nothing; a side that takes nothing is TCP's to find
		case now-*sent >= interval:
			p.t.note(Result{By: d.from, Cause: CausePing, Code: ws.CloseAbnormal})
			go p.t.close(ws.CloseGoingAway, "ping timeout", CausePing, p.t.opts.CloseTimeout)
			return false
		}
	case silence >= interval:
		d.leave(injection{pong: &p.id})
		ping := newFrame(d.from, ws.OpPing, p.id[:])
		back.backlog.Add(int32(len(ping)))
		if back.leave(injection{op: ws.OpPing, frame: ping}) {
			*sent = now
			back.interrupt()
		}
	}
	return true
}
