package session

import (
	"wstunnel/internal/fastcgi"
	"wstunnel/internal/head"
	"wstunnel/internal/http1"
)

// dialect is the protocol that is spoken with a backend: bytes of requests, and what the bytes of answers are.
type dialect interface {
	// ask writes the head of a request, and makes ready for its answer. framed says that pieces of the body have frames, and that it ends with one.
	ask(dst []byte, r *head.Request) (out []byte, framed bool)
	// frame writes a piece of the body, and lastFrame its end.
	frame(dst, p []byte) []byte
	lastFrame(dst []byte, trailers head.Fields) []byte
	answerDecoder
}

// answerDecoder takes answers apart, as [http1.ResponseDecoder] does.
type answerDecoder interface {
	next(p []byte, asker Asker) (n int, event http1.Event, err error)
	// response, data and trailers are what the events are for.
	response() *head.Response
	data() []byte
	trailers() head.Fields
	Payload() uint64
	Skip(n uint64)
	EOF() error
	Began() bool
}

// httpDialect is HTTP/1.1.
type httpDialect struct{ http1.ResponseDecoder }

func (d *httpDialect) ask(dst []byte, r *head.Request) ([]byte, bool) {
	d.Expect(r.Method)
	return http1.AppendRequest(dst, r), r.Length == head.Unknown
}

func (d *httpDialect) frame(dst, p []byte) []byte { return http1.AppendChunk(dst, p) }

func (d *httpDialect) lastFrame(dst []byte, trailers head.Fields) []byte {
	return http1.AppendLastChunk(dst, trailers)
}

func (d *httpDialect) next(p []byte, _ Asker) (int, http1.Event, error) { return d.Next(p) }
func (d *httpDialect) response() *head.Response                         { return d.Response }
func (d *httpDialect) data() []byte                                     { return d.Data }
func (d *httpDialect) trailers() head.Fields                            { return d.Trailers }

// Complainer is an [Asker] that wants to know what an application over FastCGI writes for the server's log.
type Complainer interface {
	// Complained takes a piece of it, before or within the answer. It is no place to let go of the connection.
	Complained(p []byte)
}

// fastcgiDialect is FastCGI.
type fastcgiDialect struct{ fastcgi.Decoder }

// ask writes the whole of a request without a body.
func (d *fastcgiDialect) ask(dst []byte, r *head.Request) ([]byte, bool) {
	d.Expect(r.Method)
	dst = fastcgi.AppendRequest(dst, r)
	if r.Length == 0 {
		dst = fastcgi.AppendEnd(dst)
	}
	return dst, true
}

func (d *fastcgiDialect) frame(dst, p []byte) []byte { return fastcgi.AppendBody(dst, p) }

func (d *fastcgiDialect) lastFrame(dst []byte, _ head.Fields) []byte { return fastcgi.AppendEnd(dst) }

// events are those that http1 has too.
var events = [...]http1.Event{fastcgi.More: http1.More, fastcgi.Head: http1.Head, fastcgi.Data: http1.Data, fastcgi.End: http1.End}

func (d *fastcgiDialect) next(p []byte, asker Asker) (int, http1.Event, error) {
	for n := 0; ; {
		took, event, err := d.Next(p[n:])
		n += took
		if event != fastcgi.Stderr {
			return n, events[event], err
		}
		if c, ok := asker.(Complainer); ok {
			c.Complained(d.Data)
		}
	}
}

func (d *fastcgiDialect) response() *head.Response { return d.Response }
func (d *fastcgiDialect) data() []byte             { return d.Data }
func (d *fastcgiDialect) trailers() head.Fields    { return nil }

// Payload is nothing: what comes in records goes through the decoder.
func (d *fastcgiDialect) Payload() uint64 { return 0 }

// Skip is not called.
func (d *fastcgiDialect) Skip(uint64) {}
