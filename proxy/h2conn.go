package proxy

import (
	"encoding/binary"
	"errors"
	"time"
)

// Limits on what an HTTP/2 client may make the server do that is not a request. net/http takes a
// header block of any number of frames, and resets at any speed.
const (
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
	return &h2Conn{clientConn: c, frames: h2Frames{left: h2PrefaceLen, resets: resetBurst}}
}

func (c *h2Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if bad := c.frames.watch(p[:n], time.Now()); bad != nil {
		if !c.logged {
			c.logged = true
			c.refused(c.clientConn, badHead("%v", bad))
		}
		return 0, bad
	}
	return n, err
}

// h2Frames follows the frame headers of an HTTP/2 connection (RFC 9113, section 4.1).
type h2Frames struct {
	header    [h2FrameHeaderLen]byte
	headerLen int
	left      int // payload bytes to come, or bytes of the preface

	blockBytes, blockFrames int

	resets    float64 // RST_STREAM frames that may still come
	resetTime time.Time
}

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
		if err := f.count(f.header[3], f.header[4], now); err != nil {
			return err
		}
	}
	return nil
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
