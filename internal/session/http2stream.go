package session

import (
	"net/http"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/http2"
	"wstunnel/internal/reactor"
)

// smallPiece is the size below which pieces of a body are handed on together.
const smallPiece = 4 << 10

// stream is a request over HTTP/2 and its answer.
type stream struct {
	session  *HTTP2
	state    *http2.Stream
	exchange Exchange // nil once it needs to be told nothing
	request  *head.Request

	// The request.
	ahead    []byte // of its body, not yet handed on
	owed     int    // bytes that were handed on and not yet granted again
	trailers head.Fields
	heard    time.Duration // when a byte came last
	whole    bool          // it has come to its end
	told     bool          // and the exchange knows
	paused   bool          // the exchange does not want the rest of the body now
	touched  bool          // in the session's list

	// The answer.
	left       int64  // bytes that its length has yet to bring, or head.Unknown
	queue      []byte // that could not be sent yet
	taken      int    // of queue
	share      Share  // of the memory for slow clients
	ending     head.Fields
	progress   int           // bytes sent since progressAt
	progressAt time.Duration // when enough was sent last, or the queue began
	responded  bool          // the final head was written
	answered   bool          // the answer was written to its end
	queued     bool          // in the session's list of those that wait
	drains     bool          // the exchange waits to be told that all was taken
	switched   bool          // it carries another protocol
	tunnel     bool          // it is counted as one of the connection
}

// Conn returns the connection, which all its streams share.
func (s *stream) Conn() *reactor.Conn { return s.session.conn }

// Worker returns that of the connection's loop.
func (s *stream) Worker() *Worker { return s.session.worker }

// Responded reports whether the head that counts was written.
func (s *stream) Responded() bool { return s.responded }

// CloseAfterAnswer does nothing: other streams go on.
func (s *stream) CloseAfterAnswer() {}

// Flush does nothing: what was written leaves when the turn ends.
func (s *stream) Flush() {}

// patience is how long the client may take to open its window.
func (s *stream) patience() time.Duration {
	if s.switched {
		return switchedStall
	}
	return stall
}

// data takes a piece of the request's body.
func (s *stream) data(p []byte) {
	s.heard = s.session.conn.Loop().Now()
	switch {
	case s.exchange == nil:
	case s.paused || len(s.ahead) > 0 || len(p) < smallPiece:
		s.ahead = append(s.ahead, p...)
		s.touch()
	default:
		s.handOn(p)
	}
}

// touch has the stream looked at when all of a read was decoded: a body in many small frames is handed on in one piece.
func (s *stream) touch() {
	if !s.touched {
		s.touched = true
		s.session.touched = append(s.session.touched, s)
	}
}

// deliver hands on what was kept of the request.
func (s *stream) deliver() {
	for len(s.ahead) > 0 && !s.paused && s.exchange != nil {
		n := min(len(s.ahead), maxAhead)
		p := s.ahead[:n]
		if s.ahead = s.ahead[n:]; len(s.ahead) == 0 {
			s.ahead = nil
		}
		s.handOn(p)
	}
	if s.whole && !s.told && !s.paused && len(s.ahead) == 0 {
		s.told = true
		if s.exchange != nil {
			s.exchange.Whole(s.trailers)
		}
	}
}

// handOn hands a piece of the body on. The client may send as much again when the exchange takes more.
func (s *stream) handOn(p []byte) {
	s.owed += len(p)
	s.exchange.Data(p)
	if !s.paused {
		s.grant()
	}
}

func (s *stream) grant() {
	if s.owed > 0 && !s.state.Closed() {
		s.session.cork()
		s.session.proto.Grant(s.state, s.owed)
	}
	s.owed = 0
}

// Pause stops the request's body.
func (s *stream) Pause() {
	if !s.told {
		s.paused = true
	}
}

// Resume lets the request's body come.
func (s *stream) Resume() {
	if !s.paused {
		return
	}
	s.paused = false
	s.heard = s.session.conn.Loop().Now()
	if !s.whole {
		s.session.await(s.heard + stall)
	}
	s.grant()
	s.deliver()
	s.session.worker.FlushAsk()
}

// SayContinue asks for the body of a request that waits for it.
func (s *stream) SayContinue() {
	if !s.responded && s.request.Expect && !s.whole {
		s.Respond(&head.Response{Status: http.StatusContinue})
	}
}

// Respond writes the head of an answer.
func (s *stream) Respond(r *head.Response) {
	if s.responded || s.answered || s.state.Closed() {
		return
	}
	h := s.session
	h.cork()
	if r.Status < http.StatusOK {
		h.proto.Respond(s.state, r, "", true, false)
		return
	}
	s.responded = true
	bodiless := s.request != nil && s.request.Method == http.MethodHead || r.Status == http.StatusNoContent || r.Status == http.StatusNotModified
	s.left = r.Length
	if bodiless {
		s.left = 0
	}
	h.proto.Respond(s.state, r, h.worker.now(), !bodiless, s.left == 0)
}

// Write writes a piece of the answer's body.
func (s *stream) Write(p []byte) {
	if !s.responded || s.answered || s.state.Closed() {
		return
	}
	if s.left >= 0 {
		p = p[:min(int64(len(p)), s.left)]
		s.left -= int64(len(p))
	}
	if len(p) == 0 {
		return
	}
	h := s.session
	h.cork()
	if len(s.queue) == 0 && len(h.waiting) == 0 {
		p = s.writeAtOnce(p)
	}
	if len(p) > 0 {
		if len(s.queue) == 0 {
			s.progress, s.progressAt = 0, h.conn.Loop().Now()
			h.await(s.progressAt + s.patience())
		}
		if s.taken > len(s.queue)/2 { // what was sent is not kept
			s.queue = s.queue[:copy(s.queue, s.queue[s.taken:])]
			s.taken = 0
		}
		s.queue = append(s.queue, p...)
		s.share.Set(h.worker.Memory, len(s.queue))
		s.queueUp()
	}
}

// writeAtOnce makes frames of as much as leaves at the turn's end, and returns the rest.
func (s *stream) writeAtOnce(p []byte) []byte {
	h := s.session
	most := batchMost
	if len(h.proto.Streams()) > 1 {
		most = pieceMost
	}
	for most > 0 && len(p) > 0 && len(h.proto.Out) < batchMost && h.conn.Pending() == 0 {
		n := min(len(p), most, h.proto.Sendable(s.state))
		if n == 0 {
			break
		}
		h.send(s, p[:n])
		p = p[n:]
		most -= n
	}
	return p
}

// queueUp has the stream wait for its turn, if it has something to send and a window to do so.
func (s *stream) queueUp() {
	if byStream, _ := s.session.proto.Stalled(s.state); !byStream && !s.queued && len(s.queue) > 0 && !s.state.Closed() {
		s.queued = true
		s.session.waiting = append(s.session.waiting, s)
		s.session.cork()
	}
}

// noteProgress notes that the client takes what it is sent.
func (s *stream) noteProgress(n int) {
	if s.progress += n; s.progress >= leastProgress || s.switched {
		s.progress, s.progressAt = 0, s.session.conn.Loop().Now()
	}
}

// Pending returns how many bytes the client has yet to take, on this stream or on all.
func (s *stream) Pending() int {
	n := len(s.queue) - s.taken + s.session.conn.Pending()
	s.drains = s.drains || n > 0
	return n
}

// Full reports whether so much waits to be taken, some times as much on all streams of the connection, or too much for all clients.
func (s *stream) Full(most int) bool {
	return len(s.queue)-s.taken >= most || s.session.waits() >= mostOfAll*most || s.session.worker.Memory.Full()
}

// mostOfAll is how many times what may wait of one answer may wait of all that a connection carries.
const mostOfAll = 4

// tellDrained tells the exchange that all was taken, if it waits for that.
func (s *stream) tellDrained() {
	if s.drains && len(s.queue) == 0 && s.exchange != nil {
		s.drains = false
		s.exchange.Drained()
	}
}

// Room is a share of what a connection may have waiting, so that many streams that are not taken hold no more than a few.
func (s *stream) Room() int {
	return min(max(roomOfAll/max(1, len(s.session.proto.Streams())), pieceMost), batchMost)
}

const roomOfAll = 256 << 10

// End ends the answer.
func (s *stream) End(trailers head.Fields) {
	if s.answered {
		return
	}
	if s.left > 0 {
		s.Abort()
		return
	}
	s.answered, s.ending, s.exchange = true, trailers, nil
	s.ahead = nil
	if len(s.queue) == 0 {
		s.finish()
	}
}

// finish ends the stream behind an answer that was sent. What comes of the request after that is not wanted (RFC 9113, section 8.1).
func (s *stream) finish() {
	h := s.session
	if h.phase == gone {
		return
	}
	h.cork()
	if len(s.ending) > 0 {
		h.proto.SendTrailers(s.state, s.ending)
	} else {
		h.proto.SendData(s.state, nil, true)
	}
	if !s.switched {
		h.proto.Reset(s.state, http2.NoError)
	}
}

// Abort ends the stream in the middle of an answer.
func (s *stream) Abort() {
	s.drop()
	if s.session.phase != gone {
		s.session.cork()
		s.session.proto.Reset(s.state, http2.InternalError)
	}
}

// giveUp ends a stream whose client does not take its answer.
func (s *stream) giveUp(err error) {
	exchange := s.exchange
	s.drop()
	s.session.proto.Reset(s.state, http2.Cancel)
	if exchange != nil {
		exchange.Gone(err)
	}
}

// drop forgets what a stream holds. Nothing is sent any more.
func (s *stream) drop() {
	s.exchange, s.answered = nil, true
	s.ahead, s.queue, s.taken, s.owed, s.paused = nil, nil, 0, 0, false
	s.share.Set(s.session.worker.Memory, 0)
	if s.tunnel {
		s.tunnel = false
		s.session.tunnelEnded()
	}
}
