package proxy

import (
	"encoding/binary"
	"errors"
	"io"
	"os"
	"time"
)

// Limits on what an HTTP/2 client may make the server do that is not a request. net/http takes a
// header block of any number of frames, and resets at any speed.
const (
	maxStreams      = 100                // open at once
	maxHeaderBlock  = 2 * maxRequestHead // bytes of one HEADERS frame and its CONTINUATIONs
	maxHeaderFrames = 16                 // frames of one header block
	resetBurst      = 200                // RST_STREAM frames at once
	resetsPerSecond = 20                 // and after that
)

var (
	errHeaderFlood = errors.New("HTTP/2 header block of too many frames or bytes")
	errResetFlood  = errors.New("HTTP/2 client resets streams too fast")
)

// HTTP/2 frame types and flags (RFC 9113, section 6).
const (
	h2Headers      = 0x1
	h2RSTStream    = 0x3
	h2GoAway       = 0x7
	h2Continuation = 0x9
	h2EndHeaders   = 0x4

	h2PrefaceLen     = 24
	h2FrameHeaderLen = 9
)

// h2Conn is a client's HTTP/2 connection, decrypted, with its frame headers watched.
type h2Conn struct {
	*clientConn
	frames h2Frames
	logged bool
}

func newH2Conn(c *clientConn) *h2Conn {
	h := &h2Conn{clientConn: c, frames: newH2Frames()}
	h.idleForLong()
	return h
}

func (c *h2Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	for n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && !c.idleForLong() {
		n, err = c.Conn.Read(p)
	}
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		c.Write(c.frames.goAway())
		return 0, io.EOF
	}
	if bad := c.frames.watch(p[:n], time.Now()); bad != nil {
		if !c.logged {
			c.logged = true
			c.listener.server.logRefused(c.origin, badHead("%v", bad))
		}
		return 0, bad
	}
	return n, err
}

// begun notes that a stream's request has come: the connection is no longer idle.
func (c *h2Conn) begun() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open++; c.open == 1 {
		c.Conn.SetReadDeadline(time.Time{})
	}
}

// answered notes that a stream's response has ended. With the last one, the time that keepalive allows begins.
func (c *h2Conn) answered() {
	c.clientConn.answered()
	c.idleForLong()
}

// idleForLong reports whether the connection has had no stream for as long as keepalive allows; it sets the deadline for when that
// will be.
func (c *h2Conn) idleForLong() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open > 0 {
		c.Conn.SetReadDeadline(time.Time{})
		return false
	}
	until := c.idleSince.Add(c.listener.server.gen.Load().cfg.Timeouts.KeepAlive)
	c.Conn.SetReadDeadline(until)
	return past(until)
}

// h2Frames follows the frame headers of an HTTP/2 connection (RFC 9113, section 4.1).
type h2Frames struct {
	header    [h2FrameHeaderLen]byte
	headerLen int
	left      int // payload bytes to come, or bytes of the preface

	blockBytes, blockFrames int

	lastStream uint32 // the highest stream that HEADERS have opened

	resets    float64 // RST_STREAM frames that may still come
	resetTime time.Time
}

func newH2Frames() h2Frames { return h2Frames{left: h2PrefaceLen, resets: resetBurst} }

// watch takes the next bytes from the client and says when they are too many of a kind.
func (f *h2Frames) watch(p []byte, now time.Time) error {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, len(p))
			f.left -= n
			p = p[n:]
			continue
		}
		n := copy(f.header[f.headerLen:], p)
		f.headerLen += n
		p = p[n:]
		if f.headerLen < h2FrameHeaderLen {
			return nil
		}
		f.headerLen = 0
		f.left = int(binary.BigEndian.Uint32(f.header[:]) >> 8)
		if f.header[3] == h2Headers {
			f.lastStream = max(f.lastStream, binary.BigEndian.Uint32(f.header[5:])&^(1<<31))
		}
		if err := f.count(f.header[3], f.header[4], now); err != nil {
			return err
		}
	}
	return nil
}

// goAway is a GOAWAY frame without an error (RFC 9113, section 6.8).
func (f *h2Frames) goAway() []byte {
	frame := []byte{0, 0, 8, h2GoAway, 0, 0, 0, 0, 0}
	frame = binary.BigEndian.AppendUint32(frame, f.lastStream)
	return append(frame, 0, 0, 0, 0)
}

func (f *h2Frames) count(kind, flags byte, now time.Time) error {
	switch kind {
	case h2Headers, h2Continuation:
		if kind == h2Headers {
			f.blockBytes, f.blockFrames = 0, 0
		}
		f.blockBytes += f.left
		f.blockFrames++
		if f.blockBytes > maxHeaderBlock || f.blockFrames > maxHeaderFrames && flags&h2EndHeaders == 0 {
			return errHeaderFlood
		}
	case h2RSTStream:
		f.resets = min(resetBurst, f.resets+now.Sub(f.resetTime).Seconds()*resetsPerSecond)
		f.resetTime = now
		if f.resets--; f.resets < 0 {
			return errResetFlood
		}
	}
	return nil
}
