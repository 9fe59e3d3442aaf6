//go:build !linux || portable

package reactor

import (
	"errors"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// poller is where goroutines leave what happened to the connections that they watch, in Go's own poller.
type poller struct {
	awake  chan struct{} // holds one
	alarm  *time.Timer
	events []event // guarded by the loop's mu
	dealt  []event // the other half of events, in turn
}

// event is something that happened to a connection.
type event struct {
	conn *Conn
	what uint32
}

// polled is a connection's part in the poller.
type polled struct {
	watcher *watcher // nil until something is wanted
}

func (l *Loop) open() error {
	l.awake = make(chan struct{}, 1)
	l.alarm = time.NewTimer(0)
	return nil
}

func (l *Loop) release() { l.alarm.Stop() }

// wake makes wait end.
func (l *Loop) wake() {
	select {
	case l.awake <- struct{}{}:
	default:
	}
}

// wait returns the events at hand, none where it is time for a timer.
func (l *Loop) wait() []event {
	clear(l.dealt)
	if len(l.ready)+len(l.enders) == 0 {
		l.sleep()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events, l.dealt = l.dealt[:0], l.events
	return l.dealt
}

func (l *Loop) sleep() {
	due, ok := l.wheel.due()
	if !ok {
		<-l.awake
		return
	}
	l.alarm.Reset(due - l.Elapsed())
	select {
	case <-l.awake:
	case <-l.alarm.C:
	}
}

// report has the loop told of an event.
func (l *Loop) report(e event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.events = append(l.events, e)
	if len(l.events) == 1 {
		l.wake()
	}
}

// dispatch tells of an event. A connection that was closed or has moved meanwhile is gone from the table.
func (l *Loop) dispatch(e *event) {
	c, fd := e.conn, e.conn.fd
	if l.table[fd] != c {
		return
	}
	c.dry = false
	l.group.watch(func() { l.deliver(c, e.what) })
	if l.table[fd] == c && c.watched {
		c.watcher.want(c.armed)
	}
}

// enrol has the events of a connection that was put into the table told to this loop.
func (l *Loop) enrol(c *Conn) {
	if w := c.watcher; w != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.loop = l
	}
}

func (c *Conn) watch(events uint32) error {
	if events == 0 && !c.watched {
		return nil
	}
	if c.watcher == nil {
		c.watcher = newWatcher(c)
	}
	if err := c.watcher.fault; err != nil {
		return err
	}
	c.watched, c.armed = true, events
	c.watcher.want(events)
	return nil
}

// mute has c watched for nothing, not even a hang-up, which would be told of for ever, until something is wanted again.
func (c *Conn) mute() {
	c.watcher.wanted.Store(0)
	c.watched, c.armed = false, 0
}

// shut closes the descriptor, and ends the goroutines that watch it.
func (c *Conn) shut() error {
	if c.watcher != nil {
		return c.watcher.file.Close()
	}
	return os.NewSyscallError("close", unix.Close(int(c.fd)))
}

// toFile gives the descriptor away.
func (c *Conn) toFile() *os.File {
	if c.watcher != nil {
		return c.watcher.file
	}
	return os.NewFile(uintptr(c.fd), "")
}

// watcher waits for what happens to a connection, on a goroutine for its input and one for its output while that is wanted. Each tells the loop
// once and ends; the loop begins it again when the event is dealt with, if it is still wanted, so that what lasts is told again.
type watcher struct {
	conn   *Conn
	file   *os.File // owns the descriptor
	raw    syscall.RawConn
	fault  error         // why Go's poller does not take it
	wanted atomic.Uint32 // events, broken among them; 0 while muted

	mu            sync.Mutex
	loop          *Loop // that is told
	input, output bool  // a goroutine waits
}

func newWatcher(c *Conn) *watcher {
	w := &watcher{conn: c, loop: c.loop, file: os.NewFile(uintptr(c.fd), "")}
	var err error
	w.raw, err = w.file.SyscallConn()
	w.fault = errors.Join(err, w.file.SetReadDeadline(time.Time{}))
	return w
}

// want has these events told.
func (w *watcher) want(events uint32) {
	before := w.wanted.Swap(events | broken)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case !w.input:
		w.input = true
		go w.awaitInput()
	case (events|broken)&^before&^unix.POLLOUT != 0: // it has passed over what is wanted now, perhaps
		w.file.SetReadDeadline(time.Unix(1, 0))
	}
	if events&unix.POLLOUT != 0 && !w.output {
		w.output = true
		go w.awaitOutput()
	}
}

func (w *watcher) awaitInput() {
	what := uint32(0)
	for {
		err := w.raw.Read(func(fd uintptr) bool {
			what = happened(fd, w.wanted.Load()&^unix.POLLOUT)
			return what != 0
		})
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		w.file.SetReadDeadline(time.Time{})
	}
	w.tell(&w.input, what)
}

func (w *watcher) awaitOutput() {
	what := uint32(0)
	w.raw.Write(func(fd uintptr) bool {
		what = happened(fd, unix.POLLOUT|broken)
		return what != 0
	})
	w.tell(&w.output, what)
}

// tell ends a goroutine's wait; where the descriptor was closed, with nothing to tell.
func (w *watcher) tell(waiting *bool, what uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*waiting = false
	if what != 0 {
		w.loop.report(event{w.conn, what})
	}
}

// happened returns which of the wanted events hold for a descriptor now.
func happened(fd uintptr, wanted uint32) uint32 {
	state := []unix.PollFd{{Fd: int32(fd), Events: int16(wanted)}}
	for {
		if _, err := unix.Poll(state, 0); err != unix.EINTR {
			return uint32(uint16(state[0].Revents)) & wanted
		}
	}
}
