package proxy

import (
	"container/list"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
	"wstunnel/internal/session"
)

// loopBackend is a connection to a backend on an event loop.
type loopBackend struct {
	*session.Backend
	worker *session.Worker
	pool   *pool
	slot   *slot         // while it is in use
	wait   *list.Element // of a new one, its place among those that wait for their first byte

	answered       bool
	asked          time.Time // of a kept one, when it was taken
	firstByteAfter time.Duration
	life           time.Duration // how long it may be idle
	counted        bool          // among the connections to backends; one for a tunnel is counted as that
	gone           bool          // closed, or part of a tunnel
}

func newLoopBackend(c *reactor.Conn, worker *session.Worker, p *pool, wait *list.Element) *loopBackend {
	b := &loopBackend{Backend: session.NewBackend(c, worker), worker: worker, pool: p, wait: wait, life: idleConnLife}
	if !p.secure && c.Near() {
		b.life = nearIdleLife
	}
	return b
}

// noteAnswer takes note of an answer's head: that the server answers, how soon, and how long it leaves the connection open.
func (b *loopBackend) noteAnswer(fields head.Fields) {
	if !b.answered {
		b.answered = true
		if b.Reused() {
			b.firstByteAfter = time.Since(b.asked)
		}
		if b.wait != nil {
			b.pool.answered(b.wait)
		}
	}
	if fields.Has(head.KeepAlive) {
		b.life = lifeOf(fields.Values(head.KeepAlive), b.life)
	}
}

// release keeps the connection for the loop's next request, if it can carry one.
func (b *loopBackend) release() {
	s := b.slot
	b.slot = nil
	if !b.Reusable() || b.life <= 0 || !b.pool.putOnLoop(b, time.Now()) {
		b.close()
	} else {
		b.Rest(b.ended)
	}
	s.free()
}

// ended says that the backend has closed an idle connection.
func (b *loopBackend) ended() {
	b.pool.dropOnLoop(b)
	b.uncount()
}

// evict closes an idle connection that was taken out of its pool. It is safe on any goroutine.
func (b *loopBackend) evict() {
	b.worker.Loop.Post(func() { b.close() })
}

// lend gives an idle connection that was taken out of its pool to another loop, and calls then there, with nil where it has ended meanwhile. It is safe
// on any goroutine.
func (b *loopBackend) lend(to *session.Worker, then func(*loopBackend)) {
	posted := b.worker.Loop.Post(func() {
		if b.Closed() {
			to.Loop.Post(func() { then(nil) })
			return
		}
		b.Lend(to, func() {
			b.worker = to
			then(b)
		})
	})
	if !posted {
		to.Loop.Post(func() { then(nil) })
	}
}

// close closes the connection.
func (b *loopBackend) close() {
	b.uncount()
	b.Backend.Close()
	b.slot.free()
	b.slot = nil
}

// take takes the connection out of the session, for a tunnel.
func (b *loopBackend) take() (conn *reactor.Conn, early []byte) {
	b.uncount()
	return b.Backend.Take()
}

func (b *loopBackend) uncount() {
	if b.gone {
		return
	}
	b.gone = true
	if b.counted {
		b.pool.among.count.Add(-1)
	}
	if b.wait != nil {
		b.pool.leave(b.wait)
	}
}

// takeOnLoop returns the connection that has been idle for the shortest time, which is no longer than maxIdle, or nil. It may belong to another loop,
// which has to lend it.
func (p *pool) takeOnLoop(worker *session.Worker, maxIdle time.Duration) *loopBackend {
	now := time.Now()
	k := p.popKept(worker, now, maxIdle)
	if k == nil {
		return nil
	}
	b := k.conn.(*loopBackend)
	b.asked, b.answered, b.firstByteAfter = now, false, 0
	return b
}

// putOnLoop keeps a connection for the next request of its loop, and reports whether it did.
func (p *pool) putOnLoop(b *loopBackend, now time.Time) bool {
	return p.keep(&kept{conn: b, loop: b.worker, since: now, expires: now.Add(b.life)}, b.Reused(), b.firstByteAfter)
}

func (p *pool) dropOnLoop(b *loopBackend) { p.dropKept(b) }

// maxIdle is how long a connection may have been idle to carry the request.
func (x *loopExchange) maxIdle() time.Duration {
	switch {
	case x.out.Protocol != "" || x.out.Close || x.fresh:
		return 0
	case !x.repeatable():
		return freshConn
	}
	return idleConnLife
}
