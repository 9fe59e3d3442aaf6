//go:build linux

package session

import (
	"net/http"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
)

// Worker is what the sessions of one loop share. It belongs to that loop.
type Worker struct {
	Loop *reactor.Loop
	// Fields is a place to make the fields of a head in, which is written before the next one is made.
	Fields head.Fields

	ask    []byte   // what asking is about to write; a place to make it
	asking *Backend // nil while ask is empty
	out    []byte   // what the owner is about to write
	owner  *Client  // nil while out is empty

	date   string
	dateAt int64 // in seconds
}

// NewWorker makes the worker of a loop.
func NewWorker(loop *reactor.Loop) *Worker {
	return &Worker{Loop: loop, out: make([]byte, 0, heldMost+1024)}
}

// heldMost is what is collected of a head and the beginning of its body, so that both leave in one write.
const heldMost = 16 << 10

// claim makes out the client's own.
func (w *Worker) claim(c *Client) {
	if w.owner != nil && w.owner != c {
		w.owner.Flush()
	}
	w.owner = c
}

// claimAsk makes ask the backend's own.
func (w *Worker) claimAsk(b *Backend) {
	if w.asking != b {
		w.flushAsk()
	}
	w.asking = b
}

// flushAsk sends a backend what was collected for it.
func (w *Worker) flushAsk() {
	b, p := w.asking, w.ask
	w.asking, w.ask = nil, p[:0]
	if b != nil && !b.closed {
		b.put(p)
	}
}

// now returns the Date of an answer, which changes once a second.
func (w *Worker) now() string {
	now := time.Now()
	if at := now.Unix(); at != w.dateAt {
		w.dateAt, w.date = at, now.UTC().Format(http.TimeFormat)
	}
	return w.date
}
