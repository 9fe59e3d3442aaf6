package reactor

import (
	"io"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// Handler is told what happens to a connection, on its loop. What it does with a connection in a callback may close
// that one or others.
type Handler interface {
	// Readable says that a Read will bring something: bytes, the end of the stream or an error. It is told again
	// as long as there is more, until reading is paused.
	Readable(c *Conn)
	// Drained says that all that was written has left, or that the connection has become writable after WaitWritable.
	Drained(c *Conn)
	// Failed says that the connection broke while nobody read from or wrote to it, that its callback panicked
	// (ErrPanic), or that its loop has ended (net.ErrClosed). It still wants to be closed.
	Failed(c *Conn, err error)
}

// Conn is one end of a connection on a loop: TCP, a Unix socket, or TLS over one of them. It begins paused.
type Conn struct {
	loop    *Loop
	handler Handler
	tls     *transport // nil for a plain end
	out     *outgoing  // nil while the peer takes all
	polled
	fd        int32
	armed     uint32 // events that the poller watches for
	reading   bool   // readable events are wanted
	waiting   bool   // writable events are wanted
	watched   bool   // the poller knows the descriptor
	queued    bool   // in the loop's ready list
	dry       bool   // the last read took all there was
	ending    bool   // the writing side is closed, or will be when out has left
	near      bool   // dialled on this machine itself
	truncated bool   // the TLS stream ended without a close_notify
	closed    bool
}

// add puts c on the loop, which owns c from here on, even if add fails.
func (l *Loop) add(c *Conn, handler Handler, events uint32) error {
	c.loop, c.handler = l, handler
	for int(c.fd) >= len(l.table) {
		l.table = append(l.table, nil)
	}
	l.table[c.fd] = c
	l.enrol(c)
	l.load.Add(1)
	if err := c.watch(events); err != nil {
		c.Close()
		return err
	}
	return nil
}

// Handle replaces the handler.
func (c *Conn) Handle(h Handler) { c.handler = h }

// Loop returns the loop that c belongs to.
func (c *Conn) Loop() *Loop { return c.loop }

// LocalAddr returns the address of this end; of a Unix socket none.
func (c *Conn) LocalAddr() netip.AddrPort {
	local, _ := addresses(c.fd)
	tcp, ok := local.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	at := tcp.AddrPort()
	return netip.AddrPortFrom(at.Addr().Unmap(), at.Port())
}

// Near reports whether the connection was dialled to this machine itself.
func (c *Conn) Near() bool { return c.near }

// Plain reports whether the stream's bytes are the descriptor's, as a splice needs it.
func (c *Conn) Plain() bool { return c.tls == nil }

// Truncated reports, after io.EOF, whether a TLS stream ended without a close_notify.
func (c *Conn) Truncated() bool { return c.truncated }

// Addresses returns both ends of the connection: a *net.TCPAddr each, or a *net.UnixAddr.
func (c *Conn) Addresses() (local, remote net.Addr) { return addresses(c.fd) }

// HungUp reports whether the peer has ended its stream, be it behind bytes that are yet to be read.
func (c *Conn) HungUp() bool { return c.closed || hungUp(c.fd) }

// Reading reports whether Readable events are wanted.
func (c *Conn) Reading() bool { return c.reading }

// Pause stops Readable events. A reset is still told.
func (c *Conn) Pause() {
	c.reading = false
	c.update()
}

// PauseBriefly is a Pause of which the poller is told only if there is something to read before the next Resume.
func (c *Conn) PauseBriefly() { c.reading = false }

// Resume starts Readable events.
func (c *Conn) Resume() {
	if c.reading || c.closed {
		return
	}
	c.reading = true
	c.update()
	if c.tls != nil { // what is decrypted already is invisible to the poller
		c.readAgain()
	}
}

// WaitWritable asks for one Drained event.
func (c *Conn) WaitWritable() {
	c.waiting = true
	c.update()
}

func (c *Conn) readAgain() {
	if !c.queued {
		c.queued = true
		c.loop.ready = append(c.loop.ready, c)
	}
}

// update makes the poller watch for what is wanted.
func (c *Conn) update() {
	var events uint32
	if c.reading {
		events |= unix.POLLIN
	}
	if c.waiting {
		events |= unix.POLLOUT
	}
	if c.closed || events == c.armed && (c.watched || events == 0) {
		return
	}
	if err := c.watch(events); err != nil {
		c.loop.group.log.Error("watching a connection failed", "error", err)
	}
}

// Read returns the next bytes, up to 64 KiB of them: none if none have come, and io.EOF at the end of the stream.
// They stand in the loop's buffer, which the next Read of any connection overwrites; until then they may be changed.
func (c *Conn) Read() ([]byte, error) { return c.ReadUpTo(bufferSize) }

// ReadUpTo is a Read of n bytes at most.
func (c *Conn) ReadUpTo(n int) ([]byte, error) {
	if c.closed {
		return nil, net.ErrClosed
	}
	buf := c.loop.buf[:min(n, bufferSize)]
	if c.tls != nil {
		return c.readTLS(buf)
	}
	n, err := receive(c.fd, buf)
	switch {
	case err == unix.EAGAIN:
		return nil, nil
	case err != nil:
		return nil, os.NewSyscallError("read", err)
	case n == 0:
		return nil, io.EOF
	}
	return buf[:n], nil
}

// Write sends p. What the peer does not take at once is kept, without a bound: whoever writes is to stop while
// Pending is not zero, until Drained.
func (c *Conn) Write(p []byte) error {
	if c.closed {
		return net.ErrClosed
	}
	if c.tls != nil {
		return c.writeTLS(p)
	}
	return c.send(p)
}

// send writes to the descriptor behind what waits already.
func (c *Conn) send(p []byte) error {
	if c.out == nil {
		n, err := send(c.fd, p)
		if err != nil {
			return os.NewSyscallError("write", err)
		}
		if n == len(p) {
			return nil
		}
		p = p[n:]
		c.out = &outgoing{}
	}
	c.out.add(c.loop, p)
	c.WaitWritable()
	return nil
}

// Pending returns the number of bytes that the peer has yet to take; of a TLS end, of ciphertext.
func (c *Conn) Pending() int {
	if c.out == nil {
		return 0
	}
	return c.out.bytes
}

// Taken returns how much of all that was written to a TCP peer its system has acknowledged, and how much is on its way; of a TLS end
// as ciphertext. Of a Unix socket, taken is not known.
func (c *Conn) Taken() (taken, onTheWay uint64, known bool) {
	taken, queued, known := acknowledged(c.fd)
	return taken, queued + uint64(c.Pending()), known
}

// writable sends what was kept; it reports whether the connection lives on.
func (c *Conn) writable() bool {
	if c.out != nil {
		if err := c.out.leave(c.loop, c.fd); err != nil {
			c.handler.Failed(c, os.NewSyscallError("write", err))
			return false
		}
		if c.Pending() > 0 {
			return true
		}
		c.dropPending()
		if c.ending {
			unix.Shutdown(int(c.fd), unix.SHUT_WR)
		}
	}
	c.waiting = false
	c.handler.Drained(c)
	c.update()
	return !c.closed
}

func (c *Conn) dropPending() {
	if c.out != nil {
		c.out.drop(c.loop)
		c.out = nil
	}
}

// CloseWrite ends the stream to the peer behind all that was written: with a FIN, on a TLS end after a close_notify.
func (c *Conn) CloseWrite() {
	if c.ending || c.closed {
		return
	}
	c.ending = true
	if c.tls != nil {
		c.tls.closeNotify()
	}
	if c.out == nil {
		unix.Shutdown(int(c.fd), unix.SHUT_WR)
	}
}

// Close closes the connection; what is pending is lost. A TLS peer is told by a close_notify.
func (c *Conn) Close() error {
	if c.closed {
		return nil
	}
	if c.loop == nil { // of a listener that has not begun, or accepted for a loop that has ended
		c.closed = true
		return c.shut()
	}
	if c.tls != nil && !c.ending {
		c.ending = true
		c.tls.closeNotify()
	}
	c.forget()
	return c.shut()
}

// Reset closes the connection such that a TCP peer sees a reset, and can't take what it has for all there was.
func (c *Conn) Reset() {
	if c.closed {
		return
	}
	unix.SetsockoptLinger(int(c.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	c.ending = true
	c.Close()
}

// forget takes c off the loop, and leaves it to the closing of the descriptor to take it out of the poller.
func (c *Conn) forget() {
	if h, ok := c.handler.(*handshaking); ok {
		h.feed.expire(net.ErrClosed)
	}
	c.closed, c.reading, c.waiting = true, false, false
	c.dropPending()
	c.loop.table[c.fd] = nil
	c.loop.load.Add(-1)
}

// Move gives c, which is paused and has nothing pending, to another loop, and has then run there. Its handler stays. It is closed where that
// can't be done, and then is not run.
func (c *Conn) Move(to *Loop, then func()) {
	if c.closed || c.out != nil || c.loop == to {
		if !c.closed && c.loop == to {
			then()
		}
		return
	}
	if c.watched {
		c.unwatch()
	}
	c.loop.dropReady(c)
	c.forget()
	c.closed = false
	posted := to.Post(func() {
		if err := to.add(c, c.handler, 0); err == nil {
			then()
		}
	})
	if !posted {
		c.closed = true
		c.shut()
	}
}

// Spare buffers are kept by a loop for pending bytes, so that a stall makes no garbage.
const (
	maxSpares    = 8
	maxSpareSize = 128 << 10
)

func (l *Loop) spare() []byte {
	n := len(l.spares)
	if n == 0 {
		return nil
	}
	buf := l.spares[n-1]
	l.spares = l.spares[:n-1]
	return buf
}

func (l *Loop) putSpare(buf []byte) {
	if cap(buf) <= maxSpareSize && len(l.spares) < maxSpares {
		l.spares = append(l.spares, buf[:0])
	}
}
