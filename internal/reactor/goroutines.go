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

// poller asks poll(2) for what happened to the connections that may have something to tell, and lets goroutines watch the others, in Go's
// own poller.
type poller struct {
	awake  chan struct{} // holds one
	alarm  *time.Timer
	doubts []*Conn // to be asked about
	states []unix.PollFd
	events []event
	hints  []*Conn // to be asked about, as goroutines say; guarded by the loop's mu
	heard  []*Conn // the other half of hints, in turn
}

// event is something that happened to a connection.
type event struct {
	conn *Conn
	what uint32
}

// polled is a connection's part in the poller.
type polled struct {
	watcher *watcher // nil until something is wanted
	doubted bool     // among the loop's doubts
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
	events := l.ask()
	if len(events)+len(l.ready)+len(l.enders) == 0 {
		l.sleep()
		events = l.ask()
	}
	return events
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

// ask returns what happened to the connections that are in doubt. Those that have nothing to tell are watched from then on.
func (l *Loop) ask() []event {
	l.mu.Lock()
	l.hints, l.heard = l.heard[:0], l.hints
	l.mu.Unlock()
	for _, c := range l.heard {
		if l.table[c.fd] == c { // it has not been closed and has not moved meanwhile
			l.doubt(c)
		}
	}
	clear(l.heard)
	clear(l.events)
	l.events, l.states = l.events[:0], l.states[:0]
	for _, c := range l.doubts {
		if l.table[c.fd] != c {
			continue
		}
		c.doubted = false
		if c.watched {
			l.events = append(l.events, event{conn: c})
			l.states = append(l.states, unix.PollFd{Fd: c.fd, Events: int16(c.armed)})
		}
	}
	clear(l.doubts)
	l.doubts = l.doubts[:0]
	if len(l.states) == 0 {
		return nil
	}
	pollNow(l.states)
	told := l.events[:0]
	for i, e := range l.events {
		if e.what = happened(l.states[i], e.conn.armed|broken); e.what != 0 {
			told = append(told, e)
		} else {
			e.conn.watcher.await(e.conn.armed)
		}
	}
	return told
}

// doubt has c asked about before the loop sleeps.
func (l *Loop) doubt(c *Conn) {
	if !c.doubted {
		c.doubted = true
		l.doubts = append(l.doubts, c)
	}
}

// doubtAll has all connections asked about, which the goroutines that watch them would tell of a little later.
func (l *Loop) doubtAll() {
	for _, c := range l.table {
		if c != nil && c.watched {
			l.doubt(c)
		}
	}
}

// hint has c asked about. It is safe for concurrent use.
func (l *Loop) hint(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ended {
		return
	}
	l.hints = append(l.hints, c)
	if len(l.hints) == 1 {
		l.wake()
	}
}

// dispatch tells of an event, if its connection was not closed by one before it in the same batch. What lasts is told again.
func (l *Loop) dispatch(e *event) {
	c, fd := e.conn, e.conn.fd
	if l.table[fd] != c {
		return
	}
	c.dry = false
	l.group.watch(func() { l.deliver(c, e.what) })
	if l.table[fd] == c && c.watched {
		l.doubt(c)
	}
}

// enrol has the loop told of a connection that was put into the table.
func (l *Loop) enrol(c *Conn) {
	c.doubted = false
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
	c.watcher.wanted.Store(events | broken)
	c.loop.doubt(c)
	return nil
}

// unwatch has c watched for nothing, not even a hang-up, which would be told of for ever, until something is wanted again.
func (c *Conn) unwatch() {
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

// watcher waits until something happens to a connection, on a goroutine for its input and one for its output while that is wanted.
// Each gives the loop a hint and ends.
type watcher struct {
	conn   *Conn
	file   *os.File // owns the descriptor
	raw    syscall.RawConn
	fault  error         // why Go's poller does not take it
	wanted atomic.Uint32 // events, broken among them; 0 while unwatched

	mu            sync.Mutex
	loop          *Loop // that is given the hints
	input, output bool  // a goroutine waits
}

func newWatcher(c *Conn) *watcher {
	w := &watcher{conn: c, loop: c.loop, file: os.NewFile(uintptr(c.fd), "")}
	var err error
	w.raw, err = w.file.SyscallConn()
	w.fault = errors.Join(err, w.file.SetReadDeadline(time.Time{}))
	return w
}

// await waits for what is wanted, of which nothing has happened since it is. A goroutine that waits already will come upon it.
func (w *watcher) await(events uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.input {
		w.input = true
		go w.awaitInput()
	}
	if events&unix.POLLOUT != 0 && !w.output {
		w.output = true
		go w.awaitOutput()
	}
}

func (w *watcher) awaitInput() {
	err := w.raw.Read(func(fd uintptr) bool { return w.holds(fd, w.wanted.Load()&^unix.POLLOUT) })
	w.end(&w.input, err)
}

func (w *watcher) awaitOutput() {
	err := w.raw.Write(func(fd uintptr) bool { return w.holds(fd, unix.POLLOUT|broken) })
	w.end(&w.output, err)
}

// holds reports whether one of the events has happened.
func (w *watcher) holds(fd uintptr, events uint32) bool {
	state := [1]unix.PollFd{{Fd: int32(fd), Events: int16(events)}}
	pollNow(state[:])
	return happened(state[0], events) != 0
}

// end ends a goroutine's wait; where the descriptor was closed, without a hint.
func (w *watcher) end(waiting *bool, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*waiting = false
	if err == nil {
		w.loop.hint(w.conn)
	}
}

// pollNow asks for the descriptors' states.
func pollNow(states []unix.PollFd) {
	for {
		if _, err := unix.Poll(states, 0); err != unix.EINTR {
			return
		}
	}
}

// happened returns which of the wanted events a state tells.
func happened(state unix.PollFd, wanted uint32) uint32 { return uint32(uint16(state.Revents)) & wanted }
