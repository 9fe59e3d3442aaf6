package http2

import (
	"encoding/binary"
	"time"

	"golang.org/x/net/http2/hpack"

	"wstunnel/internal/head"
)

// MaxStreams is how many requests a client may have open at once.
const MaxStreams = 100

// maxHeads bounds the heads of all streams that are open, counted as [MaxHeaderList] is. Beyond it, streams are refused.
const maxHeads = 1 << 20

// Conn is a connection at the server's end.
type Conn struct {
	// Out are the frames that are to be sent. They are the caller's to send, and to take out by [Conn.Sent].
	Out []byte
	// Now is the time, from any beginning.
	Now time.Duration

	// Stream is the one that an event is about.
	Stream *Stream
	// Data is the piece that a Data event is for.
	Data []byte
	// Trailers are those of an End event.
	Trailers head.Fields
	// Cause is why a stream was reset: nil where the client no longer wants its answer.
	Cause *Error

	budget   *Budget
	extended bool // CONNECT takes a :protocol
	hpack    *hpack.Decoder
	encoder  encoder
	guard    guard
	failed   *Error

	streams   []*Stream // in the order of their IDs
	heads     int       // bytes of all their heads
	grown     int64     // what all their windows took from the budget
	lastID    uint32    // the highest that the client has opened
	accepted  uint32    // the highest that is served, once the last GOAWAY is out
	draining  bool      // that is so
	cuts      []cut     // streams that this end has reset, the last one last
	ended     []uint32  // streams that both ends have ended
	nextEnded int

	send        int64 // what the client's window for the connection takes
	peerInitial int64 // what it takes of a new stream
	window      int64 // what the client may send on all streams
	returned    int64
	early       int64 // what it may have sent before it knew the windows of its streams, whatever these are (RFC 9113, section 6.9.2)

	dataAt, dataEnd int    // where the last DATA frame stands in Out
	dataOf          uint32 // and whose it is

	preface  int    // bytes of it that have come
	settled  bool   // the first SETTINGS have come
	kept     []byte // a frame that is not whole yet
	frame    frameHeader
	inData   bool    // the payload of a DATA frame is coming
	data     int     // bytes of it
	padding  int     // and behind them
	body     *Stream // whose they are, or nil
	opening  uint32  // the stream whose header block is coming, or 0
	fragment []byte  // what has come of it
	decoded  int     // see Decoded
	frames   int     // in how many frames
	last     bool    // END_STREAM came with it
	selfish  bool    // it depends on itself
	block    *block  // that is being decoded
	whole    *Stream // whose End is to be told next
}

// NewConn makes the server's end of a connection, with its first frames in out. With extended, it offers extended CONNECT (RFC 8441).
func NewConn(budget *Budget, extended bool, out []byte) *Conn {
	c := &Conn{
		Out: out, budget: budget, extended: extended, send: initialWindow, peerInitial: initialWindow, window: connectionWindow,
		early: initialWindow,
	}
	c.hpack = hpack.NewDecoder(headerTable, c.addField)
	settings := [][2]uint32{
		{settingMaxStreams, MaxStreams}, {settingInitialWindow, streamWindow}, {settingMaxHeaderList, MaxHeaderList},
	}
	if extended {
		settings = append(settings, [2]uint32{settingEnableConnect, 1})
	}
	c.Out = appendSettings(c.Out, settings...)
	c.Out = appendWindowUpdate(c.Out, 0, connectionWindow-initialWindow)
	return c
}

// Streams returns those that are open, in the order in which they were opened. The slice is not to be kept.
func (c *Conn) Streams() []*Stream { return c.streams }

// Rest lets go of what the last event was about.
func (c *Conn) Rest() {
	c.Stream, c.Data, c.Trailers, c.Cause = nil, nil, nil, nil
	if !c.inData {
		c.body = nil
	}
}

// Partial reports whether a frame or a header block has begun and not ended, or the connection not yet.
func (c *Conn) Partial() bool { return !c.settled || len(c.kept) > 0 || c.opening != 0 }

// Decoded returns what the header blocks have come to that came since the last call, counted as [MaxHeaderList] is: a byte can stand for kilobytes.
func (c *Conn) Decoded() int {
	n := c.decoded
	c.decoded = 0
	return n
}

// again is what a step tells that has done something, but for which there is no event.
const again Event = -1

// Next takes the next bytes and tells what they are; n of them are done with. When it fails, a GOAWAY that says why is in Out.
func (c *Conn) Next(p []byte) (n int, event Event, err error) {
	whole := len(p)
	for {
		if c.failed != nil {
			return whole - len(p), More, c.failed
		}
		n, event, failed := c.step(p)
		p = p[n:]
		if failed != nil {
			return whole - len(p), More, c.fail(failed)
		}
		switch {
		case event == again:
		case event != More:
			return whole - len(p), event, nil
		case n == 0:
			return whole - len(p), More, nil
		}
	}
}

// fail ends the connection.
func (c *Conn) fail(err *Error) *Error {
	c.failed = err
	c.Out = appendGoAway(c.Out, c.lastServed(), err.Code, err.Reason)
	return err
}

// step takes one piece; it takes none where it needs more.
func (c *Conn) step(p []byte) (n int, event Event, err *Error) {
	switch {
	case c.whole != nil:
		c.Stream, c.whole = c.whole, nil
		return 0, End, nil
	case c.preface < len(Preface):
		n, err = c.takePreface(p)
		return n, More, err
	case c.inData:
		return c.takeData(p)
	}
	return c.takeFrame(p)
}

func (c *Conn) takePreface(p []byte) (n int, err *Error) {
	for n < len(p) && c.preface < len(Preface) {
		if p[n] != Preface[c.preface] {
			return n, failure(ProtocolError, "no HTTP/2 connection preface")
		}
		c.preface++
		n++
	}
	return n, nil
}

// takeFrame takes a frame that is whole; of DATA, what stands before the payload. What is not whole yet is kept.
func (c *Conn) takeFrame(p []byte) (n int, event Event, err *Error) {
	for {
		known := c.kept
		if len(known) == 0 {
			known = p
		}
		want := frameHeaderLen
		if len(known) >= frameHeaderLen {
			more, err := c.wanted(parseFrameHeader(known))
			if err != nil {
				return n, More, err
			}
			want += more
		}
		if len(known) >= want && len(known) >= frameHeaderLen {
			if len(c.kept) == 0 {
				n = want
			}
			c.kept = nil
			event, err = c.handle(known[:want])
			return n, event, err
		}
		missing := min(want-len(c.kept), len(p))
		if missing == 0 {
			return n, More, nil
		}
		c.kept = append(c.kept, p[:missing]...)
		p = p[missing:]
		n += missing
	}
}

// wanted returns how many bytes behind the header of a frame are wanted at once.
func (c *Conn) wanted(h frameHeader) (int, *Error) {
	switch {
	case h.length > maxFrame:
		return 0, failure(FrameSizeError, "frame of %d bytes", h.length)
	case !c.settled && (h.kind != frameSettings || h.has(flagAck)):
		return 0, failure(ProtocolError, "the first frame is no SETTINGS")
	case c.opening != 0 && (h.kind != frameContinuation || h.stream != c.opening):
		return 0, failure(ProtocolError, "a header block is interrupted")
	case h.kind != frameData:
		return h.length, nil
	case h.has(flagPadded) && h.length > 0:
		return 1, nil
	}
	return 0, nil
}

// handle deals with a frame.
func (c *Conn) handle(frame []byte) (Event, *Error) {
	h, payload := parseFrameHeader(frame), frame[frameHeaderLen:]
	switch h.kind {
	case frameData:
		return c.beginData(h, payload)
	case frameHeaders:
		return c.headers(h, payload)
	case frameContinuation:
		return c.continuation(h, payload)
	case frameReset:
		return c.reset(h, payload)
	case frameWindowUpdate:
		return c.windowUpdate(h, payload)
	case frameSettings:
		return c.settings(h, payload)
	case framePing:
		return c.ping(h, payload)
	case framePriority:
		return c.priority(h, payload)
	case frameGoAway:
		if h.stream != 0 || len(payload) < goAwayLen {
			return More, failure(ProtocolError, "malformed GOAWAY")
		}
	case framePushPromise:
		return More, failure(ProtocolError, "PUSH_PROMISE from a client")
	}
	return More, c.control(1)
}

// control counts frames that are no requests.
func (c *Conn) control(n int64) *Error {
	if !c.guard.controls.take(c.Now, freeControls, n) {
		return errControlFlood
	}
	return nil
}

// update counts frames that acknowledge.
func (c *Conn) update() *Error {
	if !c.guard.updates.take(c.Now, freeUpdates, 1) {
		return errUpdateFlood
	}
	return nil
}

// provoked counts a stream that was reset by the client, or because of what it did.
func (c *Conn) provoked() *Error {
	if !c.guard.resets.take(c.Now, freeResets, 1) {
		return errResetFlood
	}
	return nil
}

// refuse resets a stream that is not open, or not any more.
func (c *Conn) refuse(id uint32, code Code) *Error {
	c.Out = appendReset(c.Out, id, code)
	return c.provoked()
}

// abandon resets an open stream for what its client did.
func (c *Conn) abandon(s *Stream, cause *Error) (Event, *Error) {
	c.Stream, c.Cause = s, cause
	c.Reset(s, cause.Code)
	return Reset, c.provoked()
}

// priority checks what nobody follows any more (RFC 9113, section 5.3.2).
func (c *Conn) priority(h frameHeader, p []byte) (Event, *Error) {
	switch {
	case h.stream == 0:
		return More, failure(ProtocolError, "PRIORITY of no stream")
	case len(p) != priorityLen:
		if s := c.find(h.stream); s != nil {
			return c.abandon(s, failure(FrameSizeError, "PRIORITY of %d bytes", len(p)))
		}
		return More, failure(FrameSizeError, "PRIORITY of %d bytes", len(p))
	case binary.BigEndian.Uint32(p)&streamMask == h.stream:
		if s := c.find(h.stream); s != nil {
			return c.abandon(s, failure(ProtocolError, "a stream depends on itself"))
		}
		return More, failure(ProtocolError, "a stream depends on itself")
	}
	return More, c.control(1)
}

func (c *Conn) reset(h frameHeader, p []byte) (Event, *Error) {
	switch {
	case len(p) != resetLen:
		return More, failure(FrameSizeError, "RST_STREAM of %d bytes", len(p))
	case h.stream == 0 || h.stream > c.lastID || h.stream%2 == 0:
		return More, failure(ProtocolError, "RST_STREAM of an idle stream")
	}
	if i := c.findCut(h.stream); i >= 0 {
		c.forgetCut(i)
		return More, nil
	}
	if err := c.provoked(); err != nil {
		return More, err
	}
	s := c.find(h.stream)
	if s == nil {
		return More, nil
	}
	c.Stream, c.Cause = s, nil
	c.close(s, false)
	return Reset, nil
}

func (c *Conn) ping(h frameHeader, p []byte) (Event, *Error) {
	switch {
	case h.stream != 0:
		return More, failure(ProtocolError, "PING on a stream")
	case len(p) != pingLen:
		return More, failure(FrameSizeError, "PING of %d bytes", len(p))
	}
	if h.has(flagAck) {
		if [pingLen]byte(p) == drainPing {
			return PingAcked, nil
		}
		return More, c.control(1)
	}
	c.Out = appendPing(c.Out, true, [pingLen]byte(p))
	return More, c.update()
}

// windowUpdate opens a window of the client's (RFC 9113, section 6.9).
func (c *Conn) windowUpdate(h frameHeader, p []byte) (Event, *Error) {
	if len(p) != updateLen {
		return More, failure(FrameSizeError, "WINDOW_UPDATE of %d bytes", len(p))
	}
	n := int64(binary.BigEndian.Uint32(p) & streamMask)
	if h.stream == 0 {
		switch c.send += n; {
		case n == 0:
			return More, failure(ProtocolError, "WINDOW_UPDATE of 0")
		case c.send > maxWindow:
			return More, failure(FlowControlError, "window of the connection above 2^31-1")
		}
		c.Stream = nil
		return Window, c.update()
	}
	if h.stream > c.lastID || h.stream%2 == 0 {
		return More, failure(ProtocolError, "WINDOW_UPDATE of an idle stream")
	}
	s := c.find(h.stream)
	if s == nil {
		return More, c.update()
	}
	switch s.send += n; {
	case n == 0:
		return c.abandon(s, failure(ProtocolError, "WINDOW_UPDATE of 0"))
	case s.send > maxWindow:
		return c.abandon(s, failure(FlowControlError, "window of a stream above 2^31-1"))
	}
	c.Stream = s
	return Window, c.update()
}

// settings takes what the client asks for (RFC 9113, section 6.5).
func (c *Conn) settings(h frameHeader, p []byte) (Event, *Error) {
	switch {
	case h.stream != 0:
		return More, failure(ProtocolError, "SETTINGS on a stream")
	case h.has(flagAck) && len(p) > 0, len(p)%settingLen != 0:
		return More, failure(FrameSizeError, "SETTINGS of %d bytes", len(p))
	case h.has(flagAck):
		c.early = 0
		return More, c.control(1)
	}
	c.settled = true
	count := len(p) / settingLen
	initial := c.peerInitial
	for ; len(p) > 0; p = p[settingLen:] {
		value := binary.BigEndian.Uint32(p[2:])
		switch binary.BigEndian.Uint16(p) {
		case settingHeaderTableSize:
			c.encoder.limit(value)
		case settingEnablePush, settingEnableConnect:
			if value > 1 {
				return More, failure(ProtocolError, "a setting that is 0 or 1 is %d", value)
			}
		case settingInitialWindow:
			if value > maxWindow {
				return More, failure(FlowControlError, "initial window above 2^31-1")
			}
			initial = int64(value)
		case settingMaxFrame:
			if value < maxFrame || value > 1<<24-1 {
				return More, failure(ProtocolError, "frames of at most %d bytes", value)
			}
		}
	}
	for _, s := range c.streams {
		if s.send += initial - c.peerInitial; s.send > maxWindow {
			return More, failure(FlowControlError, "window of a stream above 2^31-1")
		}
	}
	c.peerInitial = initial
	c.Out = appendFrameHeader(c.Out, 0, frameSettings, flagAck, 0)
	c.Stream = nil
	return Window, c.control(1 + int64(count/settingsPerControl))
}
