//go:build linux

package reactor

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	acceptBatch    = 16 // connections taken in one go
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
	// loadSlack is by how many connections a loop may be ahead of another before it gives new ones away.
	loadSlack = 16
)

// Listener accepts connections on all loops of a group.
type Listener struct {
	group     *Group
	accept    func(c *Conn, peer unix.Sockaddr)
	keepAlive KeepAlive
	inherited bool // what connections are to have, from the listening socket
	stopped   atomic.Bool
	ears      []*ear
}

// ear is a loop's part of a Listener.
type ear struct {
	*Listener
	loop  *Loop
	conn  *Conn
	pause time.Duration // after the last failure
	timer Timer
}

// Listen makes ready to accept from l, a TCP or Unix listener, on descriptors of its own; [Listener.Start] begins. l stays
// the caller's, who must not accept from it. Each connection is given to accept, paused and without a handler, on the loop
// that it belongs to; TCP connections with keepAlive and without a delay for small writes. It is safe on any goroutine.
func (g *Group) Listen(l syscall.Conn, keepAlive KeepAlive, accept func(c *Conn, peer unix.Sockaddr)) (*Listener, error) {
	ln := &Listener{group: g, accept: accept, keepAlive: keepAlive}
	for _, loop := range g.Loops {
		fd, err := duplicate(l)
		if err != nil {
			for _, e := range ln.ears {
				unix.Close(int(e.conn.fd))
			}
			return nil, err
		}
		e := &ear{Listener: ln, loop: loop, conn: &Conn{fd: fd}}
		e.timer.On = e
		ln.ears = append(ln.ears, e)
	}
	ln.inherited = prepare(int(ln.ears[0].conn.fd), keepAlive)
	return ln, nil
}

// Start begins to accept. It returns at once and is called once.
func (ln *Listener) Start() {
	for _, e := range ln.ears {
		if !e.loop.Post(e.open) {
			e.conn.Close()
		}
	}
}

// Stop ends the accepting, whether it has begun or not, and closes the descriptors; the connections live on. It returns at
// once and is safe for concurrent use.
func (ln *Listener) Stop() {
	if ln.stopped.Swap(true) {
		return
	}
	for _, e := range ln.ears {
		e.loop.Post(func() {
			e.loop.Stop(&e.timer)
			e.conn.Close()
		})
	}
}

func (e *ear) open() {
	if e.stopped.Load() {
		return
	}
	e.conn.handler = e
	err := e.loop.add(e.conn, unix.EPOLLIN|unix.EPOLLEXCLUSIVE)
	if err != nil {
		e.group.log.Error("listening failed", "error", err)
		return
	}
	e.conn.reading = true
}

// Readable accepts what is there.
func (e *ear) Readable(*Conn) {
	for range acceptBatch {
		if e.stopped.Load() {
			return
		}
		fd, peer, err := unix.Accept4(int(e.conn.fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case err == nil:
			e.pause = 0
			if !e.inherited && isTCP(fd) {
				setUp(fd, e.keepAlive)
			}
			e.place(&Conn{fd: int32(fd)}, peer)
		case err == unix.EAGAIN:
			return
		case err == unix.EINTR, err == unix.ECONNABORTED:
		default:
			e.rest(err)
			return
		}
	}
}

// place gives a connection to this loop, or to one with clearly less to do.
func (e *ear) place(c *Conn, peer unix.Sockaddr) {
	best := e.group.Pick()
	own := e.loop.load.Load()
	if best == e.loop || own <= best.load.Load()+loadSlack {
		e.hand(e.loop, c, peer)
		return
	}
	best.load.Add(1) // from now on, or it would be given too many
	posted := best.Post(func() {
		best.load.Add(-1)
		e.hand(best, c, peer)
	})
	if !posted {
		unix.Close(int(c.fd))
	}
}

func (e *ear) hand(l *Loop, c *Conn, peer unix.Sockaddr) {
	if err := l.Add(c, refusal{}); err != nil {
		return
	}
	l.call(func() { e.accept(c, peer) })
	if _, orphan := c.handler.(refusal); orphan && !c.closed {
		c.Close()
	}
}

// rest stops accepting for a while: descriptors have run out, and epoll would tell of the same connection for ever.
func (e *ear) rest(err error) {
	e.pause = min(max(2*e.pause, acceptPauseMin), acceptPauseMax)
	e.group.log.Error("accepting failed", "error", os.NewSyscallError("accept4", err), "retry_in", e.pause)
	e.conn.mute()
	e.loop.Set(&e.timer, e.pause)
}

// Expired ends the rest.
func (e *ear) Expired() {
	if e.stopped.Load() {
		return
	}
	if err := e.conn.watch(unix.EPOLLIN | unix.EPOLLEXCLUSIVE); err != nil {
		e.rest(err)
	}
}

// Drained is not told of a listener.
func (e *ear) Drained(*Conn) {}

// Failed ends the accepting.
func (e *ear) Failed(c *Conn, err error) {
	if !errors.Is(err, net.ErrClosed) {
		e.group.log.Error("listening failed", "error", err)
	}
	c.Close()
}

// refusal handles connections that nobody has taken.
type refusal struct{}

func (refusal) Readable(c *Conn)        { c.Close() }
func (refusal) Drained(*Conn)           {}
func (refusal) Failed(c *Conn, _ error) { c.Close() }
