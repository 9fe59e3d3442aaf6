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

// transport is what a *tls.Conn reads from and writes to: its feed during the handshake, and the descriptor afterwards, on the loop only.
type transport struct {
	conn    *Conn
	feed    atomic.Pointer[feed] // nil after the handshake
	left    []byte               // of the handshake: ciphertext to be read first
	leftErr error                // and the end behind it
	ticket  []byte               // of the handshake: ciphertext to be sent first
	secure  *tls.Conn
}

// wouldBlock is what crypto/tls takes for passing: it keeps temporary errors out of its state, and goes on where it was.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "no bytes at hand" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

var errWouldBlock net.Error = wouldBlock{}

// Read reads ciphertext. On the loop it never blocks, and makes no call to learn what the last one told.
func (t *transport) Read(p []byte) (int, error) {
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
		t.conn.truncated = t.leftErr == io.EOF // after a close_notify nobody would have asked
		return 0, t.leftErr
	}
	return t.conn.readCiphertext(p)
}

// Write writes ciphertext. On the loop the records of one call of crypto/tls are collected and leave together.
func (t *transport) Write(p []byte) (int, error) {
	if feed := t.feed.Load(); feed != nil {
		return feed.write(p)
	}
	l := t.conn.loop
	l.ciphertext = append(append(l.ciphertext, t.ticket...), p...)
	t.ticket = nil
	return len(p), nil
}

// Close makes the handshake fail; the descriptor is the loop's to close. Of a handshake that is cancelled just as it ends, crypto/tls may
// call it late: then it does nothing.
func (t *transport) Close() error {
	if feed := t.feed.Load(); feed != nil {
		feed.expire(net.ErrClosed)
	}
	return nil
}

// LocalAddr returns the local address, which certificates may be chosen by.
func (t *transport) LocalAddr() net.Addr {
	local, _ := t.addresses()
	return local
}

// RemoteAddr returns the peer's address. On the loop crypto/tls asks for it when a session's ticket comes from a server that it has no name of.
func (t *transport) RemoteAddr() net.Addr {
	_, remote := t.addresses()
	return remote
}

func (t *transport) addresses() (local, remote net.Addr) {
	if feed := t.feed.Load(); feed != nil {
		return feed.local, feed.remote
	}
	return t.conn.Addresses()
}

// SetDeadline does nothing: what waits for a connection of a loop has a timer.
func (t *transport) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing.
func (t *transport) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing. crypto/tls calls it around a close_notify, and no write waits.
func (t *transport) SetWriteDeadline(time.Time) error { return nil }

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
	if len(l.ciphertext) == 0 {
		return nil
	}
	err := c.send(l.ciphertext)
	l.ciphertext = l.ciphertext[:0]
	return err
}

func (t *transport) closeNotify() {
	t.secure.CloseWrite()
	t.conn.flush()
}
