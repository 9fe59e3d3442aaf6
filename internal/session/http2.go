package session

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/http2"
	"wstunnel/internal/reactor"
)

// HTTP2 is a client's connection over HTTP/2: requests and their answers side by side. What is written in one turn of the loop leaves together at its end.
type HTTP2 struct {
	conn   *reactor.Conn
	worker *Worker
	server Server
	proto  *http2.Conn
	timer  reactor.Timer
	phase  phase // serving until the connection is let end

	waiting []*stream // that have something to send and a window to do so, the next first
	touched []*stream // whose bodies came in the read that is dealt with

	ahead       []byte // read, and not yet decoded
	corked      bool   // frames are collected until the turn ends
	busy        bool   // a stream was opened since the last time that there was none
	drainWanted bool   // the connection is to be let end
	tunnels     int    // streams that are some
	announced   bool   // the first GOAWAY was sent
	draining    bool   // and the second

	armed     time.Duration // when the timer runs out, or 0
	partial   time.Duration // since when a frame has not been whole, or 0
	idleSince time.Duration // when the last stream ended
	drainBy   time.Duration // when the second GOAWAY follows at the latest
	passed    int           // bytes that came after the end
	backlog   int           // bytes that were not taken when the last ones were written
	takenAt   time.Duration // when it was seen last that the client had taken some
	taken     uint64        // bytes that its system had taken then, where that is known
	sent      int64         // bytes of DATA
	sentThen  int64         // when a stream began to wait for the connection's window
	sentSince time.Duration
}

// ServeHTTP2 takes over a client's connection on its loop. Windows grow out of the budget.
func ServeHTTP2(conn *reactor.Conn, worker *Worker, server Server, budget *http2.Budget) *HTTP2 {
	now := conn.Loop().Now()
	h := &HTTP2{conn: conn, worker: worker, server: server, phase: serving, idleSince: now, partial: now}
	h.timer.On = h
	h.proto = http2.NewConn(budget, true, worker.place())
	conn.Handle(h)
	h.corked = true
	conn.Loop().AtTurnsEnd(h)
	requestHead, _ := server.Timeouts()
	h.await(now + requestHead)
	conn.Resume()
	return h
}

// Conn returns the connection.
func (h *HTTP2) Conn() *reactor.Conn { return h.conn }

// Readable takes what the client sent.
func (h *HTTP2) Readable(*reactor.Conn) {
	p, err := h.conn.Read()
	switch {
	case errors.Is(err, io.EOF):
		h.lost(io.EOF)
	case err != nil:
		h.lost(err)
	case h.phase == lingering:
		if h.passed += len(p); h.passed > lingerMost {
			h.close()
		}
	case len(p) == 0:
	default:
		h.feed(p)
	}
}

// cork collects frames until the turn ends.
func (h *HTTP2) cork() {
	h.proto.Now = h.conn.Loop().Now()
	if !h.corked {
		h.corked = true
		h.proto.Sent(h.worker.place())
		h.conn.Loop().AtTurnsEnd(h)
	}
}

// feed decodes what has come. When that was work enough for a turn, the rest waits until others have had theirs.
func (h *HTTP2) feed(p []byte) {
	h.cork()
	for work := 0; h.phase == serving; work++ {
		if work >= turnWork && len(p) > 0 {
			h.goOnLater(p)
			break
		}
		n, event, err := h.proto.Next(p)
		p = p[n:]
		if err != nil {
			h.refused(err)
			break
		}
		if event == http2.More {
			break
		}
		work += h.proto.Decoded() / bytesPerWork
		if event == http2.Request || event == http2.Unserved {
			work += requestWork
		}
		h.take(event)
	}
	for i, s := range h.touched {
		h.touched[i] = nil
		s.touched = false
		s.deliver()
	}
	h.touched = h.touched[:0]
	h.worker.FlushAsk()
	h.notePartial()
}

// goOnLater decodes the rest in another turn. Meanwhile nothing is read.
func (h *HTTP2) goOnLater(p []byte) {
	h.ahead = bytes.Clone(p)
	h.conn.Pause()
	h.conn.Loop().Post(func() { h.conn.Do(h.goOn) })
}

// goOn reads on, unless the client does not take what it is answered.
func (h *HTTP2) goOn() {
	if h.phase != serving || h.conn.Pending() > unreadMost {
		return
	}
	p := h.ahead
	h.ahead = nil
	if !h.conn.Reading() {
		h.conn.Resume()
		h.partial = 0 // what was not read was not late
		h.notePartial()
	}
	if len(p) > 0 {
		h.feed(p)
	}
}

// take deals with an event.
func (h *HTTP2) take(event http2.Event) {
	if event == http2.Request {
		h.begin(h.proto.Stream)
		return
	}
	var s *stream
	if h.proto.Stream != nil {
		s, _ = h.proto.Stream.Owner.(*stream)
	}
	switch {
	case event == http2.PingAcked:
		h.drain()
	case event == http2.Window && s == nil:
		for _, state := range h.proto.Streams() {
			state.Owner.(*stream).queueUp()
		}
	case s == nil:
	case event == http2.Window:
		s.queueUp()
	case event == http2.Data:
		s.data(h.proto.Data)
	case event == http2.End:
		s.trailers, s.whole = h.proto.Trailers, true
		s.touch()
	case event == http2.Reset:
		h.reset(s)
	}
}

// begin begins to serve a request.
func (h *HTTP2) begin(state *http2.Stream) {
	s := &stream{session: h, state: state, request: state.Request, heard: h.conn.Loop().Now()}
	state.Owner, h.busy = s, true
	if state.Refusal != nil {
		h.server.Refused(state.Refusal)
		refuse(s, state.Refusal)
		return
	}
	exchange := h.server.Requested(s, s.request)
	if !s.answered && !s.state.Closed() {
		s.exchange = exchange
	}
	if !s.state.Ended() {
		h.await(s.heard + stall)
	}
}

// reset deals with a stream that its client has ended, or made us end.
func (h *HTTP2) reset(s *stream) {
	if s.switched {
		s.deliver() // a browser that leaves a page says so, and resets in the same breath
	}
	exchange := s.exchange
	s.drop()
	switch cause := h.proto.Cause; {
	case exchange == nil:
	case cause == nil:
		exchange.Gone(io.EOF)
	default:
		exchange.Gone(cause)
	}
}

// refused ends a connection whose client breaks the protocol, or asks too much.
func (h *HTTP2) refused(err error) {
	h.server.Refused(head.Bad("%v", err))
	h.end(err)
}

// end lets the connection end behind what was written, whatever is open on it.
func (h *HTTP2) end(err error) {
	h.abandon(err)
	h.flush()
	h.beginLingering()
}

// abandon tells all exchanges that the client is gone.
func (h *HTTP2) abandon(err error) {
	var exchanges []Exchange
	for _, state := range h.proto.Streams() {
		s := state.Owner.(*stream)
		if s.exchange != nil {
			exchanges = append(exchanges, s.exchange)
		}
		s.drop()
	}
	clear(h.waiting)
	h.waiting = nil
	h.tellGone(exchanges, err)
}

// goneMost is how many exchanges are told in a turn: each may have a connection to close, and what that one has not read takes the kernel a while to free.
const goneMost = 16

func (h *HTTP2) tellGone(exchanges []Exchange, err error) {
	for i, x := range exchanges {
		rest := exchanges[i:]
		if i == goneMost && h.conn.Loop().Post(func() { h.conn.Do(func() { h.tellGone(rest, err) }) }) {
			return
		}
		x.Gone(err)
	}
}

// Drain lets the client end the connection: what it has asked for is served, and what it asked before it knew. While a stream of it is a tunnel, it waits:
// Firefox drops its WebSockets at any GOAWAY.
func (h *HTTP2) Drain() {
	h.drainWanted = true
	h.drainUnlessTunnels()
}

// tunnelEnded counts a tunnel out.
func (h *HTTP2) tunnelEnded() {
	if h.tunnels--; h.tunnels == 0 && h.drainWanted {
		h.conn.Loop().Post(func() { h.conn.Do(h.drainUnlessTunnels) })
	}
}

// drainUnlessTunnels begins the drain that is wanted, when no stream is a tunnel.
func (h *HTTP2) drainUnlessTunnels() {
	if !h.drainWanted || h.tunnels > 0 || h.phase != serving || h.announced {
		return
	}
	h.announced = true
	h.cork()
	h.proto.Announce()
	h.drainBy = h.conn.Loop().Now() + drainTime
	h.await(h.drainBy)
}

// drain says which streams are the last.
func (h *HTTP2) drain() {
	if h.phase == serving && !h.draining {
		h.announced, h.draining = true, true
		h.cork()
		h.proto.Drain()
	}
}

// lost deals with a connection that broke, or a client that left.
func (h *HTTP2) lost(err error) {
	if h.phase == gone {
		return
	}
	h.abandon(err)
	h.close()
}

func (h *HTTP2) close() {
	if h.phase == gone {
		return
	}
	h.phase = gone
	h.conn.Loop().Stop(&h.timer)
	h.conn.Close()
	h.server.Closed(h.conn)
}

// beginLingering ends the stream to the client, and takes what it is still sending: closing over that would be a reset, which overtakes what was written.
func (h *HTTP2) beginLingering() {
	if h.phase != serving {
		return
	}
	h.phase = lingering
	h.conn.CloseWrite()
	h.armed = 0
	h.await(h.conn.Loop().Now() + lingerHTTP2)
	h.conn.Resume()
}

// Drained says that the client has taken all that was written.
func (h *HTTP2) Drained(*reactor.Conn) {
	if h.phase != serving {
		return
	}
	h.cork()
	for _, state := range slices.Clone(h.proto.Streams()) {
		state.Owner.(*stream).tellDrained()
	}
	h.goOn()
}

// Failed ends the connection.
func (h *HTTP2) Failed(_ *reactor.Conn, err error) { h.lost(err) }
