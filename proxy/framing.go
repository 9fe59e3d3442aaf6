package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
)

// maxRequestHead bounds a request's head: the request line and all header lines.
const maxRequestHead = 64 << 10

// maxChunkLine bounds a chunk's size line with its extensions.
const maxChunkLine = 4 << 10

// requestFraming follows the requests in the byte stream of one HTTP/1.x client: where each
// head and each body ends. It checks every head with [checkRequestHead] and hands each verdict to
// the callback; a malformed chunk is an error of the stream. It reads the stream apart from net/http, so that
// two parsers must agree before anything goes to a backend.
type requestFraming struct {
	verdict func(*headError)

	state   framingState
	line    []byte // the head, chunk line or trailers so far
	left    uint64 // body or chunk bytes to come
	dropped int    // bytes of the empty line before a request line

	upgrading bool // unwatched after an upgrade request
	early     bool // and bytes have come after that
}

type framingState int

const (
	inHead framingState = iota
	inBody
	inChunkLine
	inChunkData
	inChunkEnd
	inTrailers
	unwatched // after an upgrade request or a refused head: nothing more is parsed
)

var errChunk = errors.New("malformed chunked body")

// watch takes the next bytes of the stream and returns how many of them, now at the front of p, go on to net/http:
// all but an empty line before a request line, which RFC 9112, section 2.2, has a server ignore.
func (f *requestFraming) watch(p []byte) (int, error) {
	for i := 0; i < len(p); {
		switch f.state {
		case inHead:
			if len(f.line) == 0 && f.dropEmptyLine(p[i]) {
				p = p[:i+copy(p[i:], p[i+1:])]
				continue
			}
			if f.state == unwatched {
				continue
			}
			n, whole := f.take(p[i:], maxRequestHead, headEnd)
			i += n
			f.endHead(whole)
		case inBody, inChunkData:
			n := min(f.left, uint64(len(p)-i))
			i += int(n)
			if f.left -= n; f.left == 0 {
				f.endData()
			}
		case unwatched:
			f.early = f.upgrading
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
func (f *requestFraming) midway() bool { return f.state != inHead }

// dropEmptyLine reports whether c belongs to the one empty line that may come before a request line.
func (f *requestFraming) dropEmptyLine(c byte) bool {
	switch {
	case f.dropped == 0 && c == '\r', f.dropped == 1 && c == '\n':
		f.dropped++
		return true
	case f.dropped == 1:
		f.refuse(badHead("bare CR before the request line"))
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

func (f *requestFraming) endHead(whole bool) {
	if !whole {
		if len(f.line) > maxRequestHead {
			f.refuse(&headError{
				http.StatusRequestHeaderFieldsTooLarge,
				fmt.Sprintf("request head above %d bytes", maxRequestHead),
			})
		}
		return
	}
	framing, err := checkRequestHead(f.line)
	if err != nil {
		f.refuse(err)
		return
	}
	f.line, f.dropped = f.line[:0], 0
	switch {
	case framing.upgrade:
		f.state, f.line, f.upgrading = unwatched, nil, true
	case framing.chunked:
		f.state = inChunkLine
	case framing.length > 0:
		f.state, f.left = inBody, framing.length
	}
	f.verdict(nil)
}

func (f *requestFraming) refuse(err *headError) {
	f.state, f.line = unwatched, nil
	f.verdict(err)
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
		return 0, fmt.Errorf("%w: chunk size %s", errChunk, quoted(string(text)))
	}
	if len(ext) > 0 && (ext[0] != ';' || bytes.ContainsFunc(ext, isControl)) {
		return 0, fmt.Errorf("%w: chunk extension %s", errChunk, quoted(string(ext)))
	}
	return size, nil
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7F }

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

func hexDigit(c byte) (byte, bool) {
	switch {
	case isDigit(c):
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
}
