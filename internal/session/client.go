package session

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/reactor"
)

// Server is who a client's requests are for. It is called on the client's loop.
type Server interface {
	// Requested is told of a request and returns who serves it; nil where the connection was taken away by [Client.Take].
	Requested(s Stream, r *head.Request) Exchange
	// Refused is told of a head that was refused; the client is answered already.
	Refused(err *head.Error)
	// Timeouts returns how long a client may take over a request's head, and how long it may be idle between two requests.
	Timeouts() (requestHead, keepAlive time.Duration)
	// Closed is told once that the connection has ended, unless it was taken away.
	Closed(conn *reactor.Conn)
}

// Exchange serves one request, of which it is told what comes.
type Exchange interface {
	// Data is a piece of the request's body.
	Data(p []byte)
	// Whole says that the request has come to its end.
	Whole(trailers head.Fields)
	// Drained says that the client has taken all that was written.
	Drained()
	// Gone says that the client has left, or stalls for too long, before it was answered. Nothing can be written any more, but for an
	// answer to [ErrStalled].
	Gone(err error)
}

// Errors of [Exchange.Gone].
var (
	ErrStalled   = errors.New("the client does not send the rest of its request")
	ErrNotTaking = errors.New("the client does not take its answer")
	ErrMalformed = errors.New("the request body is malformed")
)

// Times that a client is given beside those of the [Server].
const (
	stall       = 60 * time.Second // to send a byte of a body, or to take one of an answer
	lingerTime  = 30 * time.Second // to go on sending what nobody wants
	lingerPause = 5 * time.Second  // to be silent meanwhile
)

// maxAhead bounds what is read of a client before it is asked for: requests behind the one that is served, or bytes behind an upgrade.
const maxAhead = 64 << 10

// A client's turn ends, so that others have theirs, when it has begun 16 requests, fewer over HTTP/2 if their heads are long, or sent 1,024 pieces of a
// body.
const (
	turnWork     = 1024
	requestWork  = 64
	bytesPerWork = 64 // of heads over HTTP/2, which need not take as many on the wire
)

// phase is where a client's connection is.
type phase uint8

const (
	idle      phase = iota // between two requests, or in a head
	serving                // a request is served
	lingering              // the last answer is given; the client is let end
	gone
)

// Client is a client's connection over HTTP/1.x: one request and its answer after the other.
type Client struct {
	conn     *reactor.Conn
	worker   *Worker
	server   Server
	exchange Exchange
	request  *head.Request
	decoder  http1.RequestDecoder
	ahead    []byte // read, and not yet decoded
	rest     []byte // of what is being decoded
	timer    reactor.Timer
	phase    phase

	decoding  bool // within feed
	whole     bool // the request has come to its end
	paused    bool // the exchange does not want the rest of the body now
	closing   bool // the connection ends with this answer
	served    bool // one request at least was answered
	responded bool // the final head was written
	answered  bool // the answer was written to its end
	chunked   bool // the answer goes in chunks
	opaque    bool // what comes is no HTTP any more
	spoke     bool // and it has come
	left      int64
	pipe      *reactor.Pipe // with what the client has yet to take of a body, or nil
	unsent    int           // bytes of a file that the client did not take
	pending   int           // bytes that were not taken when the timer was set
	share     Share         // of the memory for slow clients
	until     time.Duration // when lingering ends
}

// Serve takes over a client's connection on its loop.
func Serve(conn *reactor.Conn, worker *Worker, server Server) *Client {
	c := &Client{conn: conn, worker: worker, server: server}
	c.timer.On = c
	conn.Handle(c)
	requestHead, _ := server.Timeouts()
	conn.Loop().Set(&c.timer, requestHead)
	conn.Resume()
	return c
}

// Conn returns the connection, which stays the client's.
func (c *Client) Conn() *reactor.Conn { return c.conn }

// Worker returns that of the connection's loop.
func (c *Client) Worker() *Worker { return c.worker }

// Idle reports whether no request is served.
func (c *Client) Idle() bool { return c.phase == idle }

// Readable takes what the client sent.
func (c *Client) Readable(*reactor.Conn) {
	p, err := c.conn.Read()
	switch {
	case errors.Is(err, io.EOF):
		c.atEnd()
	case err != nil:
		c.lost(err)
	case len(p) == 0:
	case c.phase == lingering:
		c.linger()
	default:
		c.feed(p)
	}
}

// atEnd deals with the end of the client's stream.
func (c *Client) atEnd() {
	switch {
	case c.phase == serving && c.opaque && c.spoke:
		c.conn.Pause() // it may have said all it has to say; the tunnel will come upon the end
	case c.phase == serving && !c.answered:
		c.lost(io.EOF)
	case c.phase == lingering && c.Pending() > 0:
		c.conn.Pause()
	case c.phase == lingering:
		c.close()
	default:
		c.whole = true
		c.beginLingering() // the answer before may not have been taken yet
		c.conn.Pause()
	}
}

// feed decodes what has come.
func (c *Client) feed(p []byte) {
	if c.decoding {
		return
	}
	c.decoding = true
	c.decode(p)
	c.decoding, c.rest = false, nil
	c.worker.flushAsk()
	if c.phase == serving && c.answered && c.closing {
		c.beginLingering()
	}
}

func (c *Client) decode(p []byte) {
	own := len(c.ahead) > 0
	if own {
		p = append(c.ahead, p...)
		c.ahead = nil
	}
	work := 0
	for c.phase == idle || c.phase == serving && !(c.answered && c.closing) {
		if c.phase == serving && (c.whole || c.paused) || c.phase == idle && c.Pending() > 0 {
			c.keep(p, own)
			return
		}
		if work >= turnWork && len(p) > 0 {
			c.keep(p, own)
			c.goOnLater()
			return
		}
		n, event, err := c.decoder.Next(p)
		p = p[n:]
		c.rest = p
		switch {
		case err != nil:
			c.refuse(err)
			return
		case event == http1.Head:
			work += requestWork
			c.begin(c.decoder.Request)
		case event == http1.Data:
			work++
			c.data(c.decoder.Data)
		case event == http1.End:
			c.whole = true
			c.conn.Loop().Stop(&c.timer)
			if c.exchange != nil && !c.answered {
				c.exchange.Whole(c.decoder.Trailers)
			}
			c.afterAnswer()
		default:
			c.await()
			c.conn.Resume()
			return
		}
	}
}

// keep keeps what cannot be decoded yet. It may be the client's own memory already.
func (c *Client) keep(p []byte, own bool) {
	switch {
	case len(p) == 0:
	case own:
		c.ahead = p
	default:
		c.ahead = bytes.Clone(p)
	}
	if len(c.ahead) >= maxAhead || c.paused {
		c.conn.Pause()
	}
}

// goOnLater goes on with what was kept when others have had their turn.
func (c *Client) goOnLater() {
	c.conn.Loop().Post(func() {
		c.conn.Do(func() {
			if len(c.ahead) > 0 {
				c.feed(nil)
			}
		})
	})
}

// await sets the time for what is to come next.
func (c *Client) await() {
	switch {
	case c.phase == serving && !c.whole && !c.opaque:
		c.conn.Loop().Set(&c.timer, stall)
	case c.phase == idle && c.decoder.Partial() && c.served:
		requestHead, _ := c.server.Timeouts()
		c.conn.Loop().Set(&c.timer, requestHead)
		c.served = false // it runs from the first byte
	}
}

// begin begins to serve a request.
func (c *Client) begin(r *head.Request) {
	c.conn.Loop().Stop(&c.timer)
	c.request, c.phase = r, serving
	c.whole, c.paused, c.responded, c.answered, c.chunked = false, false, false, false, false
	c.closing = r.Close
	c.opaque, c.spoke = r.Protocol != "", false
	exchange := c.server.Requested(c, r)
	if c.phase == serving && !c.answered {
		c.exchange = exchange
	}
}

func (c *Client) data(p []byte) {
	c.spoke = true
	if c.exchange != nil && !c.answered {
		c.exchange.Data(p)
	}
}

// refuse answers what is no request, or a body that comes apart.
func (c *Client) refuse(err error) {
	var bad *head.Error
	if !errors.As(err, &bad) {
		bad = head.Bad("%s", err)
	}
	if c.phase == serving {
		c.closing = true
		c.conn.Pause()
		if c.exchange != nil {
			c.exchange.Gone(fmt.Errorf("%w: %w", ErrMalformed, bad))
		}
		return
	}
	c.server.Refused(bad)
	c.request, c.phase, c.closing, c.whole = &head.Request{Method: http.MethodGet, Major: 1, Minor: 1}, serving, true, false
	c.responded, c.answered = false, false
	refuse(c, bad)
}

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

// Abort ends the connection in the middle of an answer: a shortened one must not look whole.
func (c *Client) Abort() {
	if c.phase != serving {
		return
	}
	if c.worker.owner == c {
		c.worker.owner, c.worker.out = nil, c.worker.out[:0]
	}
	c.leave()
	if c.request.Minor == 0 || !c.chunked && c.left == head.Unknown {
		c.conn.Reset() // whose answer ends with the connection can tell by a reset only
	} else {
		c.conn.Close()
	}
	c.server.Closed(c.conn)
}

// Room is what a connection reads at a time.
func (c *Client) Room() int { return maxAhead }

// Responded reports whether the head that counts was written.
func (c *Client) Responded() bool { return c.responded }

// Pause stops the request's body; Resume lets it come.
func (c *Client) Pause() {
	if !c.whole {
		c.paused = true
	}
}

// Resume lets the request's body come.
func (c *Client) Resume() {
	if !c.paused {
		return
	}
	c.paused = false
	if c.phase != serving || c.whole {
		return
	}
	c.await()
	c.feed(nil)
	if c.phase == serving && !c.paused && len(c.ahead) < maxAhead {
		c.conn.Resume()
	}
}

// SayContinue asks for the body of a request that waits for it (RFC 9110, section 10.1.1).
func (c *Client) SayContinue() {
	if c.phase == serving && !c.responded && c.request.Expect {
		c.Respond(&head.Response{Status: http.StatusContinue})
		c.Flush()
	}
}

// Take takes the connection away from the session, with what was read of it and not yet handed on. It is paused, and its handler
// still to be replaced.
func (c *Client) Take() (conn *reactor.Conn, ahead []byte) {
	c.Flush()
	c.leave()
	c.conn.Pause()
	ahead, c.ahead = append(c.ahead, c.rest...), nil
	return c.conn, ahead
}

// leave ends the session's part in the connection.
func (c *Client) leave() {
	c.conn.Loop().Stop(&c.timer)
	c.dropPipe()
	c.share.Set(c.worker.Memory, 0)
	c.phase, c.exchange = gone, nil
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
