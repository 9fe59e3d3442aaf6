package reactor

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

const bufferSize = 64 << 10 // of a loop's read buffer

// ErrPanic is what a handler is told when its own callback panicked.
var ErrPanic = errors.New("panic in a callback")

// Loop is one event loop.
type Loop struct {
	group *Group
	poller
	load atomic.Int32 // connections

	table      []*Conn // by descriptor
	ready      []*Conn // to be read again without waiting for the poller
	again      []*Conn // the other half of ready, in turn
	enders     []Ender // to be told at the end of this turn
	told       []Ender // the other half of enders, in turn
	buf        []byte  // what was read last
	ciphertext []byte  // ciphertext of the TLS call under way
	spares     [][]byte
	pipes      []*Pipe // empty ones
	wheel      wheel
	now        time.Duration
	stopped    bool

	pipesMade int // that are open, in use or empty

	mu    sync.Mutex // guards what follows
	mail  []func()
	ended bool // nothing posted is run any more
}

func newLoop(g *Group) (*Loop, error) {
	l := &Loop{group: g, buf: make([]byte, bufferSize)}
	if err := l.open(); err != nil {
		l.release()
		return nil, err
	}
	l.tick()
	l.wheel.now = ticks(l.now)
	return l, nil
}

// Now returns the loop's coarse time, which stands still while a batch of events is dealt with. Its zero is the
// start of the clock.
func (l *Loop) Now() time.Duration { return l.now }

// Elapsed returns the exact time on the loop's clock. It is safe for concurrent use.
func (l *Loop) Elapsed() time.Duration { return l.group.clock.Elapsed() }

// Clock returns the clock that the loop goes by. It is safe for concurrent use.
func (l *Loop) Clock() *Clock { return l.group.clock }

func (l *Loop) tick() { l.now = l.Elapsed() }

// Post runs f on the loop, after what was posted before. It reports false where the loop has ended and f is never
// run. It is safe for concurrent use.
func (l *Loop) Post(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return false
	}
	l.mail = append(l.mail, f)
	if len(l.mail) == 1 {
		l.wake()
	}
	return true
}

func (l *Loop) run() {
	defer l.shutdown()
	for !l.stopped {
		events := l.wait()
		l.tick()
		for i := range events {
			l.dispatch(&events[i])
		}
		l.readMail()
		l.readAgain()
		l.expire()
		l.endTurn()
	}
}

// broken are the events that are told whether they are wanted or not.
const broken = unix.POLLERR | unix.POLLHUP

// deliver tells a connection's handler what happened, in the bits of poll(2), which are epoll's too.
func (l *Loop) deliver(c *Conn, events uint32) {
	defer l.isolate(c)
	if c.waiting && events&(unix.POLLOUT|broken) != 0 {
		if !c.writable() {
			return
		}
	}
	switch {
	case c.closed || events&(unix.POLLIN|broken) == 0:
	case c.reading:
		c.handler.Readable(c) // reading brings the error to light, behind the bytes that came before it
	case events&unix.POLLERR != 0:
		err := socketError(c.fd)
		if err == nil {
			err = unix.ECONNRESET
		}
		c.handler.Failed(c, err)
	case events&unix.POLLHUP != 0:
		c.unwatch()
	default:
		c.update() // it was paused briefly
	}
}

// Do runs f, on the loop, as a callback of c: if f panics, c ends and its handler is told.
func (c *Conn) Do(f func()) {
	defer c.loop.isolate(c)
	f()
}

// isolate makes a panic the end of one connection.
func (l *Loop) isolate(c *Conn) {
	r := recover()
	if r == nil {
		return
	}
	l.logPanic(r)
	l.ciphertext = l.ciphertext[:0]
	handler := c.handler
	c.Reset()
	defer l.survive()
	handler.Failed(c, ErrPanic)
}

// survive, deferred, logs a panic of a callback that has no connection.
func (l *Loop) survive() {
	if r := recover(); r != nil {
		l.logPanic(r)
	}
}

func (l *Loop) logPanic(r any) {
	l.group.log.Error("panic in a callback", slog.String("panic", fmt.Sprint(r)), slog.String("stack", string(debug.Stack())))
}

// Ender is told of the end of a turn.
type Ender interface {
	TurnEnded()
}

// AtTurnsEnd has e told once, when all that has come was dealt with and before the loop waits for more. What is asked for meanwhile is told at the end
// of the next turn.
func (l *Loop) AtTurnsEnd(e Ender) { l.enders = append(l.enders, e) }

func (l *Loop) endTurn() {
	l.enders, l.told = l.told[:0], l.enders
	for i, e := range l.told {
		l.told[i] = nil
		l.group.watch(func() { l.call(e.TurnEnded) })
	}
}

// readMail runs what was posted.
func (l *Loop) readMail() {
	l.mu.Lock()
	mail := l.mail
	l.mail = nil
	l.mu.Unlock()
	for _, f := range mail {
		l.group.watch(func() { l.call(f) })
	}
}

func (l *Loop) call(f func()) {
	defer l.survive()
	f()
}

// readAgain goes through the connections that may have more to read than the poller knows of.
func (l *Loop) readAgain() {
	l.ready, l.again = l.again[:0], l.ready
	for i, c := range l.again {
		if c == nil {
			continue
		}
		l.again[i] = nil
		c.queued = false
		if c.reading && !c.closed {
			l.group.watch(func() { l.deliver(c, unix.POLLIN) })
		}
	}
}

// dropReady makes c not be read again by this loop.
func (l *Loop) dropReady(c *Conn) {
	if !c.queued {
		return
	}
	c.queued = false
	for _, conns := range [][]*Conn{l.ready, l.again} {
		if i := slices.Index(conns, c); i >= 0 {
			conns[i] = nil
		}
	}
}

// shutdown closes what is left.
func (l *Loop) shutdown() {
	l.mu.Lock()
	l.ended = true
	mail := l.mail
	l.mail = nil
	l.mu.Unlock()
	for _, f := range mail {
		l.call(f)
	}
	for _, c := range l.table {
		if c != nil {
			l.call(func() {
				handler := c.handler
				c.Close()
				handler.Failed(c, net.ErrClosed)
			})
		}
	}
	for _, p := range l.pipes {
		p.close()
	}
	l.release()
}
