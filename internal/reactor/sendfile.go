package reactor

import (
	"io"
	"math/rand/v2"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// SendFile sends p and then at most n bytes of a file, which stay inside the kernel, such that both may leave in one packet; it returns how many of the file
// the peer took. Where these are fewer, Drained will be told when there is room, or there is an error: ErrWouldWait where what comes next is not in the
// kernel's cache, io.ErrUnexpectedEOF where the file has ended. p is sent in any case, and kept as far as the peer does not take it. The end is a plain
// one, with nothing pending.
func (c *Conn) SendFile(p []byte, f *File, offset int64, n int) (sent int, err error) {
	if c.closed {
		return 0, net.ErrClosed
	}
	cached := f.cached(offset, n)
	if len(p) > 0 {
		if err := c.sendBefore(p, cached > 0); err != nil {
			return 0, err
		}
	}
	for sent < n && c.out == nil {
		if sent == cached {
			return sent, ErrWouldWait
		}
		moved, err := sendFile(c.fd, f, offset+int64(sent), cached-sent)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			c.WaitWritable()
			return sent, nil
		case err != nil:
			return sent, os.NewSyscallError("sendfile", err)
		case moved == 0:
			return sent, io.ErrUnexpectedEOF
		}
		sent += moved
	}
	return sent, nil
}

// sendBefore is send, of what may be followed at once by more.
func (c *Conn) sendBefore(p []byte, more bool) error {
	if !more {
		return c.send(p)
	}
	n, err := writeMore(c.fd, p)
	if err != nil {
		return os.NewSyscallError("sendmsg", err)
	}
	if n == len(p) {
		return nil
	}
	return c.send(p[n:])
}

// probeStride is the stretch of a file of which one byte is looked for in the kernel's cache, before it is sent out of that.
const probeStride = 64 << 10

// cached returns how many of n bytes at an offset are likely to be in the kernel's cache. Which byte of a stretch is looked for no client can foresee,
// and so none can have just those read.
func (f *File) cached(offset int64, n int) int {
	var one [1]byte
	for at := 0; at < n; at += probeStride {
		if _, err := f.ReadNow(one[:], offset+int64(at+rand.IntN(min(probeStride, n-at)))); err != nil {
			return at
		}
	}
	return n
}
