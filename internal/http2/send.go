package http2

import (
	"bytes"
	"net/http"

	"wstunnel/internal/head"
)

// drainPing tells the answer to the first GOAWAY's PING from others.
var drainPing = [pingLen]byte{'d', 'r', 'a', 'i', 'n', 'i', 'n', 'g'}

// lastServed returns the highest stream that is served, or was.
func (c *Conn) lastServed() uint32 {
	if c.draining {
		return c.accepted
	}
	return c.lastID
}

// Announce says that the connection is about to end, so that the client opens no more streams. What it sent before it knew is still served; when the
// PING behind it is acknowledged, nothing of that is on its way any more (RFC 9113, section 6.8).
func (c *Conn) Announce() {
	c.Out = appendGoAway(c.Out, maxWindow, NoError, "")
	c.Out = appendPing(c.Out, false, drainPing)
}

// Drain says which streams are served to their end. Others are passed over from now on.
func (c *Conn) Drain() {
	if c.draining {
		return
	}
	c.draining, c.accepted = true, c.lastID
	c.Out = appendGoAway(c.Out, c.accepted, NoError, "")
}

// Cut ends the connection for a reason of the caller's.
func (c *Conn) Cut(code Code, reason string) {
	if c.failed == nil {
		c.fail(failure(code, "%s", reason))
	}
}

// Respond makes the head of an answer: any number of 1xx, and then one that counts. With end there is nothing behind it. date is added where the
// fields have none; a length that is known, and not of what an answer to HEAD leaves out, is said.
func (c *Conn) Respond(s *Stream, r *head.Response, date string, framed, end bool) {
	if s.closed || s.localEnded {
		return
	}
	e := &c.encoder
	start := len(c.Out)
	e.begin(append(c.Out, headerSpace...))
	e.status(r.Status)
	for i := range r.Fields {
		f := &r.Fields[i]
		switch {
		case connectionFields.Has(f.ID), framed && f.ID == head.ContentLength:
		default:
			e.field(f)
		}
	}
	if framed && r.Length >= 0 && r.Status >= http.StatusOK {
		e.length(r.Length)
	}
	if r.Status >= http.StatusOK && !r.Fields.Has(head.Date) {
		e.date(date)
	}
	c.sendBlock(s, start, end)
}

// SendTrailers ends an answer with fields.
func (c *Conn) SendTrailers(s *Stream, trailers head.Fields) {
	if s.closed || s.localEnded {
		return
	}
	start := len(c.Out)
	c.encoder.begin(append(c.Out, headerSpace...))
	for i := range trailers {
		if f := &trailers[i]; !connectionFields.Has(f.ID) {
			c.encoder.field(f)
		}
	}
	c.sendBlock(s, start, true)
}

// headerSpace is where the header of a frame will stand.
var headerSpace = make([]byte, frameHeaderLen)

// sendBlock makes frames of the header block that was encoded behind start, and room for a frame header, in Out.
func (c *Conn) sendBlock(s *Stream, start int, end bool) {
	var flags uint8
	if end {
		flags = flagEndStream
	}
	all := c.encoder.block
	c.encoder.block = nil
	c.guard.sentBytes(len(all) - start)
	if n := len(all) - start - frameHeaderLen; n <= maxFrame {
		appendFrameHeader(all[:start], n, frameHeaders, flags|flagEndHeaders, s.ID)
		c.Out = all
	} else {
		c.Out = appendBlock(all[:start], bytes.Clone(all[start+frameHeaderLen:]), flags, s.ID)
	}
	if end {
		c.endLocal(s)
	}
}

// appendBlock makes several frames of a long header block.
func appendBlock(dst, p []byte, flags uint8, stream uint32) []byte {
	for kind := frameHeaders; len(p) > 0; kind, flags = frameContinuation, 0 {
		n := min(len(p), maxFrame)
		if n == len(p) {
			flags |= flagEndHeaders
		}
		dst = append(appendFrameHeader(dst, n, kind, flags, stream), p[:n]...)
		p = p[n:]
	}
	return dst
}

// Sendable returns how many bytes a DATA frame of a stream may hold now.
func (c *Conn) Sendable(s *Stream) int {
	if s.closed {
		return 0
	}
	return int(max(0, min(s.send, c.send, maxFrame)))
}

// Stalled reports whether it is the client that keeps a stream from being sent: by its window, or by that of the connection.
func (c *Conn) Stalled(s *Stream) (byStream, byConn bool) { return s.send <= 0, c.send <= 0 }

// SendData makes a DATA frame of as much as is sendable; with end it ends the answer.
func (c *Conn) SendData(s *Stream, p []byte, end bool) {
	if s.closed || s.localEnded {
		return
	}
	var flags uint8
	if end {
		flags = flagEndStream
	}
	if end && len(p) == 0 && c.dataOf == s.ID && c.dataEnd == len(c.Out) {
		c.Out[c.dataAt+4] |= flagEndStream // the frame before this one can say it
		c.endLocal(s)
		return
	}
	c.dataAt, c.dataOf = len(c.Out), s.ID
	c.Out = append(appendFrameHeader(c.Out, len(p), frameData, flags, s.ID), p...)
	c.dataEnd = len(c.Out)
	s.send -= int64(len(p))
	c.send -= int64(len(p))
	c.guard.sentBytes(frameHeaderLen + len(p))
	if end {
		c.endLocal(s)
	}
}

// Sent says that all of Out is on its way, and gives it a new place, which may be the old one.
func (c *Conn) Sent(place []byte) { c.Out, c.dataAt, c.dataEnd = place[:0], 0, -1 }

func (c *Conn) endLocal(s *Stream) {
	s.localEnded = true
	if s.remoteEnded {
		c.close(s, false)
	}
}

// Reset ends a stream before its time: with [NoError] one that was answered and whose body is not wanted any more (RFC 9113, section 8.1).
func (c *Conn) Reset(s *Stream, code Code) {
	if s.closed {
		return
	}
	c.Out = appendReset(c.Out, s.ID, code)
	c.close(s, true)
}
