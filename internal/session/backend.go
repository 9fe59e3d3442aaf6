package session

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/reactor"
)

// Asker is who asked a backend, and is told of its answer.
type Asker interface {
	// Answered is told of a head: any number of 1xx, and then one that counts.
	Answered(r *head.Response)
	// Body is a piece of the answer's body.
	Body(p []byte)
	// Sink returns the client that the body goes to as it comes, or nil where it does not.
	Sink() *Client
	// Spliced says that so many bytes of the body have gone to it inside the kernel.
	Spliced(n int)
	// Caught says that all that has come so far was told.
	Caught()
	// Done says that the answer is whole. The connection is the asker's to release or to close.
	Done(trailers head.Fields)
	// Took says that the backend has taken all that was written.
	Took()
	// Broke says that the connection broke, or kept silent for too long, before the answer was whole. It is closed.
	Broke(err error)
}

// Backend is a connection to a backend over HTTP/1.1 or FastCGI: one request and its answer after the other.
type Backend struct {
	conn   *reactor.Conn
	worker *Worker
	asker  Asker  // nil while the connection is idle
	rests  Rester // told when an idle connection has ended, or nil
	speaks dialect
	timer  reactor.Timer
	limit  time.Duration // of silence
	most   int           // bytes that are read at a time
	heard  time.Duration // when a byte came last, or the wait for one began
	rest   []byte        // of what is being decoded

	reused bool // it has carried an exchange before
	framed bool // pieces of the request's body have frames
	whole  bool // the request was written to its end
	last   bool // the connection ends with this exchange
	ended  bool // the answer has come to its end, which is yet to be told
	dirty  bool // bytes came that nobody asked for
	closed bool
}

// NewBackend takes over a connection to a backend over HTTP/1.1 on its loop.
func NewBackend(conn *reactor.Conn, worker *Worker) *Backend {
	b := &struct {
		Backend
		speaks httpDialect
	}{}
	return b.begin(conn, worker, &b.speaks)
}

// NewFastCGIBackend takes over a connection to an application that speaks FastCGI on its loop. The fields of what it is asked are its parameters; of a request with a
// body the length has to be known, for those that go by CONTENT_LENGTH.
func NewFastCGIBackend(conn *reactor.Conn, worker *Worker) *Backend {
	return new(Backend).begin(conn, worker, &fastcgiDialect{})
}

func (b *Backend) begin(conn *reactor.Conn, worker *Worker, speaks dialect) *Backend {
	b.conn, b.worker, b.speaks, b.most = conn, worker, speaks, maxAhead
	b.timer.On = b
	conn.Handle(b)
	return b
}

// Ask sends the head of a request, and with it what of the body is at hand: in one write, since hand-written servers read once. A request with a
// Protocol asks for an upgrade. Where the body's length is unknown it goes in chunks.
func (b *Backend) Ask(asker Asker, r *head.Request, body []byte) {
	b.asker = asker
	b.whole, b.last = r.Length == 0, r.Close
	w := b.worker
	w.claimAsk(b)
	w.ask, b.framed = b.speaks.ask(w.ask, r)
	switch {
	case len(body) > 0 && b.framed:
		w.ask = b.speaks.frame(w.ask, body)
	default:
		w.ask = append(w.ask, body...)
	}
	w.FlushAsk()
	if !b.closed {
		b.conn.Resume()
	}
}

// Write sends a piece of the request's body. Small pieces that have frames are collected until all that the client has sent so far is decoded.
func (b *Backend) Write(p []byte) {
	switch w := b.worker; {
	case b.closed || b.whole || len(p) == 0:
	case !b.framed:
		b.put(p)
	default:
		w.claimAsk(b)
		if w.ask = b.speaks.frame(w.ask, p); len(w.ask) > heldMost {
			w.FlushAsk()
		}
	}
}

// End ends the request.
func (b *Backend) End(trailers head.Fields) {
	if b.closed || b.whole {
		return
	}
	b.whole = true
	if b.framed {
		b.worker.claimAsk(b)
		b.worker.ask = b.speaks.lastFrame(b.worker.ask, trailers)
		b.worker.FlushAsk()
	}
}

// put writes. What the backend answered before it stopped reading is still to be read.
func (b *Backend) put(p []byte) {
	if err := b.conn.Write(p); err != nil && !b.closed {
		b.last = true
		if !b.conn.Reading() {
			b.broke(err)
		}
	}
}

// Pending returns how many bytes the backend has yet to take.
func (b *Backend) Pending() int { return b.conn.Pending() }

// Await bounds how long the backend may be silent from now on; 0 is for ever.
func (b *Backend) Await(limit time.Duration) {
	b.limit, b.heard = limit, b.conn.Loop().Now()
	if limit > 0 {
		b.conn.Loop().Set(&b.timer, limit)
	} else {
		b.conn.Loop().Stop(&b.timer)
	}
}

// Limit bounds how many bytes of the answer are read at a time.
func (b *Backend) Limit(most int) { b.most = most }

// Pause stops the answer; Resume lets it come.
func (b *Backend) Pause() {
	b.conn.Loop().Stop(&b.timer)
	b.conn.Pause()
}

// Resume lets the answer come.
func (b *Backend) Resume() {
	if b.closed || b.asker == nil || b.conn.Reading() {
		return
	}
	if b.ended {
		b.ended = false
		b.feed(nil)
		return
	}
	if b.limit > 0 {
		b.Await(b.limit)
	}
	b.conn.Resume()
}

// Reusable reports whether the connection can carry another request: the one before was sent whole, its answer read whole and nothing is left
// over.
func (b *Backend) Reusable() bool {
	return !b.closed && b.whole && !b.dirty && !b.last && b.conn.Pending() == 0 && b.asker == nil
}

// Reused reports whether the connection has carried an exchange before.
func (b *Backend) Reused() bool { return b.reused }

// Began reports whether a byte of the answer has come.
func (b *Backend) Began() bool { return b.speaks.Began() }

// Rester is told that the backend has ended an idle connection, or has said what nobody asked for. It is closed.
type Rester interface{ Ended() }

// Rest lets a reusable connection wait for its next request.
func (b *Backend) Rest(r Rester) {
	b.conn.Loop().Stop(&b.timer)
	b.rests, b.reused, b.limit = r, true, 0
	b.conn.Resume()
}

// Lend gives a resting connection to another worker's loop, and has then run there.
func (b *Backend) Lend(to *Worker, then func()) {
	b.rests = nil
	b.conn.Pause()
	b.conn.Move(to.Loop, func() {
		b.worker = to
		then()
	})
}

// Closed reports whether the connection has ended.
func (b *Backend) Closed() bool { return b.closed }

// Close closes the connection. Nobody is told.
func (b *Backend) Close() {
	if b.closed {
		return
	}
	b.closed, b.asker, b.rests = true, nil, nil
	b.conn.Loop().Stop(&b.timer)
	b.conn.Close()
}

// Take takes the connection away from the session, with what was read of it behind the head that was told last. It is paused, and its handler still
// to be replaced.
func (b *Backend) Take() (conn *reactor.Conn, early []byte) {
	b.closed, b.asker = true, nil
	b.conn.Loop().Stop(&b.timer)
	b.conn.PauseBriefly()
	return b.conn, bytes.Clone(b.rest)
}

// Readable takes what the backend sent.
func (b *Backend) Readable(*reactor.Conn) {
	if b.asker == nil {
		if p, err := b.conn.Read(); len(p) > 0 || err != nil { // of TLS it may be nothing of the stream's
			b.endIdle()
		}
		return
	}
	if b.splice() {
		return
	}
	p, err := b.conn.ReadUpTo(b.most)
	switch {
	case errors.Is(err, io.EOF):
		b.atEnd()
	case err != nil:
		b.broke(err)
	case len(p) > 0:
		b.heard = b.conn.Loop().Now()
		b.feed(p)
	}
}

// atEnd deals with the end of the backend's stream.
func (b *Backend) atEnd() {
	if err := b.speaks.EOF(); err != nil {
		b.broke(err)
		return
	}
	b.last = true
	b.feed(nil)
}

// feed decodes what has come.
func (b *Backend) feed(p []byte) {
	for !b.closed {
		n, event, err := b.speaks.next(p, b.asker)
		p = p[n:]
		b.rest = p
		switch {
		case err != nil:
			b.broke(err)
			return
		case event == http1.Head:
			r := b.speaks.response()
			b.last = b.last || r.Close
			b.asker.Answered(r)
		case event == http1.Data:
			b.asker.Body(b.speaks.data())
		case event == http1.End:
			b.dirty = len(p) > 0
			b.done()
			return
		default:
			b.asker.Caught()
			return
		}
	}
}

func (b *Backend) done() {
	asker := b.asker
	b.asker = nil
	b.conn.Loop().Stop(&b.timer)
	asker.Done(b.speaks.trailers())
}

// endIdle closes a connection that was to wait for its next request.
func (b *Backend) endIdle() {
	r := b.rests
	b.Close()
	if r != nil {
		r.Ended()
	}
}

func (b *Backend) broke(err error) {
	if b.closed {
		return
	}
	asker := b.asker
	if asker == nil {
		b.endIdle()
		return
	}
	b.Close()
	asker.Broke(err)
}

// Drained says that the backend has taken all that was written.
func (b *Backend) Drained(*reactor.Conn) {
	if b.asker != nil {
		b.asker.Took()
	}
}

// Failed ends the connection.
func (b *Backend) Failed(_ *reactor.Conn, err error) { b.broke(err) }

// Expired ends a wait.
func (b *Backend) Expired() {
	b.conn.Do(func() {
		now := b.conn.Loop().Now()
		if rest := b.heard + b.limit - now; rest > 0 {
			b.conn.Loop().Set(&b.timer, rest)
			return
		}
		b.broke(fmt.Errorf("the backend has been silent for %s: %w", b.limit, os.ErrDeadlineExceeded))
	})
}
