package http1

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"wstunnel/internal/head"
)

// MaxResponseHead bounds a response's head in bytes.
const MaxResponseHead = 128 << 10

// maxInformational bounds the 1xx responses before the one that counts.
const maxInformational = 16

// NotHTTPError is an answer whose first bytes can be nothing of HTTP.
type NotHTTPError struct {
	Began string // how it begins
}

func (e *NotHTTPError) Error() string {
	return "the answer begins with " + head.Quoted(e.Began) + ", which is no status line of HTTP/1"
}

// ResponseDecoder follows the responses of one backend. For each request, in order, it is to be told by [ResponseDecoder.Expect].
type ResponseDecoder struct {
	// Response is the head that a Head event is for: any number of 1xx, and then the one that counts. It is the caller's to keep.
	Response *head.Response
	body

	head          []byte // as far as it has come
	inBody        bool
	toHead        bool // the request was a HEAD
	informational int
}

// Expect makes ready for the response to a request of a method.
func (d *ResponseDecoder) Expect(method string) {
	d.toHead, d.informational, d.inBody = method == http.MethodHead, 0, false
	d.state, d.lenient = bodyNone, true
}

// Next takes the next bytes and tells what they are; n of them are done with. Behind a 101 everything is Data. Bytes behind the End of a response
// are nobody's: they are left.
func (d *ResponseDecoder) Next(p []byte) (n int, event Event, err error) {
	if !d.inBody {
		return d.nextHead(p)
	}
	n, event, bad := d.body.next(p)
	if bad != nil {
		return n, More, bad
	}
	return n, event, nil
}

// EOF tells that the stream has ended. It returns nil where that is the end of the response: [ResponseDecoder.Next] then tells End.
func (d *ResponseDecoder) EOF() error {
	switch {
	case d.inBody && d.state == bodyOpaque && d.Response.Status != http.StatusSwitchingProtocols:
		d.state = bodyEnded
		return nil
	case d.inBody:
		return fmt.Errorf("in the response's body: %w", io.ErrUnexpectedEOF)
	case len(d.head) > 0:
		return fmt.Errorf("after %d bytes of the response head: %w", len(d.head), io.ErrUnexpectedEOF)
	}
	return io.EOF
}

// Began reports whether a byte of the response has come.
func (d *ResponseDecoder) Began() bool { return d.inBody || len(d.head) > 0 || d.informational > 0 }

func (d *ResponseDecoder) nextHead(p []byte) (n int, event Event, err error) {
	if len(p) == 0 {
		return 0, More, nil
	}
	before := len(d.head)
	whole := p
	if before > 0 {
		d.head = append(d.head, p[:min(len(p), MaxResponseHead+1-before)]...)
		whole = d.head
	}
	if !mayBeginResponse(whole) {
		return 0, More, &NotHTTPError{string(whole[:min(len(whole), 32)])}
	}
	end := HeadEnd(whole, before)
	switch {
	case end > MaxResponseHead || end == 0 && len(whole) > MaxResponseHead:
		return 0, More, fmt.Errorf("the response head is above %d bytes", MaxResponseHead)
	case end == 0:
		if before == 0 {
			d.head = bytes.Clone(p)
		}
		return len(p), More, nil
	}
	if d.Response, err = d.parse(string(whole[:end])); err != nil {
		return 0, More, err
	}
	d.head = nil
	r := d.Response
	switch {
	case r.Status == http.StatusSwitchingProtocols:
		d.inBody = true
		d.begin(head.Unknown, false)
	case r.Status < 200:
		if d.informational++; d.informational > maxInformational {
			return 0, More, fmt.Errorf("more than %d informational responses", maxInformational)
		}
	default:
		d.inBody = true
		d.begin(r.Length, r.Chunked)
	}
	return end - before, Head, nil
}

// mayBeginResponse reports whether p can begin a status line (RFC 9112, section 4).
func mayBeginResponse(p []byte) bool {
	const form = "HTTP/1.d ddd"
	for i := range min(len(p), len(form)) {
		switch c := p[i]; {
		case form[i] == 'd' && !isDigit(c), form[i] != 'd' && c != form[i]:
			return false
		}
	}
	return true
}

// parse parses a whole head.
func (d *ResponseDecoder) parse(text string) (*head.Response, error) {
	line, text, _ := strings.Cut(text, "\n")
	r, err := parseStatusLine(strings.TrimSuffix(line, "\r"))
	if err != nil {
		return nil, err
	}
	if r.Fields, err = ParseFields(text); err != nil {
		return nil, err
	}
	return r, d.frame(r)
}

// ParseFields parses the fields of a head up to its empty line. Lines may end in a bare LF; a folded one is joined to the one before with a space (RFC 9112,
// section 5.2).
func ParseFields(text string) (head.Fields, error) {
	lines := strings.Count(text, "\n")
	if lines > head.MaxFields {
		return nil, fmt.Errorf("the response has more than %d header fields", head.MaxFields)
	}
	fields := make(head.Fields, 0, lines)
	for number := 2; ; number++ {
		line, rest, _ := strings.Cut(text, "\n")
		text = rest
		line = strings.TrimSuffix(line, "\r")
		if line == "" {
			return fields, nil
		}
		if c, bad := head.BadValueByte(line); bad {
			return nil, fmt.Errorf("byte 0x%02x in line %d of the response head", c, number)
		}
		if last := len(fields) - 1; line[0] == ' ' || line[0] == '\t' {
			if last < 0 {
				return nil, errors.New("the response head begins with a folded line")
			}
			fields[last].Value = head.Trim(fields[last].Value + " " + head.Trim(line))
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		if !ok || !head.IsToken(name) {
			return nil, fmt.Errorf("line %d of the response head does not begin with a header name", number)
		}
		fields = append(fields, head.Field{Name: name, Value: head.Trim(value), ID: head.IDOf(name)})
	}
}

func parseStatusLine(line string) (*head.Response, error) {
	if c, bad := head.BadValueByte(line); bad {
		return nil, fmt.Errorf("byte 0x%02x in the status line", c)
	}
	version, rest, _ := strings.Cut(line, " ")
	digit, ok := strings.CutPrefix(version, "HTTP/1.")
	if !ok || len(digit) != 1 || !isDigit(digit[0]) {
		return nil, &NotHTTPError{line}
	}
	code, _, _ := strings.Cut(head.Trim(rest), " ")
	if len(code) != 3 || !isDigit(code[0]) || !isDigit(code[1]) || !isDigit(code[2]) || code[0] == '0' {
		return nil, fmt.Errorf("the status line is %s", head.Quoted(line))
	}
	status := int(code[0]-'0')*100 + int(code[1]-'0')*10 + int(code[2]-'0')
	return &head.Response{Status: status, Minor: int(digit[0] - '0')}, nil
}

// frame finds out how the body ends (RFC 9112, section 6.3). Lengths that contradict each other are an error.
func (d *ResponseDecoder) frame(r *head.Response) error {
	f := r.Fields
	if f.Tokens(head.Connection) > head.MaxConnectionTokens {
		return fmt.Errorf("the response has more than %d names in Connection", head.MaxConnectionTokens)
	}
	codings, lengths := f.Count(head.TransferEncoding), f.Count(head.ContentLength)
	if codings > 0 && r.Minor == 0 {
		return errors.New("Transfer-Encoding in an HTTP/1.0 response")
	}
	if lengths > 1 || codings > 1 || lengths > 0 && codings > 0 {
		return fmt.Errorf("the response has %d Content-Length and %d Transfer-Encoding headers", lengths, codings)
	}
	if codings > 0 && !strings.EqualFold(f.Get(head.TransferEncoding), "chunked") {
		return fmt.Errorf("the response has Transfer-Encoding %s", head.Quoted(f.Get(head.TransferEncoding)))
	}
	length := int64(head.Unknown)
	if lengths > 0 {
		var ok bool
		if length, ok = head.ParseLength(f.Get(head.ContentLength)); !ok {
			return fmt.Errorf("the response has Content-Length %s", head.Quoted(f.Get(head.ContentLength)))
		}
	}
	r.Close = f.HasToken(head.Connection, "close") || r.Minor == 0 && !f.HasToken(head.Connection, "keep-alive")
	switch {
	case r.Status < 200, d.toHead, r.Status == http.StatusNoContent, r.Status == http.StatusNotModified:
		r.Length = 0
		// A body that may not be there, and is announced, may well come.
		r.Close = r.Close || r.Status == http.StatusNoContent && (codings > 0 || length > 0)
	case codings > 0:
		r.Length, r.Chunked = head.Unknown, true
	default:
		r.Length = length
		r.Close = r.Close || length == head.Unknown
	}
	return nil
}
