package session

import (
	"net/http"

	"wstunnel/internal/head"
	"wstunnel/internal/http1"
)

// Respond writes the head of an answer: any number of 1xx, and then one that counts. What is written behind it is collected until
// [Client.Flush] or [Client.End].
func (c *Client) Respond(r *head.Response) {
	if c.phase != serving || c.responded {
		return
	}
	if r.Status < 200 && c.request.Minor == 0 {
		return // HTTP/1.0 knows none (RFC 9110, section 15.2)
	}
	w := c.worker
	w.claim(c)
	dst := http1.AppendStatus(w.out, r.Status)
	if r.Status < 200 {
		w.out = append(http1.AppendFields(dst, r.Fields, true), "\r\n"...)
		return
	}
	c.responded = true
	bodiless := c.request.Method == http.MethodHead || r.Status == http.StatusNoContent || r.Status == http.StatusNotModified
	dst = http1.AppendFields(dst, r.Fields, !bodiless)
	if !r.Fields.Has(head.Date) {
		dst = append(append(append(dst, "Date: "...), w.now()...), "\r\n"...)
	}
	c.left = r.Length
	switch {
	case bodiless:
		c.left = 0
	case r.Length == head.Unknown && c.request.Minor == 0:
		c.closing = true
	default:
		c.chunked = r.Length == head.Unknown
		dst = http1.AppendFraming(dst, r.Length)
	}
	c.closing = c.closing || c.opaque || !c.whole && !c.mayDiscard()
	dst = c.appendConnection(dst, r)
	w.out = append(dst, "\r\n"...)
}

// mayDiscard reports whether the rest of the request's body is here already, so that the connection can go on behind it.
func (c *Client) mayDiscard() bool {
	return !c.request.HasBody() || c.request.Length > 0 && c.decoder.Payload() <= uint64(len(c.ahead)+len(c.rest))
}

// appendConnection says what becomes of the connection.
func (c *Client) appendConnection(dst []byte, r *head.Response) []byte {
	upgrade := r.Fields.Has(head.Upgrade)
	switch {
	case c.closing && upgrade:
		return append(dst, "Connection: close, Upgrade\r\n"...)
	case c.closing:
		return append(dst, "Connection: close\r\n"...)
	case upgrade:
		return append(dst, "Connection: Upgrade\r\n"...)
	case c.request.Minor == 0:
		return append(dst, "Connection: keep-alive\r\n"...)
	}
	return dst
}

// Write writes a piece of the answer's body. To a HEAD nothing is written.
func (c *Client) Write(p []byte) {
	if c.phase != serving || !c.responded || c.answered || len(p) == 0 {
		return
	}
	if c.left >= 0 {
		p = p[:min(int64(len(p)), c.left)]
		c.left -= int64(len(p))
		if len(p) == 0 {
			return
		}
	}
	w := c.worker
	w.claim(c)
	if c.chunked {
		if len(w.out)+len(p) <= heldMost {
			w.out = http1.AppendChunk(w.out, p)
			return
		}
		w.out = http1.AppendChunkSize(w.out, len(p))
		c.Flush()
		c.put(p)
		w.claim(c)
		w.out = append(w.out, "\r\n"...)
		return
	}
	if len(w.out)+len(p) <= heldMost {
		w.out = append(w.out, p...)
		return
	}
	c.Flush()
	c.put(p)
}

// Flush sends what was collected.
func (c *Client) Flush() {
	w := c.worker
	if w.owner != c {
		return
	}
	w.owner = nil
	out := w.out
	w.out = w.out[:0]
	if len(out) > 0 {
		c.put(out)
	}
}

func (c *Client) put(p []byte) {
	if c.phase == gone {
		return
	}
	if c.pipe != nil {
		if err := c.unpipe(); err != nil {
			c.lost(err)
			return
		}
	}
	if err := c.conn.Write(p); err != nil {
		c.lost(err)
		return
	}
	if n := c.conn.Pending(); n > 0 {
		c.pending = n
		c.share.Set(c.worker.Memory, n)
		c.conn.Loop().Set(&c.timer, stall)
	}
}

// Full reports whether so much waits to be taken, or too much for all clients.
func (c *Client) Full(most int) bool { return c.Pending() >= most || c.worker.Memory.Full() }

// Pending returns how many bytes the client has yet to take. Whoever writes is to stop while it is not zero, until Drained.
func (c *Client) Pending() int {
	n := c.conn.Pending() + c.unsent
	if c.pipe != nil {
		n += c.pipe.Held()
	}
	return n
}

// End ends the answer.
func (c *Client) End(trailers head.Fields) {
	if c.phase != serving || c.answered {
		return
	}
	if c.left > 0 {
		c.Abort()
		return
	}
	if c.chunked {
		c.worker.claim(c)
		c.worker.out = http1.AppendLastChunk(c.worker.out, trailers)
	}
	c.Flush()
	c.answered = true
	c.exchange = nil
	if !c.decoding {
		c.afterAnswer()
	}
}

// afterAnswer goes on to the next request, or ends the connection, once request and answer are whole.
func (c *Client) afterAnswer() {
	switch {
	case c.phase != serving || !c.answered:
	case c.closing || c.opaque:
		c.whole = c.whole && len(c.ahead) == 0 // what follows may still come
		c.beginLingering()
	case c.whole:
		c.next()
	default:
		c.paused = false
		c.await()
		if !c.decoding && len(c.ahead) > 0 {
			c.feed(nil)
		}
		c.conn.Resume()
	}
}

func (c *Client) next() {
	c.phase, c.served, c.request, c.decoder.Request = idle, true, nil, nil
	if !c.decoding {
		c.dropDecoder()
	}
	c.pending = c.Pending() + 1
	_, keepAlive := c.server.Timeouts()
	c.conn.Loop().Set(&c.timer, keepAlive)
	if len(c.ahead) > 0 && !c.decoding {
		c.feed(nil)
	}
	if c.phase == idle {
		c.conn.Resume()
	}
}

// Abort ends the connection in the middle of an answer: a shortened one must not look whole. The answers before it are whole.
func (c *Client) Abort() {
	if c.phase != serving {
		return
	}
	if c.worker.owner == c {
		c.worker.owner, c.worker.out = nil, c.worker.out[:0]
	}
	if c.request.Minor == 0 || !c.chunked && c.left == head.Unknown {
		c.leave()
		c.conn.Reset() // whose answer ends with the connection can tell by a reset only
		c.server.Closed(c.conn)
		return
	}
	c.dropPipe()
	c.unsent = 0
	c.whole = false // requests behind this one may still come
	c.beginLingering()
}
