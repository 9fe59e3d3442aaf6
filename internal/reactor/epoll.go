//go:build linux && !portable

package reactor

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const batchSize = 256 // events taken in one go

// poller is a loop's epoll(7) descriptor.
type poller struct {
	epfd    int
	file    *os.File           // of epfd
	sleeper syscall.RawConn    // of file
	look    func(uintptr) bool // takeEvents
	came    int                // events that it took
	alarm   time.Duration      // when the sleep ends at the latest, or 0
	lastGen uint32             // generation of the last connection that was put into the table
	wakefd  int32
	events  []unix.EpollEvent
}

// polled is a connection's part in the poller.
type polled struct {
	generation uint32
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
	l.look = l.takeEvents
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	l.wakefd = int32(wakefd)
	l.events = make([]unix.EpollEvent, batchSize)
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

// wake makes wait end.
func (l *Loop) wake() { write(l.wakefd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

// wait returns the events at hand, none where it is time for a timer. It blocks in Go's own poller, which watches the
// loop's epoll descriptor: a thread that slept in epoll_wait itself would keep its processor from other goroutines for up
// to ten milliseconds.
func (l *Loop) wait() []unix.EpollEvent {
	if len(l.ready)+len(l.enders) > 0 {
		return l.events[:poll(l.epfd, l.events)]
	}
	l.setAlarm()
	l.came = 0
	if err := l.sleeper.Read(l.look); err != nil { // the alarm went off, and would do so again
		l.alarm = 0
		l.file.SetReadDeadline(time.Time{})
	}
	return l.events[:l.came]
}

// takeEvents takes what epoll has to tell, and reports whether that is anything.
func (l *Loop) takeEvents(uintptr) bool {
	l.came = poll(l.epfd, l.events)
	return l.came > 0
}

// setAlarm makes wait end when the next timer is due.
func (l *Loop) setAlarm() {
	due, ok := l.wheel.due()
	if due -= l.group.clock.ahead(); !ok || due == l.alarm {
		return // one that is set too early does no harm
	}
	l.alarm = due
	l.file.SetReadDeadline(l.group.clock.start.Add(due))
}

// doubtAll does nothing: epoll tells of all that has happened by now.
func (l *Loop) doubtAll() {}

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

// enrol makes the events of a connection that was put into the table known from those of others with its descriptor.
func (l *Loop) enrol(c *Conn) {
	l.lastGen++
	c.generation = l.lastGen
}

func (c *Conn) watch(events uint32) error {
	if events == 0 && !c.watched {
		return nil
	}
	op := unix.EPOLL_CTL_MOD
	if !c.watched {
		op = unix.EPOLL_CTL_ADD
	}
	event := unix.EpollEvent{Events: events, Fd: c.fd, Pad: int32(c.generation)}
	if err := unix.EpollCtl(c.loop.epfd, op, int(c.fd), &event); err != nil {
		return os.NewSyscallError("epoll_ctl", err)
	}
	c.watched, c.armed = true, events
	return nil
}

// unwatch takes c out of epoll, which would tell of a hang-up for ever, until something is wanted again.
func (c *Conn) unwatch() {
	unix.EpollCtl(c.loop.epfd, unix.EPOLL_CTL_DEL, int(c.fd), nil)
	c.watched, c.armed = false, 0
}

// shut closes the descriptor.
func (c *Conn) shut() error { return os.NewSyscallError("close", unix.Close(int(c.fd))) }
