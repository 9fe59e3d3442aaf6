package session

import (
	"errors"
	"io"

	"wstunnel/internal/reactor"
)

// SendsFiles reports whether [Client.SendFile] may be used for the answer whose head was written.
func (c *Client) SendsFiles() bool { return c.conn.Plain() && !c.chunked }

// SendFile writes at most n bytes of a file as a piece of the answer's body, and returns how many the client took. Where that are fewer, Pending is
// not zero until Drained, or there is an error: [reactor.ErrWouldWait], or [io.ErrUnexpectedEOF] where the file has become shorter.
func (c *Client) SendFile(f *reactor.File, offset int64, n int) (sent int, err error) {
	if c.phase != serving || c.conn.Pending() > 0 {
		return 0, nil
	}
	w := c.worker
	w.claim(c)
	w.owner = nil
	head := w.out
	w.out = w.out[:0]
	sent, err = c.conn.SendFile(head, f, offset, n)
	c.left -= int64(sent)
	switch {
	case errors.Is(err, reactor.ErrWouldWait), errors.Is(err, io.ErrUnexpectedEOF):
	case err != nil:
		c.lost(err)
		return sent, nil
	case sent < n:
		c.unsent = n - sent
	}
	if pending := c.Pending(); pending > 0 {
		c.pending = pending
		c.conn.Loop().Set(&c.timer, stall)
	}
	return sent, err
}
