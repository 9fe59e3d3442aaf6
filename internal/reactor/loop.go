//go:build linux

package reactor

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	bufferSize = 64 << 10 // of a loop's read buffer
	batchSize  = 256      // events taken in one go
)

// ErrPanic is what a handler is told when its own callback panicked.
var ErrPanic = errors.New("panic in a callback")

// Loop is one event loop.
type Loop struct {
	group   *Group
	epfd    int
	file    *os.File        // of epfd
	sleeper syscall.RawConn // of file
	alarm   time.Duration   // when the sleep ends at the latest, or 0
	load    atomic.Int32    // connections

	table   []*Conn // by descriptor
	lastGen uint32  // generation of the last connection that was put into the table
	ready   []*Conn // to be read again without waiting for epoll
	again   []*Conn // the other half of ready, in turn
	enders  []Ender // to be told at the end of this turn
	told    []Ender // the other half of enders, in turn
	buf     []byte  // what was read last
	sealed  []byte  // ciphertext of the TLS call under way
	spares  [][]byte
	pipes   []*Pipe // empty ones
	wheel   wheel
	now     time.Duration
	stopped bool

	pipesMade int // that are open, in use or empty

	wakefd int32
	mu     sync.Mutex
	mail   []func()
	ended  bool // nothing posted is run any more
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

func (l *Loop) open() (err error) {
	if l.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return os.NewSyscallError("epoll_create", err)
	}
	unix.SetNonblock(l.epfd, true) // so that Go's poller takes it
	l.file = os.NewFile(uintptr(l.epfd), "epoll")
	if err := l.file.SetReadDeadline(time.Time{}); err != nil {
		return err
	}
	if l.sleeper, err = l.file.SyscallConn(); err != nil {
		return err
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	l.wakefd = int32(wakefd)
	// Edge-triggered: each write wakes the loop once, and the count is never read.
	wake := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: l.wakefd}
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, wakefd, &wake))
}

func (l *Loop) release() {
	if l.file != nil {
		l.file.Close()
	}
	if l.wakefd > 0 {
		unix.Close(int(l.wakefd))
	}
}

// Now returns the loop's coarse time, which stands still while a batch of events is dealt with. Its zero is the
// start of the group.
func (l *Loop) Now() time.Duration { return l.now }

// Elapsed returns the exact time on the loop's clock. It is safe for concurrent use.
func (l *Loop) Elapsed() time.Duration { return time.Since(l.group.start) }

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
		write(l.wakefd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
	return true
}

func (l *Loop) run() {
	defer l.shutdown()
	events := make([]unix.EpollEvent, batchSize)
	for !l.stopped {
		n := l.wait(events)
		l.tick()
		for i := range events[:n] {
			l.dispatch(&events[i])
		}
		l.readMail()
		l.readAgain()
		l.expire()
		l.endTurn()
	}
}

// wait returns the number of events, 0 where it is time for a timer. It blocks in Go's own poller, which watches the
// loop's epoll descriptor: a thread that slept in epoll_wait itself would keep its processor from other goroutines for up
// to ten milliseconds.
func (l *Loop) wait(events []unix.EpollEvent) (n int) {
	if len(l.ready)+len(l.enders) > 0 {
		return poll(l.epfd, events)
	}
	l.setAlarm()
	err := l.sleeper.Read(func(uintptr) bool {
		n = poll(l.epfd, events)
		return n > 0
	})
	if err != nil { // the alarm went off, and would do so again
		l.alarm = 0
		l.file.SetReadDeadline(time.Time{})
	}
	return n
}

// setAlarm makes wait end when the next timer is due.
func (l *Loop) setAlarm() {
	due, ok := l.wheel.due()
	if !ok || due == l.alarm {
		return // one that is set too early does no harm
	}
	l.alarm = due
	l.file.SetReadDeadline(l.group.start.Add(due))
}

// dispatch finds the connection that an event is for. One that was closed earlier in the same batch is gone from
// the table, and one that has got its descriptor since has another generation.
func (l *Loop) dispatch(event *unix.EpollEvent) {
	if int(event.Fd) >= len(l.table) {
		return
	}
	c := l.table[event.Fd]
	if c == nil || c.generation != uint32(event.Pad) {
		return
	}
	c.dry = false
	l.group.watch(func() { l.deliver(c, event.Events) })
}

// deliver tells a connection's handler what happened.
func (l *Loop) deliver(c *Conn, events uint32) {
	defer l.isolate(c)
	const broken = unix.EPOLLERR | unix.EPOLLHUP
	if c.waiting && events&(unix.EPOLLOUT|broken) != 0 {
		if !c.writable() {
			return
		}
	}
	switch {
	case c.closed || events&(unix.EPOLLIN|broken) == 0:
	case c.reading:
		c.handler.Readable(c) // reading brings the error to light, behind the bytes that came before it
	case events&unix.EPOLLERR != 0:
		err := socketError(c.fd)
		if err == nil {
			err = unix.ECONNRESET
		}
		c.handler.Failed(c, err)
	case events&unix.EPOLLHUP != 0:
		c.mute()
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
	l.sealed = l.sealed[:0]
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

// readAgain goes through the connections that may have more to read than epoll knows of.
func (l *Loop) readAgain() {
	l.ready, l.again = l.again[:0], l.ready
	for i, c := range l.again {
		if c == nil {
			continue
		}
		l.again[i] = nil
		c.queued = false
		if c.reading && !c.closed {
			l.group.watch(func() { l.deliver(c, unix.EPOLLIN) })
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
