// Package compress makes bodies shorter: zstd (RFC 8878), br (RFC 7932) and gzip (RFC 1952), piece by piece. It knows no I/O, and is no work for an event loop.
package compress

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"wstunnel/internal/head"
)

// window is how far back encoders look, in bytes. It bounds what each takes.
const window = 256 << 10

// maxEncoders is how many bodies are compressed at a time; each takes about a megabyte while its client takes it.
const maxEncoders = 256

var encoders atomic.Int64

// names are the codings, the one that is taken of equal ones first.
var names = []string{"zstd", "br", "gzip"}

// Encoder compresses one body. It is for one goroutine at a time.
type Encoder struct {
	coding string
	pool   *sync.Pool
	writer writer
	out    bytes.Buffer
}

// writer is what the three have in common.
type writer interface {
	io.Writer
	Flush() error
	Close() error
	Reset(w io.Writer)
}

// key names encoders that are alike.
type key struct {
	coding string
	level  int
}

var pools sync.Map // of *sync.Pool by key

// New returns an encoder for the coding that an Accept-Encoding likes best, at a level from 1, the fastest, to 9; nil where it takes none, or where as many bodies
// are being compressed as may be. It is to be closed.
func New(accept string, level int) *Encoder {
	accepted := head.Codings(accept, names...)
	if len(accepted) == 0 {
		return nil
	}
	if encoders.Add(1) > maxEncoders {
		encoders.Add(-1)
		return nil
	}
	k := key{names[accepted[0]], level}
	pool, known := pools.Load(k)
	if !known {
		pool, _ = pools.LoadOrStore(k, &sync.Pool{New: func() any { return newWriter(k) }})
	}
	e := &Encoder{coding: k.coding, pool: pool.(*sync.Pool)}
	e.writer = e.pool.Get().(writer)
	e.writer.Reset(&e.out)
	return e
}

func newWriter(k key) writer {
	switch k.coding {
	case "zstd":
		w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.EncoderLevelFromZstd(k.level)), zstd.WithEncoderConcurrency(1),
			zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(window))
		if err != nil { // its options are constants
			panic(err)
		}
		return w
	case "br":
		return brotli.NewWriterOptions(nil, brotli.WriterOptions{Quality: k.level, LGWin: 18})
	}
	w, err := gzip.NewWriterLevel(nil, k.level)
	if err != nil { // the level is one of its own
		panic(err)
	}
	return w
}

// Coding is the name of the coding, as Content-Encoding has it.
func (e *Encoder) Coding() string { return e.coding }

// Next compresses a piece, and returns what there is of the result so far: with flush all that can be made of the pieces until now, at the end the rest. The
// result holds until the next call.
func (e *Encoder) Next(p []byte, flush, end bool) ([]byte, error) {
	e.out.Reset()
	if _, err := e.writer.Write(p); err != nil {
		return nil, err
	}
	switch {
	case end:
		if err := e.writer.Close(); err != nil {
			return nil, err
		}
	case flush:
		if err := e.writer.Flush(); err != nil {
			return nil, err
		}
	}
	return e.out.Bytes(), nil
}

// Close gives the encoder back. It may be called more than once.
func (e *Encoder) Close() {
	if e.writer == nil {
		return
	}
	e.writer.Reset(io.Discard)
	e.pool.Put(e.writer)
	e.writer = nil
	encoders.Add(-1)
}
