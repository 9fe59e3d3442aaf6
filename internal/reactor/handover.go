package reactor

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Held is a plain connection that its loop neither reads from nor writes to nor waits for, so that another process can go on with it. Its methods
// are called on the loop.
type Held struct {
	conn    *Conn
	reading bool
	waiting bool
}

// Hold stops a plain connection. It is called by a posted function, so that no event is under way. Until [Held.Resume] nothing happens to the connection
// unless its loop ends, and its methods are not to be called.
func (c *Conn) Hold() *Held {
	h := &Held{conn: c, reading: c.reading, waiting: c.waiting}
	c.loop.dropReady(c)
	c.reading, c.waiting = false, false
	if c.watched {
		c.unwatch()
	}
	return h
}

// Descriptor returns a copy of the connection's, which is the caller's to close.
func (h *Held) Descriptor() (int, error) {
	fd, err := unix.FcntlInt(uintptr(h.conn.fd), unix.F_DUPFD_CLOEXEC, 0)
	return fd, os.NewSyscallError("dup", err)
}

// Unsent returns a copy of what the peer has yet to take.
func (h *Held) Unsent() []byte {
	out := h.conn.out
	if out == nil {
		return nil
	}
	unsent := make([]byte, 0, out.bytes)
	for i, part := range out.parts {
		if i == 0 {
			part = part[out.sent:]
		}
		unsent = append(unsent, part...)
	}
	return unsent
}

// Resume lets the connection go on where it was.
func (h *Held) Resume() {
	c := h.conn
	if c.closed {
		return
	}
	c.waiting = h.waiting
	if h.reading {
		c.Resume()
	} else {
		c.update()
	}
}

// Leave closes our descriptor, since another process goes on with the connection: its peer sees nothing of it.
func (h *Held) Leave() {
	if c := h.conn; !c.closed {
		c.forget()
		c.shut()
	}
}

// Inherited is a connection that another process has begun.
type Inherited struct {
	Descriptor int
	Unsent     []byte // what the peer has yet to take
	Ending     bool   // the writing side is closed, or will be when that has left
	Near       bool   // dialled on this machine itself
}

// ErrNoSocket says that an inherited descriptor is no connected stream socket.
var ErrNoSocket = errors.New("not a connected stream socket")

// Inherit makes a plain connection, which begins paused, of a descriptor that it owns, even if it fails. What is unsent waits until the
// connection is [Conn.Begin]'s. It is called on the loop.
func (l *Loop) Inherit(from Inherited, handler Handler) (*Conn, error) {
	if err := l.checkSocket(from.Descriptor); err != nil {
		unix.Close(from.Descriptor)
		return nil, err
	}
	c := &Conn{fd: int32(from.Descriptor), near: from.Near, ending: from.Ending}
	if err := l.add(c, handler, 0); err != nil {
		return nil, err
	}
	if len(from.Unsent) > 0 {
		c.out = &outgoing{}
		c.out.add(l, from.Unsent)
	}
	return c, nil
}

// checkSocket makes a descriptor one of a loop's, if it is a connected stream socket.
func (l *Loop) checkSocket(fd int) error {
	if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || kind != unix.SOCK_STREAM {
		return ErrNoSocket
	}
	if listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || listening != 0 {
		return ErrNoSocket
	}
	unix.CloseOnExec(fd)
	if err := unix.SetNonblock(fd, true); err != nil {
		return fmt.Errorf("inherited descriptor: %w", err)
	}
	return nil
}

// Begin lets what is unsent of an inherited connection leave; Drained is told when it has.
func (c *Conn) Begin() {
	if c.closed {
		return
	}
	switch {
	case c.out != nil:
		c.WaitWritable()
	case c.ending:
		unix.Shutdown(int(c.fd), unix.SHUT_WR) // again, if it was done before, which does no harm
	}
}

// Discard closes an inherited connection that has not begun, and stays another process's: its peer sees nothing of it.
func (c *Conn) Discard() { (&Held{conn: c}).Leave() }
