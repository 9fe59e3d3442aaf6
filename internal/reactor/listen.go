package reactor

import (
	"errors"
	"net"
	"net/netip"
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

// Listener accepts connections on one loop of a group, and shares them out among all. Were all loops to wait for them, every
// connection would wake every loop: exclusive waits do not hold through Go's own poller.
type Listener struct {
	group     *Group
	loop      *Loop
	conn      *Conn
	accept    func(c *Conn, peer netip.AddrPort)
	keepAlive KeepAlive
	inherited bool // what connections are to have, from the listening socket
	stopped   atomic.Bool
	pause     time.Duration // after the last failure
	timer     Timer
}

// Listen makes ready to accept from l, a TCP or Unix listener, on a descriptor of its own; [Listener.Start] begins. l stays
// the caller's, who must not accept from it. Each connection is given to accept, paused and without a handler, on the loop
// that it belongs to, with the peer's address, which is the zero AddrPort on a Unix socket; TCP connections have keepAlive and no delay
// for small writes. It is safe on any goroutine.
func (g *Group) Listen(l syscall.Conn, keepAlive KeepAlive, accept func(c *Conn, peer netip.AddrPort)) (*Listener, error) {
	fd, err := duplicate(l)
	if err != nil {
		return nil, err
	}
	turn := int(g.listeners.Add(1)) % len(g.Loops)
	ln := &Listener{
		group: g, loop: g.Loops[turn], conn: &Conn{fd: fd}, accept: accept,
		keepAlive: keepAlive, inherited: prepare(int(fd), keepAlive),
	}
	ln.timer.On = ln
	return ln, nil
}

// duplicate returns another descriptor of conn's. File and Fd would make it blocking.
func duplicate(conn syscall.Conn) (int32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var dup int
	var dupErr error
	err = raw.Control(func(fd uintptr) {
		dup, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err != nil {
		return 0, err
	}
	return int32(dup), os.NewSyscallError("dup", dupErr)
}

// Start begins to accept. It returns at once and is called once.
func (ln *Listener) Start() {
	if !ln.loop.Post(ln.open) {
		ln.conn.Close()
	}
}

// Stop ends the accepting, whether it has begun or not, and returns when the descriptor is closed; the connections live on. It is not
// to be called on a loop.
func (ln *Listener) Stop() {
	if ln.stopped.Swap(true) {
		return
	}
	closed := make(chan struct{})
	posted := ln.loop.Post(func() {
		defer close(closed)
		ln.loop.Stop(&ln.timer)
		if ln.conn.watched { // the socket may be another process's too, and then closing takes nothing out of the poller
			ln.conn.unwatch()
		}
		ln.conn.Close()
	})
	if posted {
		<-closed
	}
}

func (ln *Listener) open() {
	if ln.stopped.Load() {
		return
	}
	if err := ln.loop.add(ln.conn, ln, unix.POLLIN); err != nil {
		ln.group.log.Error("listening failed", "error", err)
		return
	}
	ln.conn.reading = true
}

// Readable accepts what is there.
func (ln *Listener) Readable(*Conn) {
	for range acceptBatch {
		if ln.stopped.Load() {
			return
		}
		fd, peer, err := acceptFrom(ln.conn.fd)
		switch {
		case err == nil:
			ln.pause = 0
			if !ln.inherited {
				setUp(int(fd), ln.keepAlive)
			}
			ln.place(&Conn{fd: fd}, peer)
		case err == unix.EAGAIN:
			return
		case err == unix.EINTR, err == unix.ECONNABORTED:
		default:
			ln.rest(err)
			return
		}
	}
}

// place gives a connection to this loop, or to one with clearly less to do.
func (ln *Listener) place(c *Conn, peer netip.AddrPort) {
	best := ln.group.Pick()
	own := ln.loop.load.Load()
	if best == ln.loop || own <= best.load.Load()+loadSlack {
		ln.hand(ln.loop, c, peer)
		return
	}
	best.load.Add(1) // from now on, or it would be given too many
	posted := best.Post(func() {
		best.load.Add(-1)
		ln.hand(best, c, peer)
	})
	if !posted {
		c.Close()
	}
}

func (ln *Listener) hand(l *Loop, c *Conn, peer netip.AddrPort) {
	if err := l.add(c, refusal{}, 0); err != nil {
		return
	}
	l.call(func() { ln.accept(c, peer) })
	if _, orphan := c.handler.(refusal); orphan && !c.closed {
		c.Close()
	}
}

// rest stops accepting for a while: descriptors have run out, and the poller would tell of the same connection for ever.
func (ln *Listener) rest(err error) {
	ln.pause = min(max(2*ln.pause, acceptPauseMin), acceptPauseMax)
	ln.group.acceptFailed(err, ln.pause)
	ln.conn.unwatch()
	ln.loop.Set(&ln.timer, ln.pause)
}

// acceptFailed logs, once a second at most for all listeners, that connections can't be accepted.
func (g *Group) acceptFailed(err error, pause time.Duration) {
	g.mu.Lock()
	g.acceptFailures++
	now := g.clock.Now()
	n, due := g.acceptFailures, now.Sub(g.acceptLogged) >= time.Second
	if due {
		g.acceptLogged, g.acceptFailures = now, 0
	}
	g.mu.Unlock()
	if due {
		g.log.Error("accepting failed", "error", os.NewSyscallError("accept4", err), "failures", n, "retry_in_ms", pause.Milliseconds())
	}
}

// Expired ends the rest.
func (ln *Listener) Expired() {
	if ln.stopped.Load() {
		return
	}
	if err := ln.conn.watch(unix.POLLIN); err != nil {
		ln.rest(err)
	}
}

// Drained is not told of a listener.
func (ln *Listener) Drained(*Conn) {}

// Failed ends the accepting.
func (ln *Listener) Failed(c *Conn, err error) {
	if !errors.Is(err, net.ErrClosed) {
		ln.group.log.Error("listening failed", "error", err)
	}
	c.Close()
}

// refusal handles connections that nobody has taken.
type refusal struct{}

func (refusal) Readable(c *Conn)        { c.Close() }
func (refusal) Drained(*Conn)           {}
func (refusal) Failed(c *Conn, _ error) { c.Close() }
