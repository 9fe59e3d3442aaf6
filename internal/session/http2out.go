package session

import (
	"errors"

	"wstunnel/internal/head"
)

var errBacklog = errors.New("HTTP/2 client does not take what its frames are answered")

// Limits on what leaves at once.
const (
	pieceMost = 16 << 10 // of one stream, while others wait
	batchMost = 64 << 10 // of all
	batches   = 4        // a turn
	// unreadMost is how many bytes a client may leave untaken before what it sends is left unread.
	unreadMost = 2 * batchMost
	// backlogMost is how many it may leave in the end: the heads of answers to what it had asked for before.
	backlogMost = 1 << 20
)

// TurnEnded sends what was written in this turn.
func (h *HTTP2) TurnEnded() {
	if h.phase == serving {
		h.conn.Do(h.flush)
	}
	h.corked = false
	h.worker.giveBack(h.proto.Out)
	h.proto.Sent(nil)
	if h.phase != serving {
		return
	}
	idle := len(h.proto.Streams()) == 0
	switch {
	case idle && h.draining && h.conn.Pending() == 0:
		h.beginLingering()
	case idle && h.busy:
		h.rest()
	case h.conn.Pending() == 0 && h.sendable():
		h.cork()
	}
}

// flush sends what there is, in turns of a piece for each stream.
func (h *HTTP2) flush() {
	for range batches {
		h.fill()
		if len(h.proto.Out) == 0 || h.phase == gone {
			return
		}
		before := h.conn.Pending()
		err := h.conn.Write(h.proto.Out)
		h.proto.Sent(h.proto.Out)
		if err != nil {
			h.lost(err)
			return
		}
		if h.conn.Pending() > 0 {
			h.noteBacklog(before)
			return
		}
		if !h.sendable() {
			return
		}
	}
}

// sendable reports whether a stream has something to send that the client's windows take.
func (h *HTTP2) sendable() bool {
	for len(h.waiting) > 0 && len(h.waiting[0].queue) == 0 {
		h.waiting = h.waiting[1:] // it has ended
	}
	return len(h.waiting) > 0 && h.proto.Sendable(h.waiting[0].state) > 0
}

// fill makes DATA frames of what waits.
func (h *HTTP2) fill() {
	for len(h.waiting) > 0 && len(h.proto.Out) < batchMost && h.conn.Pending() == 0 {
		s := h.waiting[0]
		n := min(len(s.queue)-s.taken, pieceMost, h.proto.Sendable(s.state))
		if n == 0 {
			if byStream, _ := h.proto.Stalled(s.state); !byStream && len(s.queue) > 0 {
				h.noteWindow()
				return // it is the connection's window
			}
			h.waiting = h.waiting[1:]
			s.queued = false
			continue
		}
		h.waiting = h.waiting[1:]
		s.queued = false
		h.send(s, s.queue[s.taken:s.taken+n])
		s.taken += n
		s.noteProgress(n)
		switch {
		case s.taken < len(s.queue):
			s.queueUp()
		default:
			s.queue, s.taken = nil, 0
			s.share.Set(h.worker.Memory, 0)
			if s.answered {
				s.finish()
			}
			if !s.answered || s.switched {
				s.tellDrained()
			}
		}
	}
	if len(h.waiting) == 0 {
		h.waiting = nil
	}
}

// waits returns how many bytes of all streams' answers wait to be sent.
func (h *HTTP2) waits() (n int) {
	for _, state := range h.proto.Streams() {
		s := state.Owner.(*stream)
		n += len(s.queue) - s.taken
	}
	return n
}

func (h *HTTP2) send(s *stream, p []byte) {
	h.proto.SendData(s.state, p, false)
	h.sent += int64(len(p))
}

// noteBacklog takes note of bytes that the client does not take, of which so many are older than what was written just now.
func (h *HTTP2) noteBacklog(older int) {
	n := h.conn.Pending()
	switch {
	case n > backlogMost:
		h.server.Refused(head.Bad("%v", errBacklog))
		h.lost(errBacklog)
		return
	case n > unreadMost:
		h.conn.Pause()
	}
	if older < h.backlog || older == 0 {
		h.awaitTaking()
	}
	h.backlog = n
}

// awaitTaking begins the time in which the client is to take some of what it was sent.
func (h *HTTP2) awaitTaking() {
	h.takenAt = h.conn.Loop().Now()
	h.taken, _, _ = h.conn.Taken()
	h.await(h.takenAt + stall)
}

// noteWindow begins to watch that the client opens the connection's window.
func (h *HTTP2) noteWindow() {
	if h.sentSince == 0 || h.sent-h.sentThen >= leastProgress {
		h.sentThen, h.sentSince = h.sent, h.conn.Loop().Now()
		h.await(h.sentSince + stall)
	}
}
