//go:build !linux || portable

package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"

	"wstunnel/internal/head"
)

// maxRequestHead bounds a request's head: the request line and all header lines.
const maxRequestHead = 64 << 10

// maxChunkLine bounds a chunk's size line with its extensions.
const maxChunkLine = 4 << 10

// requestFraming follows the requests in the byte stream of one HTTP/1.x client: where each
// head and each body ends. It checks every head with [checkRequestHead] and tells the callback of each that is in order; one that is not ends
// the stream, and a malformed chunk is an error of it. It reads the stream apart from net/http, so that
// two parsers must agree before anything goes to a backend.
type requestFraming struct {
	accepted func()

	state   framingState
	line    []byte // the head, chunk line or trailers so far
	left    uint64 // body or chunk bytes to come
	dropped int    // bytes of the empty line before a request line

	refused *headError // the head that the stream ended with

	early bool // bytes have come behind an upgrade request
}

type framingState int

const (
	inHead framingState = iota
	inBody
	inChunkLine
	inChunkData
	inChunkEnd
	inTrailers
	unwatched // after an upgrade request: nothing more is parsed
)

var errChunk = errors.New("malformed chunked body")

// watch takes the next bytes of the stream and returns how many of them, now at the front of p, go on to net/http:
// all but an empty line before a request line, which RFC 9112, section 2.2, has a server ignore, and what a refused head begins.
func (f *requestFraming) watch(p []byte) (int, error) {
	if f.refused != nil {
		return 0, nil
	}
	for i := 0; i < len(p); {
		begin := i
		switch f.state {
		case inHead:
			if len(f.line) == 0 && f.dropEmptyLine(p[i]) {
				p = p[:i+copy(p[i:], p[i+1:])]
				continue
			}
			if f.refused != nil {
				return begin, nil
			}
			before := len(f.line)
			n, whole := f.take(p[i:], maxRequestHead, headEnd)
			i += n
			if f.refused = f.endHead(before, whole); f.refused != nil {
				return begin, nil
			}
		case inBody, inChunkData:
			n := min(f.left, uint64(len(p)-i))
			i += int(n)
			if f.left -= n; f.left == 0 {
				f.endData()
			}
		case unwatched:
			f.early = true
			return len(p), nil
		default:
			n, err := f.watchChunk(p[i:])
			if i += n; err != nil {
				return i, err
			}
		}
	}
	return len(p), nil
}

// partialHead reports whether a request's head has begun and not ended.
func (f *requestFraming) partialHead() bool { return f.state == inHead && len(f.line) > 0 }

// midway reports whether the client is in the middle of a request's body, or where only it knows.
func (f *requestFraming) midway() bool { return f.state != inHead || f.refused != nil }

// dropEmptyLine reports whether c belongs to the one empty line that may come before a request line.
func (f *requestFraming) dropEmptyLine(c byte) bool {
	switch {
	case f.dropped == 0 && c == '\r', f.dropped == 1 && c == '\n':
		f.dropped++
		return true
	case f.dropped == 1:
		f.refused = badHead("bare CR before the request line")
	}
	return false
}

// take collects bytes until end finds the end of the piece or the limit is passed.
func (f *requestFraming) take(p []byte, limit int, end func([]byte, int) int) (n int, whole bool) {
	before := len(f.line)
	f.line = append(f.line, p[:min(len(p), limit+1-before)]...)
	if stop := end(f.line, before); stop > 0 {
		f.line = f.line[:stop]
		return stop - before, true
	}
	return len(f.line) - before, false
}

// headEnd returns the length of the head in p, or 0. Only bytes from the given position on are new.
func headEnd(p []byte, from int) int {
	from = max(0, from-3)
	if i := bytes.Index(p[from:], []byte("\n\r\n")); i >= 0 {
		return from + i + 3
	}
	if i := bytes.Index(p[from:], []byte("\n\n")); i >= 0 {
		return from + i + 2
	}
	return 0
}

func lineEnd(p []byte, from int) int { return from + bytes.IndexByte(p[from:], '\n') + 1 }

// endHead deals with the end of a head, or checks how it begins: a client that speaks something else is not waited for.
func (f *requestFraming) endHead(before int, whole bool) *headError {
	if !whole {
		if len(f.line) > maxRequestHead {
			return &headError{Status: http.StatusRequestHeaderFieldsTooLarge, Reason: fmt.Sprintf("request head above %d bytes", maxRequestHead)}
		}
		return checkBeginning(f.line, before)
	}
	framing, err := checkRequestHead(f.line)
	if err != nil {
		return err
	}
	f.line, f.dropped = f.line[:0], 0
	switch {
	case framing.upgrade:
		f.state, f.line = unwatched, nil
	case framing.chunked:
		f.state = inChunkLine
	case framing.length > 0:
		f.state, f.left = inBody, framing.length
	}
	f.accepted()
	return nil
}

func (f *requestFraming) endData() {
	if f.state == inBody {
		f.state = inHead
		return
	}
	f.state, f.left = inChunkEnd, 2
}

// watchChunk follows the lines around a chunk's data (RFC 9112, section 7.1).
func (f *requestFraming) watchChunk(p []byte) (int, error) {
	switch f.state {
	case inChunkEnd:
		if p[0] != "\n\r"[f.left-1] {
			return 0, fmt.Errorf("%w: chunk data does not end in CRLF", errChunk)
		}
		if f.left--; f.left == 0 {
			f.state = inChunkLine
		}
		return 1, nil
	case inChunkLine:
		n, whole := f.take(p, maxChunkLine, lineEndOrNone)
		if !whole {
			if len(f.line) > maxChunkLine {
				return n, fmt.Errorf("%w: chunk line above %d bytes", errChunk, maxChunkLine)
			}
			return n, nil
		}
		size, err := parseChunkLine(f.line)
		if err != nil {
			return 0, err
		}
		f.line = f.line[:0]
		f.state, f.left = inChunkData, size
		if size == 0 {
			f.state = inTrailers
		}
		return n, nil
	}
	return f.watchTrailers(p)
}

func lineEndOrNone(p []byte, from int) int {
	if bytes.IndexByte(p[from:], '\n') < 0 {
		return 0
	}
	return lineEnd(p, from)
}

func parseChunkLine(line []byte) (uint64, error) {
	text, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok {
		return 0, fmt.Errorf("%w: chunk line does not end in CRLF", errChunk)
	}
	digits, ext := 0, text
	var size uint64
	for len(ext) > 0 {
		d, isHex := hexDigit(ext[0])
		if !isHex {
			break
		}
		size, ext, digits = size<<4|uint64(d), ext[1:], digits+1
	}
	if digits == 0 || digits > 15 {
		return 0, fmt.Errorf("%w: chunk size %s", errChunk, head.Quoted(string(text)))
	}
	if !validExtensions(ext) {
		return 0, fmt.Errorf("%w: chunk extension %s", errChunk, head.Quoted(string(ext)))
	}
	return size, nil
}

// validExtensions checks what follows a chunk's size (RFC 9112, section 7.1.1): names, each behind a semicolon, with a token or a
// quoted string as value or none.
func validExtensions(p []byte) bool {
	for len(p) > 0 {
		var ok bool
		if p, ok = bytes.CutPrefix(trimBlanks(p), []byte(";")); !ok {
			return false
		}
		if p, ok = cutToken(trimBlanks(p)); !ok {
			return false
		}
		value, hasValue := bytes.CutPrefix(trimBlanks(p), []byte("="))
		if !hasValue {
			continue
		}
		value = trimBlanks(value)
		if bytes.HasPrefix(value, []byte(`"`)) {
			p, ok = cutQuoted(value)
		} else {
			p, ok = cutToken(value)
		}
		if !ok {
			return false
		}
	}
	return true
}

func trimBlanks(p []byte) []byte { return bytes.TrimLeft(p, " \t") }

// cutToken cuts a token off the front.
func cutToken(p []byte) (rest []byte, ok bool) {
	n := 0
	for n < len(p) && isTokenByte(p[n]) {
		n++
	}
	return p[n:], n > 0
}

// cutQuoted cuts a quoted string off the front (RFC 9110, section 5.6.4).
func cutQuoted(p []byte) (rest []byte, ok bool) {
	for i := 1; i < len(p); i++ {
		switch c := p[i]; {
		case c == '"':
			return p[i+1:], true
		case c < ' ' && c != '\t' || c == 0x7F:
			return nil, false
		case c == '\\':
			i++
		}
	}
	return nil, false
}

// watchTrailers follows the trailer section to its empty line.
func (f *requestFraming) watchTrailers(p []byte) (int, error) {
	n, whole := f.take(p, maxRequestHead, trailersEnd)
	if !whole {
		if len(f.line) > maxRequestHead {
			return n, fmt.Errorf("%w: trailers above %d bytes", errChunk, maxRequestHead)
		}
		return n, nil
	}
	var fields headFields
	for rest := f.line; ; {
		line, tail, ok := cutLine(rest)
		if !ok {
			return 0, fmt.Errorf("%w: trailer line does not end in CRLF", errChunk)
		}
		if len(line) == 0 {
			break
		}
		if err := fields.add(line); err != nil {
			return 0, fmt.Errorf("%w: trailer: %w", errChunk, err)
		}
		rest = tail
	}
	f.line, f.state = f.line[:0], inHead
	return n, nil
}

func trailersEnd(p []byte, from int) int {
	switch {
	case bytes.HasPrefix(p, []byte("\r\n")):
		return 2
	case bytes.HasPrefix(p, []byte("\n")):
		return 1
	}
	return headEnd(p, from)
}
