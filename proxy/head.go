//go:build !linux || portable

package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"wstunnel/internal/head"
	"wstunnel/internal/host"
	"wstunnel/internal/ws"
)

// headError is a request head that is refused, with the status that says so.
type headError = head.Error

func badHead(format string, args ...any) *headError { return head.Bad(format, args...) }

// bodyFraming is how the end of a request's body is found (RFC 9112, section 6).
type bodyFraming struct {
	chunked bool
	length  uint64
	// upgrade: a WebSocket is asked for. What follows the head may be frames instead of requests.
	upgrade bool
}

// checkRequestHead checks a raw HTTP/1.x request head, from the request line to the empty line,
// more strictly than net/http does: what two parsers could read in two ways is refused. RFC 9112,
// sections 2.2, 3, 5 and 6.
func checkRequestHead(head []byte) (bodyFraming, *headError) {
	var f bodyFraming
	line, rest, ok := cutLine(head)
	if !ok {
		return f, errRequestLine
	}
	target, minor, err := checkRequestLine(line)
	if err != nil {
		return f, err
	}
	var fields headFields
	for {
		if line, rest, ok = cutLine(rest); !ok {
			return f, badHead("header line does not end in CRLF")
		}
		if len(line) == 0 {
			break
		}
		if err := fields.add(line); err != nil {
			return f, err
		}
	}
	if err := fields.checkHost(target, minor); err != nil {
		return f, err
	}
	f, err = fields.framing(minor)
	f.upgrade = ws.AsksForUpgrade(1, minor, fields.connections, fields.upgrades)
	return f, err
}

// cutLine splits off a line that ends in CRLF and holds no other CR or LF.
func cutLine(p []byte) (line, rest []byte, ok bool) {
	i := bytes.IndexByte(p, '\n')
	if i < 1 || p[i-1] != '\r' {
		return nil, nil, false
	}
	line = p[:i-1]
	return line, p[i+1:], bytes.IndexByte(line, '\r') < 0
}

var errRequestLine = badHead("request line does not end in CRLF")

// checkBeginning checks what has come of a head, of which the first before bytes have been checked already: the first byte, and the
// request line as soon as it is whole. So a client that speaks something else is not waited for.
func checkBeginning(p []byte, before int) *headError {
	switch {
	case len(p) == 0:
		return nil
	case before == 0 && !isTokenByte(p[0]):
		if p[0] == tlsHandshakeRecord {
			return badHead("a TLS handshake was sent to a port that speaks plain HTTP")
		}
		return badHead("request line does not begin with a method")
	case bytes.IndexByte(p[:before], '\n') >= 0 || bytes.IndexByte(p[before:], '\n') < 0:
		return nil
	}
	line, _, ok := cutLine(p)
	if !ok {
		return errRequestLine
	}
	_, _, err := checkRequestLine(line)
	return err
}

// tlsHandshakeRecord is the first byte of a ClientHello (RFC 8446, section 5.1).
const tlsHandshakeRecord = 0x16

func checkRequestLine(line []byte) (target string, minor int, err *headError) {
	parts := strings.Split(string(line), " ")
	if len(parts) != 3 {
		return "", 0, badHead("request line is not method, target and version with single spaces")
	}
	method, target, version := parts[0], parts[1], parts[2]
	digits, isHTTP := strings.CutPrefix(version, "HTTP/")
	if !isHTTP || len(digits) != 3 || !isDigit(digits[0]) || digits[1] != '.' || !isDigit(digits[2]) {
		return "", 0, badHead("malformed HTTP version")
	}
	if digits[0] != '1' {
		return "", 0, &headError{Status: http.StatusHTTPVersionNotSupported, Reason: "HTTP version is not 1.x"}
	}
	return target, int(digits[2] - '0'), checkTarget(method, target)
}

// headFields are the header fields of a request head that say where it goes and where it ends.
type headFields struct {
	hosts, lengths, codings, connections, upgrades []string

	count int // of all fields
}

func (f *headFields) add(line []byte) *headError {
	if f.count++; f.count > head.MaxFields {
		return errManyFields
	}
	if line[0] == ' ' || line[0] == '\t' {
		return badHead("folded header line")
	}
	colon := bytes.IndexByte(line, ':')
	if colon < 0 {
		return badHead("header line without a colon")
	}
	name := string(line[:colon])
	if !isToken(name) {
		return badHead("header name %s is no token", head.Quoted(name))
	}
	for _, c := range line[colon+1:] {
		if c < ' ' && c != '\t' || c == 0x7F {
			return badHead("byte 0x%02x in the value of header %s", c, head.Quoted(name))
		}
	}
	value := strings.Trim(string(line[colon+1:]), " \t")
	switch strings.ToLower(name) {
	case "host":
		f.hosts = append(f.hosts, value)
	case "content-length":
		f.lengths = append(f.lengths, value)
	case "transfer-encoding":
		f.codings = append(f.codings, value)
	case "connection":
		f.connections = append(f.connections, value)
	case "upgrade":
		f.upgrades = append(f.upgrades, value)
	}
	return nil
}

func (f *headFields) checkHost(target string, minor int) *headError {
	switch {
	case tokenCount(f.connections) > head.MaxConnectionTokens:
		return badHead("more than %d names in Connection", head.MaxConnectionTokens)
	case len(f.hosts) > 1:
		return badHead("%d Host headers", len(f.hosts))
	case len(f.hosts) == 0 && minor > 0:
		return badHead("no Host header")
	case len(f.hosts) == 1 && !host.Valid(f.hosts[0]):
		return badHead("Host %s is no host name or address", head.Quoted(f.hosts[0]))
	}
	if strings.HasPrefix(target, "/") {
		return nil
	}
	u, err := url.Parse(target)
	if err != nil || u.Host == "" {
		return nil
	}
	if !host.Valid(u.Host) {
		return badHead("host %s in the request target is no host name or address", head.Quoted(u.Host))
	}
	if len(f.hosts) == 1 && host.Authority(u.Scheme, f.hosts[0]) != host.Authority(u.Scheme, u.Host) {
		return badHead("Host %s contradicts the request target's %s", head.Quoted(f.hosts[0]), head.Quoted(u.Host))
	}
	return nil
}

// framing reads Content-Length and Transfer-Encoding. Whatever could let two parsers disagree on
// where the body ends is refused (RFC 9112, section 6.3).
func (f *headFields) framing(minor int) (bodyFraming, *headError) {
	switch {
	case len(f.codings) > 0 && len(f.lengths) > 0:
		return bodyFraming{}, badHead("both Transfer-Encoding and Content-Length")
	case len(f.codings) > 0 && minor == 0:
		return bodyFraming{}, badHead("Transfer-Encoding in an HTTP/1.0 request")
	case len(f.codings) > 0:
		return bodyFraming{chunked: true}, checkCodings(f.codings)
	case len(f.lengths) > 1:
		return bodyFraming{}, badHead("%d Content-Length headers", len(f.lengths))
	case len(f.lengths) == 1:
		n, err := parseContentLength(f.lengths[0])
		if err != nil {
			return bodyFraming{}, badHead("Content-Length %s is no number", head.Quoted(f.lengths[0]))
		}
		return bodyFraming{length: n}, nil
	}
	return bodyFraming{}, nil
}

// checkCodings takes chunked alone. What does not end in it, or has it twice, has no end that can be known; what comes before it
// is not spoken here (RFC 9112, sections 6.1 and 6.3).
func checkCodings(values []string) *headError {
	written := strings.Join(values, ", ")
	codings := strings.Split(strings.Join(values, ","), ",")
	for i, coding := range codings {
		coding = strings.Trim(coding, " \t")
		if isLast := i == len(codings)-1; !isToken(coding) || strings.EqualFold(coding, "chunked") != isLast {
			return badHead("Transfer-Encoding %s does not end in chunked, once", head.Quoted(written))
		}
	}
	if len(codings) > 1 {
		return &headError{Status: http.StatusNotImplemented, Reason: "transfer coding " + head.Quoted(written) + " is more than chunked"}
	}
	return nil
}

// tokenCount returns how many elements a comma-separated list on several lines has at most.
func tokenCount(values []string) int {
	n := len(values)
	for _, v := range values {
		n += strings.Count(v, ",")
	}
	return n
}

// parseContentLength takes digits only, and no more than fit an int64.
func parseContentLength(s string) (uint64, error) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(s, 10, 63)
}

// checkResponseHead checks a backend's raw response head for what a client must never be handed
// on: control bytes, and lengths that contradict each other. Lines may end in a bare LF, as those of hand-written
// servers do. It returns the values of Connection.
func checkResponseHead(raw []byte) (connection []string, err error) {
	var lengths, codings int
	for i, line := range bytes.Split(bytes.TrimRight(raw, "\r\n"), []byte("\n")) {
		line = bytes.TrimSuffix(line, []byte("\r"))
		for _, c := range line {
			if c < ' ' && c != '\t' || c == 0x7F {
				return nil, fmt.Errorf("byte 0x%02x in line %d of the response head", c, i+1)
			}
		}
		if i > head.MaxFields {
			return nil, fmt.Errorf("the response has more than %d header fields", head.MaxFields)
		}
		if i == 0 {
			if !bytes.HasPrefix(line, []byte("HTTP/1.")) {
				return nil, fmt.Errorf("the response begins with %s, not with HTTP/1.x", head.Quoted(string(line)))
			}
			continue
		}
		if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
			continue // folded: net/http joins it with a space (RFC 9112, section 5.2)
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		if !isToken(string(name)) {
			return nil, fmt.Errorf("line %d of the response head does not begin with a header name", i+1)
		}
		switch strings.ToLower(string(name)) {
		case "content-length":
			lengths++
		case "transfer-encoding":
			codings++
		case "connection":
			connection = append(connection, string(bytes.TrimSpace(value)))
		}
	}
	if codings > 0 && bytes.HasPrefix(raw, []byte("HTTP/1.0")) {
		return nil, errors.New("Transfer-Encoding in an HTTP/1.0 response")
	}
	if lengths > 1 || codings > 1 || lengths > 0 && codings > 0 {
		return nil, fmt.Errorf("the response has %d Content-Length and %d Transfer-Encoding headers", lengths, codings)
	}
	if tokenCount(connection) > head.MaxConnectionTokens {
		return nil, fmt.Errorf("the response has more than %d names in Connection", head.MaxConnectionTokens)
	}
	return connection, nil
}

func isTokenByte(c byte) bool { return tokenBytes[c] }
