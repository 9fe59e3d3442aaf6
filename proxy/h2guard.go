//go:build !linux || portable

package proxy

import (
	"encoding/binary"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Limits on what an HTTP/2 client may make the server do that is not a request. net/http takes a
// header block of any number of frames, and all other frames at any speed.
const (
	maxStreams      = 100                // open at once
	maxHeaderBlock  = 2 * maxRequestHead // bytes of one HEADERS frame and its CONTINUATIONs
	maxHeaderFrames = 16                 // frames of one header block
	// sentPerUpdate is how many bytes a client must have been sent for each WINDOW_UPDATE or PING beyond those that are free: of small
	// DATA frames some clients acknowledge each twice.
	sentPerUpdate = 16
	// controlsPerStream is how many SETTINGS, PRIORITY and the like each stream allows beyond those that are free.
	controlsPerStream = 2
)

// What is free: so many at once, and so many a second after that.
var (
	freeResets   = allowance{burst: 200, perSecond: 20}
	freeControls = allowance{burst: 200, perSecond: 20}
	freeUpdates  = allowance{burst: 10_000, perSecond: 100}
	freeEmpties  = allowance{burst: 100, perSecond: 10}
)

var (
	errHeaderFlood  = errors.New("HTTP/2 header block of too many frames or bytes")
	errResetFlood   = errors.New("HTTP/2 client resets streams too fast, or has them reset")
	errControlFlood = errors.New("HTTP/2 client sends too many SETTINGS, PRIORITY or unknown frames")
	errUpdateFlood  = errors.New("HTTP/2 client sends too many WINDOW_UPDATE or PING frames")
	errEmptyFlood   = errors.New("HTTP/2 client sends too many empty DATA frames")
)

// HTTP/2 frame types, flags and error codes (RFC 9113, sections 6 and 7).
const (
	h2Data         = 0x0
	h2Headers      = 0x1
	h2RSTStream    = 0x3
	h2Ping         = 0x6
	h2GoAway       = 0x7
	h2WindowUpdate = 0x8
	h2Continuation = 0x9

	h2EndStream  = 0x1
	h2EndHeaders = 0x4
	h2Padded     = 0x8

	h2NoError       = 0x0
	h2InternalError = 0x2

	h2PrefaceLen     = 24
	h2FrameHeaderLen = 9
)

// h2Frame is a frame's header.
type h2Frame struct {
	length      int
	kind, flags byte
	stream      uint32
	code        uint32 // of an RST_STREAM
}

// h2Follower follows the frame headers of one direction of an HTTP/2 connection (RFC 9113, section 4.1).
type h2Follower struct {
	header [h2FrameHeaderLen + 4]byte
	have   int
	left   int // payload bytes to come, or bytes of the preface
}

// follow takes the next bytes, and has each frame counted when its header is there.
func (f *h2Follower) follow(p []byte, now time.Time, count func(h2Frame, time.Time) error) error {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, len(p))
			f.left -= n
			p = p[n:]
			continue
		}
		n := copy(f.header[f.have:f.want()], p)
		f.have += n
		p = p[n:]
		if f.have < f.want() {
			continue
		}
		frame := f.frame()
		f.left = max(0, frame.length-(f.have-h2FrameHeaderLen))
		f.have = 0
		if err := count(frame, now); err != nil {
			return err
		}
	}
	return nil
}

// want returns how many bytes tell what is to be known of a frame: the header, and of an RST_STREAM its code.
func (f *h2Follower) want() int {
	if f.have >= h2FrameHeaderLen && f.header[3] == h2RSTStream && f.frame().length >= 4 {
		return len(f.header)
	}
	return h2FrameHeaderLen
}

func (f *h2Follower) frame() h2Frame {
	return h2Frame{
		length: int(binary.BigEndian.Uint32(f.header[:]) >> 8), kind: f.header[3], flags: f.header[4],
		stream: binary.BigEndian.Uint32(f.header[5:]) &^ (1 << 31), code: binary.BigEndian.Uint32(f.header[h2FrameHeaderLen:]),
	}
}

// h2Guard counts what an HTTP/2 client makes the server do.
type h2Guard struct {
	blockBytes, blockFrames int

	mu         sync.Mutex // guards what follows
	lastStream uint32     // the highest that HEADERS have opened
	resets     tokens
	controls   tokens
	updates    tokens
	empties    tokens
	reset      [16]uint32 // the last streams that the server has reset
}

func newH2Guard() h2Guard {
	return h2Guard{resets: freeResets.all(), controls: freeControls.all(), updates: freeUpdates.all(), empties: freeEmpties.all()}
}

// received counts a frame of the client's, and says when that is too many of a kind.
func (g *h2Guard) received(f h2Frame, now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch f.kind {
	case h2Headers, h2Continuation:
		return g.header(f)
	case h2RSTStream:
		return g.resets.take(now, freeResets, errResetFlood)
	case h2WindowUpdate, h2Ping:
		return g.updates.take(now, freeUpdates, errUpdateFlood)
	case h2Data:
		// Of a padded frame the padding may be all: 255 bytes and their count.
		if f.flags&h2EndStream == 0 && (f.length == 0 || f.flags&h2Padded != 0 && f.length <= 256) {
			return g.empties.take(now, freeEmpties, errEmptyFlood)
		}
		return nil
	}
	return g.controls.take(now, freeControls, errControlFlood)
}

func (g *h2Guard) header(f h2Frame) error {
	if f.kind == h2Headers {
		g.blockBytes, g.blockFrames = 0, 0
		g.lastStream = max(g.lastStream, f.stream)
		g.controls.left += controlsPerStream
	}
	g.blockBytes += f.length
	g.blockFrames++
	if g.blockBytes > maxHeaderBlock || g.blockFrames > maxHeaderFrames && f.flags&h2EndHeaders == 0 {
		return errHeaderFlood
	}
	return nil
}

// answered counts a frame of the server's. Of DATA and HEADERS it notes how much there is that the client may acknowledge. The streams
// that the client has made the server reset count as if it had reset them itself. The server's own resets are none: those after an early
// answer, and those for a backend that broke off.
func (g *h2Guard) answered(f h2Frame, now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case f.kind == h2Data || f.kind == h2Headers:
		g.updates.left += float64(h2FrameHeaderLen+f.length) / sentPerUpdate
		return nil
	case f.kind != h2RSTStream, f.code == h2NoError, f.code == h2InternalError, slices.Contains(g.reset[:], f.stream):
		return nil // one stream is reset several times for what was on its way
	}
	copy(g.reset[1:], g.reset[:])
	g.reset[0] = f.stream
	return g.resets.take(now, freeResets, errResetFlood)
}

// goAway is a GOAWAY frame without an error (RFC 9113, section 6.8).
func (g *h2Guard) goAway() []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	frame := []byte{0, 0, 8, h2GoAway, 0, 0, 0, 0, 0}
	frame = binary.BigEndian.AppendUint32(frame, g.lastStream)
	return append(frame, 0, 0, 0, 0)
}

// allowance is how many of something are allowed at once, and after that.
type allowance struct{ burst, perSecond float64 }

func (a allowance) all() tokens { return tokens{left: a.burst} }

// tokens are what is left of an allowance.
type tokens struct {
	left float64
	at   time.Time // when it was last looked at
}

// take takes one, or fails with tooMany.
func (t *tokens) take(now time.Time, a allowance, tooMany error) error {
	t.left = min(a.burst, t.left+now.Sub(t.at).Seconds()*a.perSecond)
	t.at = now
	if t.left--; t.left < 0 {
		return tooMany
	}
	return nil
}

// contradicts reports a request over HTTP/2 with more than one Content-Length, or with one that is no number or that the end of its head
// shows to be wrong (RFC 9113, section 8.1.1). net/http takes the first, and what is no number for 0.
func contradicts(r *http.Request) bool {
	lengths := r.Header["Content-Length"]
	return len(lengths) > 1 || len(lengths) == 1 && lengths[0] != strconv.FormatInt(r.ContentLength, 10)
}
