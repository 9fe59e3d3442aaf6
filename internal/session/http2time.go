package session

import (
	"errors"
	"slices"
	"time"

	"wstunnel/internal/http2"
)

// Times and amounts that a client over HTTP/2 is given.
const (
	drainTime   = time.Second // to acknowledge that the connection will end
	lingerHTTP2 = time.Second // to end it itself
	lingerMost  = 256 << 10   // bytes that it may send meanwhile
	// leastProgress is what a client must take of a stream that waits for its window, every 60 seconds, if there is as much.
	leastProgress = 16 << 10
)

var errSlowFrame = errors.New("the client does not send the rest of a frame")

// await makes the timer run out at a time, or earlier.
func (h *HTTP2) await(at time.Duration) {
	if h.armed == 0 || at < h.armed {
		h.armed = at
		h.conn.Loop().Set(&h.timer, at-h.conn.Loop().Now())
	}
}

// notePartial begins to watch a frame that is not whole, or ends it.
func (h *HTTP2) notePartial() {
	switch {
	case !h.proto.Partial():
		h.partial = 0
	case h.partial == 0 && h.phase == serving:
		h.partial = h.conn.Loop().Now()
		requestHead, _ := h.server.Timeouts()
		h.await(h.partial + requestHead)
	}
}

// rest begins the time for which a connection may be without a stream.
func (h *HTTP2) rest() {
	h.busy, h.idleSince = false, h.conn.Loop().Now()
	h.proto.Rest()
	h.touched = nil
	_, keepAlive := h.server.Timeouts()
	h.await(h.idleSince + keepAlive)
}

// Expired ends a wait.
func (h *HTTP2) Expired() { h.conn.Do(h.expired) }

func (h *HTTP2) expired() {
	h.armed = 0
	switch h.phase {
	case gone:
		return
	case lingering:
		h.close()
		return
	}
	now := h.conn.Loop().Now()
	due := func(at time.Duration) bool {
		if at > now {
			h.await(at)
		}
		return at <= now
	}
	requestHead, keepAlive := h.server.Timeouts()
	if h.announced && !h.draining && due(h.drainBy) {
		h.drain()
	}
	switch {
	case h.partial > 0 && h.conn.Reading() && due(h.partial+requestHead):
		h.cork()
		h.proto.Cut(http2.ProtocolError, errSlowFrame.Error())
		h.end(errSlowFrame)
		return
	case len(h.proto.Streams()) == 0 && h.partial == 0 && due(h.idleSince+keepAlive):
		h.cork()
		h.proto.Drain()
		h.end(nil)
		return
	case h.conn.Pending() > 0 && due(h.takenAt+stall):
		if taken, _, _ := h.conn.Taken(); taken == h.taken && h.conn.Pending() >= h.backlog {
			h.lost(ErrNotTaking)
			return
		}
		h.awaitTaking()
	}
	h.endStalls(now, due)
}

// endStalls ends the streams whose clients neither send nor take what they are to.
func (h *HTTP2) endStalls(now time.Duration, due func(time.Duration) bool) {
	closed := false // the connection's window, for too long
	if h.sentSince > 0 && due(h.sentSince+stall) {
		closed = h.sent-h.sentThen < leastProgress
		h.sentSince = 0
	}
	for _, state := range slices.Clone(h.proto.Streams()) {
		s := state.Owner.(*stream)
		byStream, byConn := h.proto.Stalled(state)
		switch {
		case len(s.queue) > 0:
			late := due(s.progressAt + s.patience())
			switch {
			case late && (byStream || s.switched), closed && byConn && !s.switched:
				h.cork()
				s.giveUp(ErrNotTaking)
			case late:
				s.progressAt, s.progress = now, 0
				h.await(now + stall)
			}
		case !s.whole && !s.paused && !s.switched && s.exchange != nil && due(s.heard+stall):
			h.cork()
			s.exchange.Gone(ErrStalled)
		}
	}
}
