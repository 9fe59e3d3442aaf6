package http1

import (
	"bytes"
	"net/http"
	"strconv"
	"strings"

	"wstunnel/internal/head"
	"wstunnel/internal/host"
)

// MaxRequestHead bounds a request's head: the request line and all header lines, in bytes.
const MaxRequestHead = 64 << 10

// RequestDecoder follows the requests in the byte stream of one client. Its errors are of type *[head.Error]. The zero decoder is ready for use.
type RequestDecoder struct {
	// Request is the head that a Head event is for. It is the caller's to keep.
	Request *head.Request
	body

	head   []byte // as far as it has come
	inBody bool
	empty  uint8 // bytes of the empty line before a request line
}

// Next takes the next bytes and tells what they are; n of them are done with. Behind the head of a WebSocket upgrade everything is Data.
func (d *RequestDecoder) Next(p []byte) (n int, event Event, err error) {
	var bad *head.Error
	if d.inBody {
		n, event, bad = d.body.next(p)
		d.inBody = event != End
	} else {
		n, event, bad = d.nextHead(p)
	}
	if bad != nil {
		return n, More, bad
	}
	return n, event, nil
}

// Idle reports whether the client is between two requests.
func (d *RequestDecoder) Idle() bool { return !d.inBody && len(d.head) == 0 && d.empty == 0 }

// Partial reports whether the head of a request has begun and not ended.
func (d *RequestDecoder) Partial() bool { return !d.inBody && !d.Idle() }

func (d *RequestDecoder) nextHead(p []byte) (n int, event Event, err *head.Error) {
	if len(d.head) == 0 {
		if n, err = d.skipEmptyLine(p); err != nil || n == len(p) {
			return n, More, err
		}
		p = p[n:]
	}
	before := len(d.head)
	whole := p
	if before > 0 {
		d.head = append(d.head, p[:min(len(p), MaxRequestHead+1-before)]...)
		whole = d.head
	}
	end := HeadEnd(whole, before)
	switch {
	case end > MaxRequestHead || end == 0 && len(whole) > MaxRequestHead:
		return n, More, &head.Error{
			Status: http.StatusRequestHeaderFieldsTooLarge, Reason: "request head above " + strconv.Itoa(MaxRequestHead) + " bytes",
		}
	case end == 0:
		if err := checkBeginning(whole, before); err != nil {
			return n, More, err
		}
		if before == 0 {
			d.head = bytes.Clone(p)
		}
		return n + len(p), More, nil
	}
	d.Request, err = parseRequest(string(whole[:end]))
	if err != nil {
		return n, More, err
	}
	d.head, d.empty, d.inBody = nil, 0, true
	d.lenient = false
	if d.Request.Protocol != "" {
		d.begin(head.Unknown, false)
	} else {
		d.begin(d.Request.Length, d.Request.Length == head.Unknown)
	}
	return n + end - before, Head, nil
}

// skipEmptyLine skips the one empty line that a server ignores before a request line (RFC 9112, section 2.2).
func (d *RequestDecoder) skipEmptyLine(p []byte) (n int, err *head.Error) {
	for n < len(p) && d.empty < 2 && p[n] == "\r\n"[d.empty] {
		d.empty++
		n++
	}
	if d.empty == 1 && n < len(p) {
		return n, head.Bad("bare CR before the request line")
	}
	return n, nil
}

// HeadEnd returns the length of the head in p, or 0. Only bytes from the given position on are new.
func HeadEnd(p []byte, from int) int {
	from = max(0, from-3)
	for {
		i := bytes.IndexByte(p[from:], '\n')
		if i < 0 {
			return 0
		}
		from += i + 1
		switch {
		case from < len(p) && p[from] == '\n':
			return from + 1
		case from+1 < len(p) && p[from] == '\r' && p[from+1] == '\n':
			return from + 2
		}
	}
}

var errRequestLine = head.Bad("request line does not end in CRLF")

// checkBeginning checks what has come of a head, of which the first before bytes have been checked already: the first byte, and the
// request line as soon as it is whole. So a client that speaks something else is not waited for.
func checkBeginning(p []byte, before int) *head.Error {
	if before == 0 && !head.IsTokenByte(p[0]) {
		if p[0] == tlsHandshakeRecord {
			return head.Bad("a TLS handshake was sent to a port that speaks plain HTTP")
		}
		return head.Bad("request line does not begin with a method")
	}
	end := bytes.IndexByte(p[before:], '\n')
	if end < 0 || bytes.IndexByte(p[:before], '\n') >= 0 {
		return nil
	}
	line, ok := bytes.CutSuffix(p[:before+end], []byte("\r"))
	if !ok {
		return errRequestLine
	}
	return parseRequestLine(string(line), &head.Request{})
}

// tlsHandshakeRecord is the first byte of a ClientHello (RFC 8446, section 5.1).
const tlsHandshakeRecord = 0x16

// parseRequest parses a whole head, from the request line to the empty line (RFC 9112, sections 2.2, 3, 5 and 6).
func parseRequest(text string) (*head.Request, *head.Error) {
	r := &head.Request{Major: 1}
	line, text, ok := cutLine(text)
	if !ok {
		return nil, errRequestLine
	}
	if err := parseRequestLine(line, r); err != nil {
		return nil, err
	}
	lines := strings.Count(text, "\n") - 1
	if lines > head.MaxFields {
		return nil, errManyFields
	}
	r.Fields = make(head.Fields, 0, lines)
	for {
		if line, text, ok = cutLine(text); !ok {
			return nil, head.Bad("header line does not end in CRLF")
		}
		if line == "" {
			break
		}
		field, err := parseField(line)
		if err != nil {
			return nil, err
		}
		r.Fields = append(r.Fields, field)
	}
	if err := checkHost(r); err != nil {
		return nil, err
	}
	return r, frame(r)
}

var errManyFields = &head.Error{
	Status: http.StatusRequestHeaderFieldsTooLarge, Reason: "more than " + strconv.Itoa(head.MaxFields) + " header fields",
}

// cutLine splits off a line that ends in CRLF and holds no other CR or LF.
func cutLine(s string) (line, rest string, ok bool) {
	i := strings.IndexByte(s, '\n')
	if i < 1 || s[i-1] != '\r' {
		return "", "", false
	}
	return s[:i-1], s[i+1:], true
}

func parseRequestLine(line string, r *head.Request) *head.Error {
	method, rest, ok := strings.Cut(line, " ")
	target, version, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 || strings.IndexByte(version, ' ') >= 0 {
		return head.Bad("request line is not method, target and version with single spaces")
	}
	digits, isHTTP := strings.CutPrefix(version, "HTTP/")
	if !isHTTP || len(digits) != 3 || !isDigit(digits[0]) || digits[1] != '.' || !isDigit(digits[2]) {
		return head.Bad("malformed HTTP version")
	}
	if digits[0] != '1' {
		return &head.Error{Status: http.StatusHTTPVersionNotSupported, Reason: "HTTP version is not 1.x"}
	}
	r.Method, r.Target, r.Minor = method, target, int(digits[2]-'0')
	return CheckTarget(method, target)
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// CheckTarget checks the method and the form of the request target (RFC 9112, section 3.2). That of CONNECT is not looked at.
func CheckTarget(method, target string) *head.Error {
	if !head.IsToken(method) {
		return head.Bad("method is no token")
	}
	for i := range len(target) {
		if c := target[i]; c <= ' ' || c == 0x7F || c == '#' {
			return head.Bad("byte 0x%02x in the request target", c)
		}
	}
	switch {
	case method == http.MethodConnect, strings.HasPrefix(target, "/"):
		return nil
	case target == "*":
		if method != http.MethodOptions {
			return head.Bad("request target * is for OPTIONS only")
		}
		return nil
	}
	_, authority, ok := splitURL(target)
	switch {
	case !ok:
		return head.Bad("request target is neither a path nor an http URL")
	case strings.IndexByte(authority, '@') >= 0:
		return head.Bad("user name in the request target")
	}
	return nil
}

// splitURL returns the scheme, http or https, and the authority of an absolute URL.
func splitURL(target string) (scheme, authority string, ok bool) {
	scheme, rest, ok := strings.Cut(target, "://")
	switch {
	case !ok:
		return "", "", false
	case strings.EqualFold(scheme, "http"):
		scheme = "http"
	case strings.EqualFold(scheme, "https"):
		scheme = "https"
	default:
		return "", "", false
	}
	if end := strings.IndexAny(rest, "/?"); end >= 0 {
		rest = rest[:end]
	}
	return scheme, rest, rest != ""
}

// parseField parses a header or trailer line without its end (RFC 9112, section 5).
func parseField(line string) (head.Field, *head.Error) {
	if line[0] == ' ' || line[0] == '\t' {
		return head.Field{}, head.Bad("folded header line")
	}
	colon := strings.IndexByte(line, ':')
	if colon < 0 {
		return head.Field{}, head.Bad("header line without a colon")
	}
	name, value := line[:colon], line[colon+1:]
	if !head.IsToken(name) {
		return head.Field{}, head.Bad("header name %s is no token", head.Quoted(name))
	}
	if c, bad := head.BadValueByte(value); bad {
		return head.Field{}, head.Bad("byte 0x%02x in the value of header %s", c, head.Quoted(name))
	}
	return head.Field{Name: name, Value: head.Trim(value), ID: head.IDOf(name)}, nil
}

// checkHost finds the authority that a request is for (RFC 9112, section 3.2).
func checkHost(r *head.Request) *head.Error {
	hosts := r.Fields.Count(head.Host)
	r.Host = r.Fields.Get(head.Host)
	switch {
	case hosts > 1:
		return head.Bad("%d Host headers", hosts)
	case hosts == 0 && r.Minor > 0:
		return head.Bad("no Host header")
	case hosts == 1 && !host.Valid(r.Host):
		return head.Bad("Host %s is no host name or address", head.Quoted(r.Host))
	case strings.HasPrefix(r.Target, "/") || r.Target == "*" || r.Method == http.MethodConnect:
		return nil
	}
	scheme, authority, _ := splitURL(r.Target)
	if !host.Valid(authority) {
		return head.Bad("the host of the request target is no host name or address")
	}
	if hosts == 1 && host.Authority(scheme, r.Host) != host.Authority(scheme, authority) {
		return head.Bad("Host %s contradicts the request target's %s", head.Quoted(r.Host), head.Quoted(authority))
	}
	r.Host = authority
	return nil
}

// frame finds out how the body ends and what becomes of the connection. Whatever could let two parsers disagree on that is refused
// (RFC 9112, sections 6.3 and 9.3).
func frame(r *head.Request) *head.Error {
	f := r.Fields
	if f.Tokens(head.Connection) > head.MaxConnectionTokens {
		return head.Bad("more than %d names in Connection", head.MaxConnectionTokens)
	}
	codings, lengths := f.Count(head.TransferEncoding), f.Count(head.ContentLength)
	switch {
	case codings > 0 && lengths > 0:
		return head.Bad("both Transfer-Encoding and Content-Length")
	case codings > 0 && r.Minor == 0:
		return head.Bad("Transfer-Encoding in an HTTP/1.0 request")
	case codings > 0:
		if err := checkCodings(f); err != nil {
			return err
		}
		r.Length = head.Unknown
	default:
		n, _, err := f.BodyLength()
		if err != nil {
			return err
		}
		r.Length = n
	}
	r.Close = f.HasToken(head.Connection, "close") || r.Minor == 0 && !f.HasToken(head.Connection, "keep-alive")
	if r.Minor > 0 {
		var err *head.Error
		if r.Expect, err = f.ExpectsContinue(); err != nil {
			return err
		}
	}
	if r.Minor > 0 && f.HasToken(head.Connection, "upgrade") && f.HasToken(head.Upgrade, "websocket") {
		if r.Length != 0 {
			return head.Bad("an upgrade request with a body")
		}
		r.Protocol = "websocket"
	}
	return nil
}

// checkCodings takes chunked alone. What does not end in it, or has it twice, has no end that can be known; what comes before it
// is not spoken here (RFC 9112, sections 6.1 and 6.3).
func checkCodings(f head.Fields) *head.Error {
	written := f.Joined(head.TransferEncoding)
	codings := 0
	for rest, more := written, true; more; codings++ {
		var coding string
		coding, rest, more = strings.Cut(rest, ",")
		coding = head.Trim(coding)
		isChunked := len(coding) == len("chunked") && strings.EqualFold(coding, "chunked")
		if !head.IsToken(coding) || isChunked == more {
			return head.Bad("Transfer-Encoding %s does not end in chunked, once", head.Quoted(written))
		}
	}
	if codings > 1 {
		return &head.Error{Status: http.StatusNotImplemented, Reason: "transfer coding " + head.Quoted(written) + " is more than chunked"}
	}
	return nil
}
