package admin

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// peer is who has connected.
type peer struct {
	uid uint32
	err error // it is not known
}

// refusal tells one why who may not.
func (p peer) refusal() string {
	if p.err != nil {
		return fmt.Sprintf("who asks is not known: %v", p.err)
	}
	owner := "root"
	if uid := os.Geteuid(); uid != 0 {
		owner = fmt.Sprintf("root and user %d", uid)
	}
	return fmt.Sprintf("user %d may not; %s may, and whom admin.allow names", p.uid, owner)
}

// door is the control socket as the server uses it: of those who may not ask it lets only a few in at a time, to be told so, and none of their connections takes
// the place of a client's.
type door struct {
	*Socket
	gate      *gate
	strangers chan struct{}
}

func newDoor(s *Socket, g *gate) *door { return &door{s, g, make(chan struct{}, maxStrangers)} }

// Accept returns the next connection that is let in.
func (d *door) Accept() (*caller, error) {
	for {
		conn, err := d.AcceptUnix()
		if err != nil {
			return nil, err
		}
		c := &caller{UnixConn: conn}
		if c.peer.uid, c.peer.err = peerUID(conn); d.gate.user(c.peer) != nil {
			return c, nil
		}
		select {
		case d.strangers <- struct{}{}:
			c.left = func() { <-d.strangers }
			return c, nil
		default:
			conn.Close()
		}
	}
}

// caller is a connection, and whose it is.
type caller struct {
	*net.UnixConn
	peer  peer
	left  func() // called when it is closed; nil for nothing
	once  sync.Once
	first *bufio.Reader
	http  atomic.Bool // it is known to speak HTTP
}

// Read reads, with what was looked at to know what the connection speaks.
func (c *caller) Read(p []byte) (int, error) { return c.first.Read(p) }

// Close closes the connection.
func (c *caller) Close() error {
	err := c.UnixConn.Close()
	c.once.Do(func() {
		if c.left != nil {
			c.left()
		}
	})
	return err
}

// farewell is how long a connection is open yet that was told that there is no room.
const farewell = time.Second

// dismiss says that there is no room.
func (c *caller) dismiss() {
	if c.http.Load() {
		io.WriteString(atOnce{c}, noRoom())
	} else {
		tell(atOnce{c}, 0, errNoRoom)
	}
	c.CloseWrite()
	c.SetReadDeadline(time.Now().Add(farewell))
}

// atOnce writes what a connection has room for: all, to one who has been sent nothing yet or has read it. It waits for nothing, and ends a write that does.
type atOnce struct {
	conn interface {
		syscall.Conn
		SetWriteDeadline(time.Time) error
	}
}

// Write writes what there is room for.
func (w atOnce) Write(p []byte) (n int, err error) {
	w.conn.SetWriteDeadline(time.Now())
	raw, err := w.conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	gone := raw.Control(func(fd uintptr) { n, err = unix.Write(int(fd), p) })
	return max(n, 0), cmp.Or(gone, err)
}
