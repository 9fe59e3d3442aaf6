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
	decoder  *http1.RequestDecoder // nil while nothing has come of a request
	ahead    []byte                // read, and not yet decoded
	rest     []byte                // of what is being decoded
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
	more := len(c.rest) > 0
	c.decoding, c.rest = false, nil
	c.dropDecoder()
	c.worker.FlushAsk()
	if c.phase == serving && c.answered && c.closing {
		c.whole = c.whole && !more // what follows may still come
		c.beginLingering()
	}
}

func (c *Client) decode(p []byte) {
	if c.decoder == nil {
		c.decoder = c.worker.decoder()
	}
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

// dropDecoder gives the decoder back while nothing has come of a request.
func (c *Client) dropDecoder() {
	if c.phase == idle && c.decoder != nil && c.decoder.Idle() {
		c.worker.putDecoder(c.decoder)
		c.decoder = nil
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
		if c.Pending() == 0 { // else the timer is for taking that
			c.conn.Loop().Set(&c.timer, stall)
		}
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
	switch {
	case c.phase == serving && !c.answered:
		c.exchange = exchange
	case c.phase == gone && exchange != nil:
		exchange.Gone(io.EOF)
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
