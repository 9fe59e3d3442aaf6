package http2

import (
	"slices"

	"wstunnel/internal/head"
)

// Windows that a client is given (RFC 9113, section 5.2). What a stream holds is bounded by its own; that of the connection is opened again as soon as
// bytes come, so that a stalled stream stops no other.
const (
	streamWindow     = 16 << 10
	maxStreamWindow  = 1 << 20
	connectionWindow = MaxStreams * streamWindow
	// maxGrown is what the windows of one connection may grow by in all: who then sends nothing holds no more of the budget that others share.
	maxGrown = 4 << 20
	// switchedWindow is the most for a stream that has switched protocols: so much may wait where the other end does not take it.
	switchedWindow = 64 << 10
)

// Stream is a request and its answer.
type Stream struct {
	ID uint32
	// Request is the head that the stream began with.
	Request *head.Request
	// Refusal says why it is to be refused, with a status; nil for a request that is to be served.
	Refusal *head.Error
	// Owner is the caller's own.
	Owner any

	head int   // bytes of its head
	most int64 // that its window grows to
	left int64 // bytes that its content-length has yet to bring, or head.Unknown

	send int64 // what the client's window still takes; a change of settings can make it negative

	window   int64 // what the client may still send
	size     int64 // of the window, when all of it is open
	grown    int64 // of that, what was taken from the budget
	spent    int64 // bytes that were taken since it grew last
	returned int64 // bytes that were taken and the client not told of

	remoteEnded bool // the request is whole
	localEnded  bool // the answer is
	closed      bool
}

// Ended reports whether the request has come to its end.
func (s *Stream) Ended() bool { return s.remoteEnded }

// Closed reports whether nothing can be sent on the stream any more.
func (s *Stream) Closed() bool { return s.closed }

// find returns an open stream, or nil.
func (c *Conn) find(id uint32) *Stream {
	i, ok := c.search(id)
	if !ok {
		return nil
	}
	return c.streams[i]
}

func (c *Conn) search(id uint32) (int, bool) {
	return slices.BinarySearchFunc(c.streams, id, func(s *Stream, id uint32) int { return int(s.ID) - int(id) })
}

// Switch says that a stream has been answered and carries another protocol from here on (RFC 8441, section 5). Nothing of its head is kept.
func (c *Conn) Switch(s *Stream) {
	c.heads -= s.head
	s.head, s.Request, s.most = 0, nil, switchedWindow
}

// close takes a stream out of the table; reset says that this end has reset it.
func (c *Conn) close(s *Stream, reset bool) {
	s.closed = true
	c.heads -= s.head
	if s.grown > 0 {
		c.budget.give(s.grown)
		c.grown -= s.grown
		s.grown = 0
	}
	if i, ok := c.search(s.ID); ok {
		c.streams = slices.Delete(c.streams, i, i+1)
	}
	if len(c.streams) == 0 {
		c.streams = nil
	}
	if reset && !s.remoteEnded {
		c.rememberCut(s.ID, s.window)
	} else {
		c.rememberEnded(s.ID)
	}
}

// cut is a stream that this end has reset before the client had ended it: what it has sent meanwhile still comes.
type cut struct {
	id     uint32
	window int32 // bytes of DATA that may be on their way
}

// rememberCut remembers as many streams as a client can have had open when it learns that this one is reset: what it sent before that is not its fault.
func (c *Conn) rememberCut(id uint32, window int64) {
	if len(c.cuts) == MaxStreams {
		c.cuts = slices.Delete(c.cuts, 0, 1)
	}
	c.cuts = append(c.cuts, cut{id, int32(max(0, window))})
}

// findCut returns a stream's place among those that are remembered, or -1.
func (c *Conn) findCut(id uint32) int {
	return slices.IndexFunc(c.cuts, func(cut cut) bool { return cut.id == id })
}

// forgetCut forgets a stream that its client has ended now.
func (c *Conn) forgetCut(i int) {
	if c.cuts = slices.Delete(c.cuts, i, i+1); len(c.cuts) == 0 {
		c.cuts = nil
	}
}

// remembered is how many streams are remembered that both ends have ended.
const remembered = 16

func (c *Conn) rememberEnded(id uint32) {
	if len(c.ended) < remembered {
		c.ended = append(c.ended, id)
		return
	}
	c.ended[c.nextEnded] = id
	c.nextEnded = (c.nextEnded + 1) % remembered
}

// Grant says that n bytes of a stream's body were taken for good, so that the client may send as many more. The window grows, from the budget that all
// share, while it is what an upload waits for.
func (c *Conn) Grant(s *Stream, n int) {
	s.returned += int64(n)
	if s.closed || s.remoteEnded || s.returned < s.size/2 || s.left >= 0 && s.left <= s.window {
		return
	}
	if s.spent += s.returned; s.spent >= s.size && s.size < s.most {
		more := c.budget.take(min(s.size, s.most-s.size, maxGrown-c.grown))
		s.grown += more
		c.grown += more
		s.size += more
		s.returned += more
		s.spent = 0
	}
	c.Out = appendWindowUpdate(c.Out, s.ID, uint32(s.returned))
	s.window += s.returned
	s.returned = 0
}

// grantConnection opens the connection's window again.
func (c *Conn) grantConnection(n int64) {
	if c.returned += n; c.returned >= connectionWindow/2 {
		c.Out = appendWindowUpdate(c.Out, 0, uint32(c.returned))
		c.window += c.returned
		c.returned = 0
	}
}
