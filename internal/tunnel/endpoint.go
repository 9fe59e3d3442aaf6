package tunnel

import (
	"errors"
	"io"
	"sync/atomic"

	"wstunnel/internal/reactor"
	"wstunnel/internal/ws"
)

// endpoint is one end of a tunnel on a loop, with the flow that comes from it on its way to the other side.
type endpoint struct {
	t    *Tunnel
	conn reactor.Endpoint
	flow
	pipe            *reactor.Pipe // payload that the other side has yet to take from the kernel, or nil
	bytes, messages atomic.Uint64
	opaque          atomic.Bool
	closeSeen       bool // its Close frame went by
	bulk            bool // the last bytes were spliced
	ended           bool // nothing more is read from it
}

func (s *endpoint) other() *endpoint {
	if s == &s.t.client {
		return &s.t.backend
	}
	return &s.t.client
}

func (s *endpoint) name() Side {
	if s.toBackend {
		return Client
	}
	return Backend
}

func (s *endpoint) traffic() Traffic {
	return Traffic{Bytes: s.bytes.Load(), Messages: s.messages.Load(), Opaque: s.opaque.Load()}
}

// Readable moves what the side sent.
func (s *endpoint) Readable(*reactor.Conn) {
	s.t.pings.heard(s)
	if s.canSplice() && s.splice() {
		return
	}
	p, err := s.read()
	if err != nil {
		s.readFailed(err)
		return
	}
	s.moved(p)
}

// read reads little behind a spliced payload, so that the next one is not copied before its header is seen.
func (s *endpoint) read() ([]byte, error) {
	if s.bulk {
		s.bulk = false
		return s.conn.ReadUpTo(bulkRead)
	}
	return s.conn.Read()
}

// bulkRead is the length of a read that is to bring a header.
const bulkRead = 4 << 10

// moved passes on what was read, and stops reading while the other side does not take it.
func (s *endpoint) moved(p []byte) {
	if len(p) == 0 || s.t.over() {
		return
	}
	s.dropOverdue(s.t.now())
	passed, err := s.pass(p, s.other().conn.Write)
	if passed > 0 {
		s.t.touch()
	}
	s.account(uint64(len(p)))
	if err != nil {
		s.t.lost(s.other(), err)
		return
	}
	s.afterMove()
}

// afterMove looks at what the bytes that went by have changed.
func (s *endpoint) afterMove() {
	switch order := s.t.order.Load(); {
	case s.closeSeen && order != nil && order.deadline > 0:
		// Its answer to our Close frame, or a Close frame of its own after which ours can't stand.
		s.end()
	case !s.closeSent && s.other().conn.Pending() > 0:
		s.conn.Pause()
	}
}

// account counts bytes that came from the side and notes a Close frame among them.
func (s *endpoint) account(n uint64) {
	s.bytes.Store(s.bytes.Load() + n)
	if m := s.scan.Messages(); m != s.messages.Load() {
		s.messages.Store(m)
	}
	if s.scan.Err() != nil && !s.opaque.Load() {
		s.opaque.Store(true)
	}
	if code, ok := s.scan.Close(); ok && !s.closeSeen {
		s.closeSeen = true
		s.t.note(Result{By: s.name(), Cause: CauseClose, Code: code})
		s.t.schedule()
	}
}

// readFailed deals with the end of the side's stream.
func (s *endpoint) readFailed(err error) {
	if !errors.Is(err, io.EOF) {
		s.t.lost(s, err)
		return
	}
	if !s.closeSeen {
		s.t.note(Result{By: s.name(), Cause: CauseEOF, Code: ws.CloseAbnormal})
	}
	if err := s.flushHeld(s.other().conn.Write); err != nil {
		s.t.lost(s.other(), err)
		return
	}
	s.end()
}

// end stops reading from the side; the other side's stream ends behind what is on its way.
func (s *endpoint) end() {
	if s.ended {
		return
	}
	s.ended = true
	if s.done() && s.other().done() {
		s.t.finish()
		return
	}
	s.conn.Pause()
	if s.pipe == nil {
		s.other().conn.CloseWrite()
	}
	s.t.settle()
}

// discard takes what has come behind a Close frame of ours: a connection that is closed over unread bytes is reset, which may overtake the frame.
func (s *endpoint) discard() {
	if !s.other().closeSent {
		return
	}
	for range discardMost {
		if p, err := s.conn.Read(); len(p) == 0 || err != nil {
			return
		}
	}
}

// discardMost is how many reads that takes at most.
const discardMost = 4

// done reports whether all that will ever go to the other side has left.
func (s *endpoint) done() bool {
	return s.ended && s.pipe == nil && s.other().conn.Pending() == 0
}

// Drained says that the side takes bytes again.
func (s *endpoint) Drained(*reactor.Conn) {
	from := s.other()
	if from.pipe != nil && !from.drain() {
		return
	}
	switch {
	case s.t.over():
	case from.ended:
		s.t.settle()
	case !from.boundary():
	case s.conn.Pending() == 0:
		from.conn.Resume()
	}
}

// boundary puts in what waits for a place like this; it reports whether the tunnel lives on. What can wait does so until the other
// side has taken all that is on its way.
func (s *endpoint) boundary() bool {
	if s.pipe == nil && s.pending != nil && (s.pending.closing != nil || s.other().conn.Pending() == 0) {
		if err := s.putIn(s.other().conn.Write); err != nil {
			s.t.lost(s.other(), err)
			return false
		}
		if s.closeSent {
			s.conn.Resume() // only for the answer to our Close frame
		}
	}
	return true
}

// orderClose has a Close frame of ours put into the stream.
func (s *endpoint) orderClose(order *closeOrder) {
	switch {
	case s.ended || s.t.over():
	case s.takesNoFrames():
		s.end() // no frame can be put into this stream any more; its end is all the news there is
	default:
		s.requestClose(order.code, order.reason)
		s.boundary()
	}
}

// Failed ends the tunnel.
func (s *endpoint) Failed(_ *reactor.Conn, err error) { s.t.lost(s, err) }

// Payloads with at least spliceMin bytes to come move inside the kernel, spliceChunk at a time so that
// activity shows and others have their turn.
const (
	spliceMin   = 64 << 10
	spliceChunk = 1 << 20
)

// canSplice reports whether what comes next may move inside the kernel.
func (s *endpoint) canSplice() bool {
	to := s.other().conn
	left := s.scan.Payload()
	return (left >= spliceMin || s.bulk && left > 0) && !s.closeSent && s.conn.Plain() && to.Plain() && to.Pending() == 0
}

// splice moves part of the current payload; it reports false where there is no pipe to be had.
func (s *endpoint) splice() bool {
	pipe, err := s.conn.Loop().Pipe()
	if err != nil {
		return false
	}
	s.pipe = pipe
	n, err := pipe.Fill(s.conn.(*reactor.Conn), int(min(s.scan.Payload(), spliceChunk)))
	if err != nil {
		s.dropPipe()
		s.readFailed(err)
		return true
	}
	if n > 0 {
		s.bulk = true
		s.t.touch()
		s.scan.Skip(uint64(n))
		s.account(uint64(n))
	}
	if s.drain() {
		s.boundary()
	}
	return true
}

// drain moves what the pipe holds to the other side. It reports whether it is empty and given back.
func (s *endpoint) drain() bool {
	to := s.other()
	if err := s.pipe.Drain(to.conn.(*reactor.Conn)); err != nil {
		s.t.lost(to, err)
		return false
	}
	if s.pipe.Held() > 0 {
		s.conn.Pause()
		to.conn.WaitWritable()
		return false
	}
	s.dropPipe()
	if s.ended {
		to.conn.CloseWrite()
	}
	return true
}

func (s *endpoint) dropPipe() {
	if s.pipe != nil {
		s.conn.Loop().PutPipe(s.pipe)
		s.pipe = nil
	}
}
