package session

import (
	"net/http"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/reactor"
)

// Worker is what the sessions of one loop share. It belongs to that loop.
type Worker struct {
	Loop *reactor.Loop
	// Memory is what slow clients have to share.
	Memory *Memory
	// Fields is a place to make the fields of a head in, which is written before the next one is made.
	Fields head.Fields
	// Answer is a place for the head of an answer, likewise.
	Answer head.Response

	ask    []byte   // what asking is about to write; a place to make it
	asking *Backend // nil while ask is empty
	out    []byte   // what the owner is about to write
	owner  *Client  // nil while out is empty

	places [][]byte // for frames of HTTP/2, between two turns
	piece  []byte   // see Piece

	decoders []*http1.RequestDecoder // that no client has

	date   string
	dateAt int64 // in seconds
}

// NewWorker makes the worker of a loop.
func NewWorker(loop *reactor.Loop, memory *Memory) *Worker {
	return &Worker{Loop: loop, Memory: memory, out: make([]byte, 0, heldMost+1024)}
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
		w.FlushAsk()
	}
	w.asking = b
}

// FlushAsk sends a backend what was collected for it.
func (w *Worker) FlushAsk() {
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

// maxDecoders is how many decoders are kept for clients that are about to ask for something.
const maxDecoders = 128

func (w *Worker) decoder() *http1.RequestDecoder {
	n := len(w.decoders)
	if n == 0 {
		return new(http1.RequestDecoder)
	}
	d := w.decoders[n-1]
	w.decoders = w.decoders[:n-1]
	return d
}

func (w *Worker) putDecoder(d *http1.RequestDecoder) {
	if len(w.decoders) < maxDecoders {
		*d = http1.RequestDecoder{}
		w.decoders = append(w.decoders, d)
	}
}

// Piece returns room for n bytes, 64 KiB at most, to be read into and written at once.
func (w *Worker) Piece(n int) []byte {
	if w.piece == nil {
		w.piece = make([]byte, maxAhead)
	}
	return w.piece[:min(n, maxAhead)]
}

// place returns room for the frames of a turn, which is to be given back.
func (w *Worker) place() []byte {
	n := len(w.places)
	if n == 0 {
		return make([]byte, 0, 4<<10)
	}
	place := w.places[n-1]
	w.places = w.places[:n-1]
	return place[:0]
}

// Of the room for frames, so much is kept.
const (
	maxPlaces    = 4
	maxPlaceSize = 128 << 10
)

func (w *Worker) giveBack(place []byte) {
	if len(w.places) < maxPlaces && cap(place) > 0 && cap(place) <= maxPlaceSize {
		w.places = append(w.places, place)
	}
}
