package proxy

import (
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"wstunnel/internal/compress"
	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/session"
)

// compressor is the client's stream of an answer that is compressed on its way. It belongs to the client's loop; the compressing is done beside that, a piece at a
// time.
type compressor struct {
	session.Stream
	x       *exchange
	encoder *compress.Encoder

	in       []byte // what is to be compressed next
	away     int    // bytes that are being compressed
	busy     bool
	flush    bool // what came so far is to go out
	ended    bool // no more comes
	trailers head.Fields
	done     bool // it has ended, or broke
}

// compressing bounds how many pieces are compressed at a time.
var compressing = make(chan struct{}, runtime.GOMAXPROCS(0))

// compress replaces the client's stream where the answer is to be compressed, and says so in its fields.
func (x *exchange) compress(status int, fields head.Fields, length int64) (head.Fields, int64) {
	c := &x.rules().Compress
	if !c.On || x.over || !isCompressible(c, status, fields, x.announced(fields, length)) {
		return fields, length
	}
	if !fields.HasToken(head.Vary, "Accept-Encoding") && !fields.HasToken(head.Vary, "*") {
		fields.Add(head.Vary, "Accept-Encoding")
	}
	r := x.in.Request
	if !r.AtLeast11() || r.Fields.Has(head.Range) {
		return fields, length
	}
	encoder := compress.New(r.Fields.Joined(head.AcceptEncoding), c.Level)
	if encoder == nil {
		return fields, length
	}
	fields = slices.DeleteFunc(fields, func(f head.Field) bool {
		return f.ID == head.ContentLength || strings.EqualFold(f.Name, "Accept-Ranges")
	})
	for i := range fields {
		if f := &fields[i]; f.ID == head.ETag && !strings.HasPrefix(f.Value, "W/") {
			f.Value = "W/" + f.Value // it is equal to what it was, but not byte by byte (RFC 9110, section 8.8.1)
		}
	}
	fields.Add(head.ContentEncoding, encoder.Coding())
	if r.Method == http.MethodHead {
		encoder.Close()
	} else {
		x.client = &compressor{Stream: x.client, x: x, encoder: encoder}
	}
	return fields, head.Unknown
}

// announced is the length that the answer's body has, or would have had for a GET; [head.Unknown] where that is not said.
func (x *exchange) announced(fields head.Fields, length int64) int64 {
	if x.in.Request.Method != http.MethodHead {
		return length
	}
	if said, err := strconv.ParseInt(fields.Get(head.ContentLength), 10, 64); err == nil {
		return said
	}
	return head.Unknown
}

// digests are fields that say what a body is, byte by byte.
var digests = []string{"digest", "content_digest", "content_md5"}

// isCompressible reports whether an answer may be compressed, and is worth it.
func isCompressible(c *config.Compress, status int, fields head.Fields, length int64) bool {
	switch {
	case status != http.StatusOK && status != http.StatusCreated && status != http.StatusForbidden && status != http.StatusNotFound,
		length != head.Unknown && length < c.MinSize,
		fields.Has(head.ContentEncoding), fields.Has(head.ContentRange), fields.HasToken(head.CacheControl, "no-transform"):
		return false
	}
	if slices.ContainsFunc(fields, func(f head.Field) bool { return slices.Contains(digests, lowerUnderscore(f.Name)) }) {
		return false
	}
	kind, _, _ := strings.Cut(fields.Get(head.ContentType), ";")
	kind = strings.ToLower(head.Trim(kind))
	if kind == "text/event-stream" { // each event is to arrive by itself
		return false
	}
	return slices.ContainsFunc(c.Types, func(t string) bool {
		whole, all := strings.CutSuffix(t, "*")
		return t == kind || all && strings.HasPrefix(kind, whole)
	})
}

// Write takes a piece.
func (c *compressor) Write(p []byte) {
	if !c.done {
		c.in = append(c.in, p...)
		c.work()
	}
}

// Flush has what was written sent.
func (c *compressor) Flush() {
	if !c.done && !c.ended {
		c.flush = true
		c.work()
	}
	c.Stream.Flush()
}

// End takes the end, behind which the exchange ends when all is compressed.
func (c *compressor) End(trailers head.Fields) {
	if !c.ended {
		c.ended, c.trailers = true, trailers
		c.work()
	}
}

// Abort ends the answer in its middle.
func (c *compressor) Abort() {
	c.end()
	c.Stream.Abort()
}

// Pending returns how many bytes are being compressed or to be taken. What waits for more to be compressed with keeps nobody from writing that.
func (c *compressor) Pending() int {
	n := c.away + c.Stream.Pending()
	if c.busy {
		n += len(c.in)
	}
	return n
}

// Full reports whether that is enough.
func (c *compressor) Full(most int) bool { return c.Pending() >= most || c.Stream.Full(most) }

// smallest is what is worth compressing by itself while more is to come.
const smallest = 8 << 10

// work has what came compressed.
func (c *compressor) work() {
	if c.busy || c.done || !c.ended && len(c.in) < smallest && !(c.flush && len(c.in) > 0) {
		return
	}
	p, flush, end := c.in, c.flush || len(c.in) < smallest, c.ended
	c.in, c.away, c.busy, c.flush = nil, len(c.in), true, false
	conn := c.Conn()
	go func() {
		compressing <- struct{}{}
		out, err := c.encoder.Next(p, flush, end)
		<-compressing
		conn.Loop().Post(func() { conn.Do(func() { c.compressed(out, flush, end, err) }) })
	}()
}

// compressed sends what a piece has become.
func (c *compressor) compressed(out []byte, flush, end bool, err error) {
	c.busy, c.away = false, 0
	x := c.x
	switch {
	case c.done: // the encoder could not be given back while it was at work
		c.encoder.Close()
		return
	case err != nil:
		x.abort(fmt.Errorf("compressing the answer: %w", err))
		return
	}
	x.compressed += int64(len(out))
	c.Stream.Write(out)
	switch {
	case c.done:
	case end:
		c.end()
		x.finish()
		c.Stream.End(c.trailers)
	case flush:
		c.Stream.Flush()
		c.goOn()
	default:
		c.goOn()
	}
}

// goOn has more compressed, or more written.
func (c *compressor) goOn() {
	c.work()
	if !c.busy && !c.done && c.Stream.Pending() == 0 {
		c.x.responder.drained()
	}
}

// drained says that the client has taken all that it was sent, and reports whether there is nothing else to be sent before more is written.
func (c *compressor) drained() bool { return !c.busy }

// end lets go of the encoder.
func (c *compressor) end() {
	c.done, c.in = true, nil
	if !c.busy {
		c.encoder.Close()
	}
}
