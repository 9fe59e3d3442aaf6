package upstream

import (
	"container/list"
	"fmt"
	"strconv"
	"strings"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
	"wstunnel/internal/session"
)

// Conn is a connection to a backend on an event loop.
type Conn struct {
	*session.Backend
	worker *session.Worker
	pool   *Pool
	server *Server       // whose it is for whom it is in use
	active bool          // it is counted as one of the server's
	slot   *Slot         // while it is in use
	wait   *list.Element // of a new one, its place among those that wait for their first byte

	answered       bool
	asked          time.Time // of a kept one, when it was taken
	since, expires time.Time // of one that is kept
	firstByteAfter time.Duration
	life           time.Duration // how long it may be idle
	counted        bool          // among the connections to backends; one for a tunnel is counted as that
	gone           bool          // closed, or part of a tunnel
}

func newConn(c *reactor.Conn, worker *session.Worker, p *Pool, wait *list.Element) *Conn {
	speak := session.NewBackend
	if p.applications {
		speak = session.NewFastCGIBackend
	}
	b := &Conn{Backend: speak(c, worker), worker: worker, pool: p, wait: wait, life: idleConnLife}
	if !p.secure && c.Near() {
		b.life = nearIdleLife
	}
	return b
}

// NoteAnswer takes note of an answer's head: that the server answers, how soon and whether with a failure, and how long it leaves the connection open.
func (b *Conn) NoteAnswer(r *head.Response) {
	if r.Status >= 500 {
		b.server.health.Failed(fmt.Errorf("it answered %d", r.Status))
	} else {
		b.server.health.Answered()
	}
	fields := r.Fields
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

// Release keeps the connection for the loop's next request, if it can carry one.
func (b *Conn) Release() {
	s := b.slot
	b.slot = nil
	b.countOut()
	if !b.Reusable() || b.life <= 0 || !b.pool.keep(b) {
		b.Close()
	} else {
		b.Rest(b)
	}
	s.Free()
}

// countOut has the server no longer count it as active.
func (b *Conn) countOut() {
	if b.active {
		b.active = false
		b.server.active.Add(-1)
	}
}

// Ended says that the backend has closed an idle connection.
func (b *Conn) Ended() {
	b.pool.forget(b)
	b.uncount()
}

// evict closes an idle connection that was taken out of its pool. It is safe on any goroutine.
func (b *Conn) evict() {
	b.worker.Loop.Post(func() { b.Close() })
}

// lend gives an idle connection that was taken out of its pool to another loop, and calls then there, with nil where it has ended meanwhile. It is safe
// on any goroutine.
func (b *Conn) lend(to *session.Worker, then func(*Conn)) {
	posted := b.worker.Loop.Post(func() {
		if b.Closed() {
			to.Loop.Post(func() { then(nil) })
			return
		}
		b.Backend.Lend(to, func() {
			b.worker = to
			then(b)
		})
	})
	if !posted {
		to.Loop.Post(func() { then(nil) })
	}
}

// Close closes the connection. Nobody is told.
func (b *Conn) Close() {
	b.uncount()
	b.countOut()
	b.Backend.Close()
	b.slot.Free()
	b.slot = nil
}

// Take takes the connection out of the session, for a tunnel.
func (b *Conn) Take() (conn *reactor.Conn, early []byte) {
	b.uncount()
	return b.Backend.Take()
}

func (b *Conn) uncount() {
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
