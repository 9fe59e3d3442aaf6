package proxy

import (
	"container/list"
	"strconv"
	"strings"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
	"wstunnel/internal/session"
)

// backendConn is a connection to a backend on an event loop.
type backendConn struct {
	*session.Backend
	worker *session.Worker
	pool   *pool
	slot   *slot         // while it is in use
	wait   *list.Element // of a new one, its place among those that wait for their first byte

	answered       bool
	asked          time.Time // of a kept one, when it was taken
	since, expires time.Time // of one that is kept
	firstByteAfter time.Duration
	life           time.Duration // how long it may be idle
	counted        bool          // among the connections to backends; one for a tunnel is counted as that
	gone           bool          // closed, or part of a tunnel
}

func newBackendConn(c *reactor.Conn, worker *session.Worker, p *pool, wait *list.Element) *backendConn {
	b := &backendConn{Backend: session.NewBackend(c, worker), worker: worker, pool: p, wait: wait, life: idleConnLife}
	if !p.secure && c.Near() {
		b.life = nearIdleLife
	}
	return b
}

// noteAnswer takes note of an answer's head: that the server answers, how soon, and how long it leaves the connection open.
func (b *backendConn) noteAnswer(fields head.Fields) {
	if !b.answered {
		b.answered = true
		if b.Reused() {
			b.firstByteAfter = b.pool.clock.Now().Sub(b.asked)
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
func (b *backendConn) release() {
	s := b.slot
	b.slot = nil
	if !b.Reusable() || b.life <= 0 || !b.pool.keep(b) {
		b.close()
	} else {
		b.Rest(b)
	}
	s.free()
}

// Ended says that the backend has closed an idle connection.
func (b *backendConn) Ended() {
	b.pool.forget(b)
	b.uncount()
}

// evict closes an idle connection that was taken out of its pool. It is safe on any goroutine.
func (b *backendConn) evict() {
	b.worker.Loop.Post(func() { b.close() })
}

// lend gives an idle connection that was taken out of its pool to another loop, and calls then there, with nil where it has ended meanwhile. It is safe
// on any goroutine.
func (b *backendConn) lend(to *session.Worker, then func(*backendConn)) {
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
func (b *backendConn) close() {
	b.uncount()
	b.Backend.Close()
	b.slot.free()
	b.slot = nil
}

// take takes the connection out of the session, for a tunnel.
func (b *backendConn) take() (conn *reactor.Conn, early []byte) {
	b.uncount()
	return b.Backend.Take()
}

func (b *backendConn) uncount() {
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

// lifeOf returns how long a connection may be idle that a backend has answered on with some Keep-Alive headers.
func lifeOf(header []string, life time.Duration) time.Duration {
	for _, value := range header {
		for parameter := range strings.SplitSeq(value, ",") {
			name, seconds, _ := strings.Cut(strings.TrimSpace(parameter), "=")
			if n, err := strconv.ParseUint(seconds, 10, 31); err == nil && strings.EqualFold(name, "timeout") {
				announced := time.Duration(n) * time.Second
				life = min(life, announced-min(keepAliveMargin, announced/2))
			}
		}
	}
	return life
}
