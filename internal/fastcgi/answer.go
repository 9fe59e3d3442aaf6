package fastcgi

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"wstunnel/internal/head"
	"wstunnel/internal/http1"
)

// Event is what the bytes were.
type Event int

// The events. After an error there are no more.
const (
	More   Event = iota // all is taken; the next event needs more bytes
	Head                // the head of the answer is whole: the decoder's Response
	Data                // a piece of its body, the decoder's Data, which aliases what was fed
	Stderr              // a piece of what the application complains of, likewise
	End                 // the answer is whole
)

// ErrNotFastCGI is what the first bytes of an application can be nothing of.
var ErrNotFastCGI = errors.New("no record of FastCGI")

// Decoder follows the answers of one application. For each request, in order, it is to be told by [Decoder.Expect]. What it holds is bounded by the longest head.
type Decoder struct {
	// Response is the head that a Head event is for. It is the caller's to keep.
	Response *head.Response
	// Data is the piece that a Data or a Stderr event is for.
	Data []byte

	header  [headerSize]byte
	have    int           // bytes of header
	content int           // bytes of the record still to come
	padding int           // and behind those
	verdict [endSize]byte // what a record of typeEnd says
	head    []byte        // as far as it has come
	began   bool
	inBody  bool
	ended   bool
	toHead  bool  // the request was a HEAD
	dropped bool  // the answer has no body, whatever comes
	left    int64 // bytes of the body that are still to come, or [head.Unknown]
}

// Expect makes ready for the answer to a request of a method.
func (d *Decoder) Expect(method string) { *d = Decoder{toHead: method == http.MethodHead} }

// Began reports whether a byte of the answer has come.
func (d *Decoder) Began() bool { return d.began }

// EOF says what is wrong with a stream that has ended before the answer has.
func (d *Decoder) EOF() error {
	switch {
	case !d.began:
		return io.EOF
	case d.inBody:
		return fmt.Errorf("in the application's answer: %w", io.ErrUnexpectedEOF)
	}
	return fmt.Errorf("after %d bytes of the head of the application's answer: %w", len(d.head), io.ErrUnexpectedEOF)
}

// Next takes the next bytes and tells what they are; n of them are done with. Bytes behind the End are nobody's: they are left.
func (d *Decoder) Next(p []byte) (n int, event Event, err error) {
	for !d.ended {
		if d.have == headerSize && d.content+d.padding == 0 {
			if d.have = 0; d.kind() == typeEnd {
				event, err = d.end()
				return n, event, err
			}
		}
		if n == len(p) {
			break
		}
		d.began = true
		switch {
		case d.have < headerSize:
			took := copy(d.header[d.have:], p[n:])
			d.have, n = d.have+took, n+took
			if d.have == headerSize {
				err = d.beginRecord()
			}
		case d.content > 0:
			var took int
			took, event, err = d.take(p[n:min(len(p), n+d.content)])
			d.content, n = d.content-took, n+took
		default:
			took := min(d.padding, len(p)-n)
			d.padding, n = d.padding-took, n+took
		}
		if event != More || err != nil {
			return n, event, err
		}
	}
	return n, More, nil
}

// kind is the type of the record; 0 for one that is of no interest.
func (d *Decoder) kind() byte {
	if binary.BigEndian.Uint16(d.header[2:]) != requestID {
		return 0
	}
	return d.header[1]
}

func (d *Decoder) beginRecord() error {
	if d.header[0] != version {
		return fmt.Errorf("the answer has %s where a record begins, which is %w", head.Quoted(string(d.header[:])), ErrNotFastCGI)
	}
	d.content, d.padding = int(binary.BigEndian.Uint16(d.header[4:])), int(d.header[6])
	if d.kind() == typeEnd && d.content != endSize {
		return fmt.Errorf("the application ends its answer in %d bytes, not %d", d.content, endSize)
	}
	return nil
}

// take takes a piece of a record's content, or the beginning of it.
func (d *Decoder) take(p []byte) (n int, event Event, err error) {
	switch d.kind() {
	case typeStderr:
		d.Data = p
		return len(p), Stderr, nil
	case typeEnd:
		copy(d.verdict[endSize-d.content:], p)
	case typeStdout:
		if !d.inBody {
			return d.takeHead(p)
		}
		return len(p), d.takeBody(p), nil
	}
	return len(p), More, nil
}

// takeBody takes a piece of the body. What is beyond the length that the head has announced is dropped.
func (d *Decoder) takeBody(p []byte) Event {
	if d.left != head.Unknown {
		p = p[:min(int64(len(p)), d.left)]
		d.left -= int64(len(p))
	}
	if d.dropped || len(p) == 0 {
		return More
	}
	d.Data = p
	return Data
}

// end ends the answer. The application may not have taken the request at all.
func (d *Decoder) end() (Event, error) {
	switch status := d.verdict[4]; {
	case status == 2:
		return More, errors.New("the application is overloaded")
	case status != 0:
		return More, fmt.Errorf("the application refuses the request with protocol status %d", status)
	case !d.inBody, d.left > 0:
		return More, d.EOF()
	}
	d.ended = true
	return End, nil
}

// takeHead takes a piece of the head.
func (d *Decoder) takeHead(p []byte) (n int, event Event, err error) {
	before := len(d.head)
	whole := p
	if before > 0 {
		d.head = append(d.head, p[:min(len(p), http1.MaxResponseHead+1-before)]...)
		whole = d.head
	}
	end := http1.HeadEnd(whole, before)
	switch {
	case end > http1.MaxResponseHead || end == 0 && len(whole) > http1.MaxResponseHead:
		return 0, More, fmt.Errorf("the head of the application's answer is above %d bytes", http1.MaxResponseHead)
	case end == 0:
		if before == 0 {
			d.head = append([]byte(nil), p...)
		}
		return len(p), More, nil
	}
	if d.Response, err = d.parse(string(whole[:end])); err != nil {
		return 0, More, err
	}
	d.head, d.inBody = nil, true
	return end - before, Head, nil
}

// parse parses a whole head (RFC 3875, section 6.3).
func (d *Decoder) parse(text string) (*head.Response, error) {
	fields, err := http1.ParseFields(text)
	if err != nil {
		return nil, err
	}
	r := &head.Response{Length: head.Unknown}
	if r.Status, r.Fields, err = status(fields); err != nil {
		return nil, err
	}
	if n := fields.Count(head.ContentLength); n > 1 {
		return nil, fmt.Errorf("the answer has %d Content-Length headers", n)
	} else if n == 1 {
		text := fields.Get(head.ContentLength)
		length, ok := head.ParseLength(text)
		if !ok {
			return nil, fmt.Errorf("the answer has Content-Length %s", head.Quoted(text))
		}
		r.Length = length
	}
	d.left = r.Length
	if d.toHead || r.Status == http.StatusNoContent || r.Status == http.StatusNotModified {
		r.Length, d.left, d.dropped = 0, head.Unknown, true
	}
	return r, nil
}

// status returns the status of an answer, and its fields without the one that says it: 302 for a Location alone, else 200 (RFC 3875, sections 6.2.3 and 6.3.3).
func status(fields head.Fields) (code int, rest head.Fields, err error) {
	rest = make(head.Fields, 0, len(fields))
	for _, f := range fields {
		switch {
		case !strings.EqualFold(f.Name, "Status"):
			rest = append(rest, f)
		case code != 0:
			return 0, nil, errors.New("the answer has several Status headers")
		default:
			digits, _, _ := strings.Cut(f.Value, " ")
			if code, err = strconv.Atoi(digits); err != nil || len(digits) != 3 || code < http.StatusOK {
				return 0, nil, fmt.Errorf("the answer has Status %s", head.Quoted(f.Value))
			}
		}
	}
	switch {
	case len(fields) == 0:
		return 0, nil, errors.New("the answer has a head without a header")
	case code == 0 && fields.Has(head.Location):
		code = http.StatusFound
	case code == 0:
		code = http.StatusOK
	}
	return code, rest, nil
}
