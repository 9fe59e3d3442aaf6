package reactor

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Transport carries a TLS connection, first over a blocking net.Conn and later over a loop's descriptor. It is to be
// put under tls.Server or tls.Client before the handshake; the handshake is done in a goroutine. Then [Adopt] takes
// the *tls.Conn.
type Transport struct {
	blocking net.Conn             // nil while on a loop
	conn     *Conn                // nil while blocking
	feed     atomic.Pointer[feed] // while it does its handshake
	left     []byte               // of the handshake: ciphertext to be read first
	leftErr  error                // and the end behind it
	secure   *tls.Conn
	local    net.Addr // nil on a loop
	remote   net.Addr
}

// NewTransport makes a Transport over a TCP connection or a Unix socket, and owns it from then on.
func NewTransport(conn net.Conn) *Transport {
	return &Transport{blocking: conn, local: conn.LocalAddr(), remote: conn.RemoteAddr()}
}

// wouldBlock is what crypto/tls takes for passing: it keeps temporary errors out of its state, and goes on where it was.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "no bytes at hand" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

var errWouldBlock net.Error = wouldBlock{}

// Read reads ciphertext. On a loop it never blocks, and makes no call to learn what the last one told.
func (t *Transport) Read(p []byte) (int, error) {
	feed := t.feed.Load()
	switch {
	case feed != nil:
		return feed.read(p)
	case len(t.left) > 0:
		n := copy(p, t.left)
		if t.left = t.left[n:]; len(t.left) == 0 {
			t.left = nil
		}
		return n, nil
	case t.leftErr != nil:
		return 0, t.leftErr
	case t.conn == nil:
		return t.blocking.Read(p)
	}
	return t.conn.readCiphertext(p)
}

// Write writes ciphertext. On a loop the records of one call of crypto/tls are collected and leave together.
func (t *Transport) Write(p []byte) (int, error) {
	feed := t.feed.Load()
	switch {
	case feed != nil:
		return feed.write(p)
	case t.conn == nil:
		return t.blocking.Write(p)
	}
	l := t.conn.loop
	if l == nil {
		return 0, errOnLoop // adopted, and never added
	}
	l.sealed = append(l.sealed, p...)
	return len(p), nil
}

// Close closes the connection. Of a handshake that is cancelled just as it ends, crypto/tls may call it late, when a loop has the
// connection again.
func (t *Transport) Close() error {
	if feed := t.feed.Load(); feed != nil {
		feed.expire(net.ErrClosed)
		return nil
	}
	if t.blocking != nil {
		return t.blocking.Close()
	}
	return errOnLoop
}

var errOnLoop = errors.New("connection belongs to an event loop")

// LocalAddr returns the local address.
func (t *Transport) LocalAddr() net.Addr {
	local, _ := t.addresses()
	return local
}

// RemoteAddr returns the peer's address.
func (t *Transport) RemoteAddr() net.Addr {
	_, remote := t.addresses()
	return remote
}

func (t *Transport) addresses() (local, remote net.Addr) {
	if t.local == nil && t.conn != nil && !t.conn.closed {
		return t.conn.Addresses()
	}
	return t.local, t.remote
}

// CloseWrite ends the stream to the peer.
func (t *Transport) CloseWrite() error {
	if half, ok := t.blocking.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errOnLoop
}

// SetLinger sets what Close does with bytes that the peer has yet to take, where the blocking connection is a TCP one.
func (t *Transport) SetLinger(seconds int) error {
	if tcp, ok := t.blocking.(*net.TCPConn); ok {
		return tcp.SetLinger(seconds)
	}
	return nil
}

// SetDeadline sets the deadlines of the blocking connection; a loop has none.
func (t *Transport) SetDeadline(at time.Time) error {
	if t.blocking != nil {
		return t.blocking.SetDeadline(at)
	}
	return nil
}

// SetReadDeadline sets the deadline for reads of the blocking connection.
func (t *Transport) SetReadDeadline(at time.Time) error {
	if t.blocking != nil {
		return t.blocking.SetReadDeadline(at)
	}
	return nil
}

// SetWriteDeadline sets the deadline for writes of the blocking connection.
func (t *Transport) SetWriteDeadline(at time.Time) error {
	if t.blocking != nil {
		return t.blocking.SetWriteDeadline(at)
	}
	return nil
}

func (c *Conn) readCiphertext(p []byte) (int, error) {
	if c.dry {
		return 0, errWouldBlock
	}
	n, err := receive(c.fd, p)
	switch {
	case err == unix.EAGAIN:
		c.dry = true
		return 0, errWouldBlock
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		c.truncated = true // after a close_notify nobody would have asked
		return 0, io.EOF
	}
	c.dry = n < len(p)
	return n, nil
}

// maxRecords is how many TLS records one read takes, however small they are: others are to have their turn.
const maxRecords = 64

// readTLS fills buf with what there is, up to maxRecords of it.
func (c *Conn) readTLS(buf []byte) ([]byte, error) {
	n := 0
	var err error
	for records := 0; n < len(buf) && err == nil && records < maxRecords; records++ {
		var got int
		got, err = c.tls.secure.Read(buf[n:])
		n += got
	}
	if flushErr := c.flush(); flushErr != nil && n == 0 {
		return nil, flushErr
	}
	if n > 0 {
		if err != errWouldBlock {
			c.readAgain() // there is more, or the end: both are known to crypto/tls only
		}
		return buf[:n], nil
	}
	switch {
	case err == errWouldBlock:
		return nil, nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, io.EOF
	}
	return nil, err
}

func (c *Conn) writeTLS(p []byte) error {
	_, err := c.tls.secure.Write(p)
	return errors.Join(err, c.flush())
}

// flush sends the records that the last call of crypto/tls made.
func (c *Conn) flush() error {
	l := c.loop
	if len(l.sealed) == 0 {
		return nil
	}
	err := c.send(l.sealed)
	l.sealed = l.sealed[:0]
	return err
}

func (t *Transport) closeNotify() {
	t.secure.CloseWrite()
	t.conn.flush()
}

// toLoop switches the transport to c's descriptor.
func (t *Transport) toLoop(c *Conn, secure *tls.Conn) {
	t.blocking, t.conn, t.secure = nil, c, secure
	c.tls = t
}

// NetConn returns the blocking connection, or nil on a loop.
func (t *Transport) NetConn() net.Conn { return t.blocking }
