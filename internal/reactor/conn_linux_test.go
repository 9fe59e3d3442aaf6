package reactor

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestEventsOfAClosedDescriptorAreDropped has two connections become readable in one batch. The first to be told closes
// the other, and another connection gets its descriptor.
func TestEventsOfAClosedDescriptorAreDropped(t *testing.T) {
	g, _ := startGroup(t)
	l := g.Pick()
	var conns [2]*Conn
	var peers [2]net.Conn
	told := 0
	third, _ := dial(t, l, "tcp")
	reborn := make(chan *Conn, 1)
	handler := &script{}
	handler.readable = func(c *Conn) {
		if told++; told > 1 {
			t.Error("a closed connection was told of its bytes")
			return
		}
		other := conns[0]
		if c == other {
			other = conns[1]
		}
		fd := other.fd
		other.Close()
		taken, err := unix.FcntlInt(uintptr(c.fd), unix.F_DUPFD_CLOEXEC, int(fd))
		if err != nil || taken != int(fd) {
			t.Errorf("descriptor %d is taken, got %d, %v", fd, taken, err)
		}
		unix.Close(taken)
		unix.Dup3(int(third.fd), int(fd), unix.O_CLOEXEC)
		newcomer := &Conn{fd: fd}
		l.add(newcomer, &script{readable: func(*Conn) { t.Error("a new connection was told of an old one's bytes") }}, 0)
		newcomer.Resume()
		c.Close()
		reborn <- newcomer
	}
	for i := range conns {
		conns[i], peers[i] = dial(t, l, "tcp")
		start(t, conns[i], handler)
	}
	on(t, l, func() { // both have something to say before epoll is asked
		peers[0].Write([]byte("x"))
		peers[1].Write([]byte("x"))
		time.Sleep(20 * time.Millisecond)
	})
	newcomer := await(t, reborn)
	g.clock.Skip(0)
	on(t, l, func() { newcomer.Close() })
}
