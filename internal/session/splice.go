package session

import (
	"errors"
	"io"

	"wstunnel/internal/reactor"
)

// Bodies with at least spliceMin bytes to come move inside the kernel, spliceChunk at a time so that others have their turn.
const (
	spliceMin   = 64 << 10
	spliceChunk = 1 << 20
)

// splice moves a part of a long body to the client inside the kernel. It reports false where that can't be done.
func (b *Backend) splice() bool {
	left := b.speaks.Payload()
	if left < spliceMin || !b.conn.Plain() {
		return false
	}
	to := b.asker.Sink()
	if to == nil || to.Pending() > 0 || !to.mayPull(left) {
		return false
	}
	n, err := to.pull(b.conn, int(min(left, spliceChunk)))
	switch {
	case errors.Is(err, errNoPipe):
		return false
	case errors.Is(err, io.EOF):
		b.atEnd()
		return true
	case err != nil:
		b.broke(err)
		return true
	case n == 0 || b.closed:
		return true
	}
	b.heard = b.conn.Loop().Now()
	b.speaks.Skip(uint64(n))
	b.asker.Spliced(n)
	switch {
	case b.closed || b.speaks.Payload() > 0:
	case to.Pending() > 0:
		b.ended = true // the answer ends when the client has taken it
	default:
		b.feed(nil)
	}
	return true
}

var errNoPipe = errors.New("no pipe to be had")

// mayPull reports whether the next bytes of the answer's body, of which so many come, may move inside the kernel.
func (c *Client) mayPull(left uint64) bool {
	return c.phase == serving && c.responded && !c.answered && !c.chunked && c.conn.Plain() && c.pipe == nil &&
		(c.left < 0 || uint64(c.left) >= left)
}

// pull moves at most n bytes of the answer's body from a backend to the client. Of errors it tells those of the backend; the client's end its
// session.
func (c *Client) pull(from *reactor.Conn, n int) (moved int, err error) {
	c.Flush()
	if c.phase != serving || c.conn.Pending() > 0 {
		return 0, errNoPipe
	}
	pipe, err := c.conn.Loop().Pipe()
	if err != nil {
		return 0, errNoPipe
	}
	moved, err = pipe.Fill(from, n)
	c.pipe = pipe
	if c.left > 0 {
		c.left -= int64(moved)
	}
	c.drainPipe()
	return moved, err
}

// drainPipe moves what the pipe holds to the client. It reports whether it is empty and given back.
func (c *Client) drainPipe() bool {
	if err := c.pipe.Drain(c.conn); err != nil {
		c.lost(err)
		return false
	}
	if held := c.pipe.Held(); held > 0 {
		c.conn.WaitWritable()
		c.pending = held
		c.conn.Loop().Set(&c.timer, stall)
		return false
	}
	c.dropPipe()
	return true
}

// unpipe takes what the pipe holds into memory, since more is to follow it.
func (c *Client) unpipe() error {
	pipe := c.pipe
	c.pipe = nil
	err := pipe.Spill(c.conn)
	c.conn.Loop().PutPipe(pipe)
	return err
}

func (c *Client) dropPipe() {
	if c.pipe != nil {
		c.conn.Loop().PutPipe(c.pipe)
		c.pipe = nil
	}
}
