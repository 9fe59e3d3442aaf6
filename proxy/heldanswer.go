//go:build !linux || portable

package proxy

import (
	"errors"
	"io"
	"net"
	"sync"
	"time"
)

// smallAnswer is the length up to which an answer leaves in one write, head and body. net/http writes 4 KB at a time.
const smallAnswer = 16 << 10

// heldAnswer is what of a small answer was written so far.
type heldAnswer struct {
	buf    *[smallAnswer]byte // nil while nothing is held
	length int
}

var heldBuffers = sync.Pool{New: func() any { return new([smallAnswer]byte) }}

// hold keeps back what is written from now on, as far as a small answer goes, until [clientConn.letGo]. It belongs to the handler of a request of
// HTTP/1.x.
func (c *clientConn) hold() {
	if c.held.buf == nil {
		c.held = heldAnswer{buf: heldBuffers.Get().(*[smallAnswer]byte)}
	}
}

// letGo writes what is held, with p behind it, and holds nothing any more. It returns how much of p was written.
func (c *clientConn) letGo(p []byte) (int, error) {
	held := c.held
	if held.buf == nil && len(p) == 0 {
		return 0, nil
	}
	c.held = heldAnswer{}
	c.Conn.SetWriteDeadline(time.Now().Add(clientStall))
	if held.buf == nil {
		return c.Conn.Write(p)
	}
	defer heldBuffers.Put(held.buf)
	if len(p) == 0 {
		_, err := c.Conn.Write(held.buf[:held.length])
		return 0, err
	}
	pieces := net.Buffers{held.buf[:held.length], p}
	n, err := pieces.WriteTo(c.Conn)
	return max(0, int(n)-held.length), err
}

// holds takes p into what is held, and reports whether it could.
func (c *clientConn) holds(p []byte) bool {
	if c.held.buf == nil || c.held.length+len(p) > smallAnswer {
		return false
	}
	c.held.length += copy(c.held.buf[c.held.length:], p)
	return true
}

// holdFrom takes the whole of what is left of r into what is held, where there is room for it.
func (c *clientConn) holdFrom(r *io.LimitedReader) (taken bool, n int64, err error) {
	if c.held.buf == nil || int64(c.held.length)+r.N > smallAnswer {
		return false, 0, nil
	}
	got, err := io.ReadFull(r, c.held.buf[c.held.length:c.held.length+int(r.N)])
	c.held.length += got
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil // the writer of the answer will miss it
	}
	return true, int64(got), err
}
