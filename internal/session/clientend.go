package session

import (
	"wstunnel/internal/reactor"
)

// Take takes the connection away from the session, with what was read of it and not yet handed on. It is paused, and its handler
// still to be replaced.
func (c *Client) Take() (conn *reactor.Conn, ahead []byte) {
	c.Flush()
	c.leave()
	c.conn.PauseBriefly()
	ahead, c.ahead = append(c.ahead, c.rest...), nil
	return c.conn, ahead
}

// leave ends the session's part in the connection.
func (c *Client) leave() {
	c.conn.Loop().Stop(&c.timer)
	c.dropPipe()
	c.share.Set(c.worker.Memory, 0)
	c.phase, c.exchange = gone, nil
	if c.decoder != nil {
		c.worker.putDecoder(c.decoder)
		c.decoder = nil
	}
}

// beginLingering ends the stream to the client, and takes what it is still sending where it may be doing so: closing over that would be a reset,
// which overtakes the answer (RFC 9112, section 9.6).
func (c *Client) beginLingering() {
	c.phase, c.ahead, c.exchange = lingering, nil, nil
	now := c.conn.Loop().Now()
	c.pending, c.until = c.Pending(), now+lingerTime
	switch {
	case c.pending > 0:
		c.conn.Loop().Set(&c.timer, stall)
	case c.whole && !c.opaque:
		c.close()
		return
	default:
		c.conn.Loop().Set(&c.timer, lingerPause)
	}
	c.conn.CloseWrite()
	c.conn.Resume()
}

// linger goes on taking what nobody wants, for a while.
func (c *Client) linger() {
	switch now := c.conn.Loop().Now(); {
	case c.Pending() > 0:
	case now >= c.until:
		c.close()
	default:
		c.conn.Loop().Set(&c.timer, lingerPause)
	}
}

// Close closes a connection that serves no request, once the answer before is taken.
func (c *Client) Close() {
	if c.phase == idle {
		c.whole = true
		c.beginLingering()
	}
}

// CloseKept closes a connection that has been answered and waits for its next request, of which nothing has come.
func (c *Client) CloseKept() {
	if c.served && c.phase == idle && c.decoder == nil && c.Pending() == 0 {
		c.Close()
	}
}

func (c *Client) close() {
	if c.phase == gone {
		return
	}
	c.leave()
	c.conn.Close()
	c.server.Closed(c.conn)
}

// CloseAfterAnswer makes the request that is served the last one.
func (c *Client) CloseAfterAnswer() {
	c.closing = true
	c.Close()
}

// lost deals with a connection that broke, or a client that left.
func (c *Client) lost(err error) {
	if c.phase == gone {
		return
	}
	if c.worker.owner == c {
		c.worker.owner, c.worker.out = nil, c.worker.out[:0]
	}
	exchange := c.exchange
	c.leave()
	c.conn.Close()
	if exchange != nil {
		exchange.Gone(err)
	}
	c.server.Closed(c.conn)
}

// Drained says that the client has taken all that was written.
func (c *Client) Drained(*reactor.Conn) {
	c.unsent = 0
	c.share.Set(c.worker.Memory, 0)
	if c.pipe != nil && !c.drainPipe() {
		return
	}
	switch {
	case c.phase == lingering && c.whole && !c.opaque:
		c.close()
	case c.phase == lingering:
		c.conn.Loop().Set(&c.timer, lingerPause)
	case c.phase == serving:
		if c.whole || c.opaque {
			c.conn.Loop().Stop(&c.timer)
		} else {
			c.await()
		}
		if c.exchange != nil {
			c.exchange.Drained()
		}
	case c.phase == idle && len(c.ahead) > 0:
		c.feed(nil)
	}
}

// Failed ends the connection.
func (c *Client) Failed(_ *reactor.Conn, err error) { c.lost(err) }

// Expired ends a wait.
func (c *Client) Expired() { c.conn.Do(c.expired) }

func (c *Client) expired() {
	n := c.Pending()
	switch {
	case n > 0 && n < c.pending:
		c.pending = n // it takes its answer, slowly
		c.conn.Loop().Set(&c.timer, stall)
	case c.phase != serving:
		c.close()
	case n > 0:
		c.lost(ErrNotTaking)
	case c.paused: // whoever does not want the rest of the body has a time of its own
	case !c.whole && c.exchange != nil:
		c.closing = true
		c.exchange.Gone(ErrStalled)
	case !c.whole:
		c.close()
	}
}
