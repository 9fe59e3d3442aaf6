package http2

import (
	"encoding/binary"
	"slices"

	"wstunnel/internal/head"
)

// headers takes the beginning of a header block (RFC 9113, section 6.2).
func (c *Conn) headers(h frameHeader, p []byte) (Event, *Error) {
	p, ok := unpad(h, p)
	switch {
	case h.stream == 0 || h.stream%2 == 0:
		return More, failure(ProtocolError, "HEADERS on stream %d", h.stream)
	case !ok || h.has(flagPriority) && len(p) < priorityLen:
		return More, failure(ProtocolError, "HEADERS with more padding than payload")
	}
	c.selfish = false
	if h.has(flagPriority) {
		c.selfish = binary.BigEndian.Uint32(p)&streamMask == h.stream
		p = p[priorityLen:]
	}
	c.last, c.frames = h.has(flagEndStream), 1
	if h.has(flagEndHeaders) {
		return c.endBlock(h.stream, p)
	}
	c.opening = h.stream
	c.fragment = append([]byte(nil), p...)
	return More, nil
}

// continuation takes more of a header block (RFC 9113, section 6.10).
func (c *Conn) continuation(h frameHeader, p []byte) (Event, *Error) {
	if c.opening == 0 {
		return More, failure(ProtocolError, "CONTINUATION of no header block")
	}
	c.frames++
	if len(c.fragment)+len(p) > maxBlock || c.frames > maxBlockFrames && !h.has(flagEndHeaders) {
		return More, errBlockFlood
	}
	c.fragment = append(c.fragment, p...)
	if !h.has(flagEndHeaders) {
		return More, nil
	}
	whole := c.fragment
	c.opening, c.fragment = 0, nil
	return c.endBlock(h.stream, whole)
}

// endBlock deals with a header block that is whole.
func (c *Conn) endBlock(id uint32, p []byte) (Event, *Error) {
	b, err := c.decode(p)
	if err != nil {
		return More, err
	}
	c.decoded += b.size
	if s := c.find(id); s != nil {
		return c.endWithTrailers(s, b)
	}
	if id <= c.lastID {
		return c.strayBlock(id)
	}
	c.lastID = id
	switch {
	case c.draining:
		return Unserved, c.control(1) // it was told so (RFC 9113, section 6.8)
	case len(c.streams) >= MaxStreams:
		return c.turnAway(id, RefusedStream)
	}
	return c.open(id, b)
}

// strayBlock deals with trailers of a stream that is no longer open.
func (c *Conn) strayBlock(id uint32) (Event, *Error) {
	i := c.findCut(id)
	switch {
	case i >= 0 && c.last:
		c.forgetCut(i)
		return Unserved, nil
	case i >= 0:
		return Unserved, c.control(1)
	case slices.Contains(c.ended, id):
		return More, failure(StreamClosed, "HEADERS on stream %d, which is closed", id)
	}
	return More, failure(ProtocolError, "HEADERS on stream %d, which is behind the last one", id)
}

// open begins a stream.
func (c *Conn) open(id uint32, b *block) (Event, *Error) {
	r, refused, malformed := b.request(c.last, c.extended)
	if c.selfish && malformed == nil {
		malformed = failure(ProtocolError, "a stream depends on itself")
	}
	if malformed != nil {
		return c.turnAway(id, malformed.Code)
	}
	if refused == tooLarge {
		if err := c.provoked(); err != nil {
			return More, err
		}
		b.size = 0
	}
	if c.heads+b.size > maxHeads {
		return c.turnAway(id, RefusedStream)
	}
	c.heads += b.size
	c.guard.controls.earn(controlsPerStream)
	s := &Stream{
		ID: id, Request: r, Refusal: refused, left: head.Unknown, send: c.peerInitial, window: streamWindow, size: streamWindow, most: maxStreamWindow,
		head:        b.size,
		remoteEnded: c.last,
	}
	if r != nil {
		s.left = r.Length
	}
	c.streams = append(c.streams, s)
	c.Stream = s
	if c.last {
		c.whole, c.Trailers = s, nil
	}
	return Request, nil
}

// turnAway resets a stream that was not opened.
func (c *Conn) turnAway(id uint32, code Code) (Event, *Error) {
	if c.last {
		c.rememberEnded(id)
	} else {
		c.rememberCut(id, streamWindow)
	}
	return Unserved, c.refuse(id, code)
}

func (c *Conn) endWithTrailers(s *Stream, b *block) (Event, *Error) {
	if s.remoteEnded {
		return c.abandon(s, failure(StreamClosed, "HEADERS behind the end of the request"))
	}
	trailers, err := b.trailers()
	switch {
	case err != nil:
	case !c.last:
		err = failure(ProtocolError, "trailers that do not end the request")
	case c.selfish:
		err = failure(ProtocolError, "a stream depends on itself")
	case s.left > 0:
		err = failure(ProtocolError, "the body is %d bytes shorter than its content-length", s.left)
	}
	if err != nil {
		return c.abandon(s, err)
	}
	return c.endRequest(s, trailers), nil
}

func (c *Conn) endRequest(s *Stream, trailers head.Fields) Event {
	s.remoteEnded = true
	c.Stream, c.Trailers = s, trailers
	if s.localEnded {
		c.close(s, false)
	}
	return End
}

// beginData takes what stands before the payload of a DATA frame (RFC 9113, section 6.1). Windows are charged with all of the frame.
func (c *Conn) beginData(h frameHeader, p []byte) (Event, *Error) {
	c.frame, c.data, c.padding, c.body = h, h.length, 0, nil
	if h.has(flagPadded) {
		if len(p) == 0 || int(p[0]) >= h.length {
			return More, failure(ProtocolError, "DATA with more padding than payload")
		}
		c.padding = int(p[0])
		c.data -= 1 + c.padding
	}
	if h.stream == 0 || h.stream > c.lastID || h.stream%2 == 0 {
		return More, failure(ProtocolError, "DATA on an idle stream")
	}
	n := int64(h.length)
	if n > c.window {
		return More, failure(FlowControlError, "more DATA than the window of the connection takes")
	}
	c.window -= n
	c.grantConnection(n)
	early := n <= c.early
	c.early -= min(n, c.early)
	c.inData = true
	if c.data == 0 && !h.has(flagEndStream) && !c.guard.empties.take(c.Now, freeEmpties, 1) {
		return More, errEmptyFlood
	}
	s := c.find(h.stream)
	if s == nil {
		return c.strayData(h, early)
	}
	switch s.window -= n; {
	case s.remoteEnded:
		return c.abandon(s, failure(StreamClosed, "DATA behind the end of the request"))
	case s.window < 0 && !early:
		return c.abandon(s, failure(FlowControlError, "more DATA than the window of the stream takes"))
	case s.left >= 0 && int64(c.data) > s.left:
		return c.abandon(s, failure(ProtocolError, "the body is longer than its content-length"))
	}
	if s.left >= 0 {
		s.left -= int64(c.data)
	}
	c.body = s
	c.Grant(s, h.length-c.data)
	return More, nil
}

// strayData deals with DATA of a stream that is no longer open: what was on its way when it was reset is passed over.
func (c *Conn) strayData(h frameHeader, early bool) (Event, *Error) {
	i := c.findCut(h.stream)
	switch {
	case i >= 0 && (early || h.length <= int(c.cuts[i].window)):
		if c.cuts[i].window -= int32(h.length); h.has(flagEndStream) {
			c.forgetCut(i)
		}
		return More, nil
	case c.draining && h.stream > c.accepted:
		return More, c.control(1)
	}
	return More, c.refuse(h.stream, StreamClosed)
}

// takeData takes a piece of the payload of a DATA frame, or the padding behind it.
func (c *Conn) takeData(p []byte) (n int, event Event, err *Error) {
	s := c.body
	if s != nil && s.closed {
		s, c.body = nil, nil
	}
	if c.data > 0 {
		n = min(c.data, len(p))
		c.data -= n
		if n == 0 || s == nil {
			return n, More, nil
		}
		c.Stream, c.Data = s, p[:n]
		return n, Data, nil
	}
	n = min(c.padding, len(p))
	if c.padding -= n; c.padding > 0 {
		return n, More, nil
	}
	c.inData, c.body = false, nil
	if s == nil || !c.frame.has(flagEndStream) {
		return n, again, nil
	}
	if s.left > 0 {
		event, err = c.abandon(s, failure(ProtocolError, "the body is %d bytes shorter than its content-length", s.left))
		return n, event, err
	}
	return n, c.endRequest(s, nil), nil
}
