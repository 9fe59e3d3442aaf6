package http1

import (
	"bytes"

	"wstunnel/internal/head"
)

// Limits on what surrounds the bytes of a chunked body.
const (
	maxChunkLine  = 4 << 10  // bytes of a size with its extensions
	maxExtensions = 16 << 10 // bytes of all extensions of a body
	maxTrailers   = 16 << 10
)

type bodyState uint8

const (
	bodyNone bodyState = iota
	bodyLength
	bodyChunkLine
	bodyChunkData
	bodyChunkEnd
	bodyTrailers
	bodyOpaque // to the end of the stream
	bodyEnded  // End is to be told
)

// body follows a body to its end.
type body struct {
	// Data is the piece that a Data event is for.
	Data []byte
	// Trailers are those of a chunked body, when it has ended.
	Trailers head.Fields

	state      bodyState
	lenient    bool // lines may end in a bare LF
	left       uint64
	line       []byte // a chunk line or the trailers, as far as they have come
	extensions int    // bytes so far
	trailing   int    // bytes of trailers so far
}

// begin makes ready for the body that a head announces.
func (b *body) begin(length int64, chunked bool) {
	b.Data, b.Trailers, b.extensions, b.trailing = nil, nil, 0, 0
	switch {
	case chunked:
		b.state = bodyChunkLine
	case length > 0:
		b.state, b.left = bodyLength, uint64(length)
	case length < 0:
		b.state = bodyOpaque
	default:
		b.state = bodyEnded
	}
}

// Payload returns how many bytes of the body come next with nothing between them; what is [body.Skip]ped need not be fed.
func (b *body) Payload() uint64 {
	switch b.state {
	case bodyLength, bodyChunkData:
		return b.left
	case bodyOpaque:
		return 1 << 62
	}
	return 0
}

// Skip says that n bytes of the Payload have gone another way.
func (b *body) Skip(n uint64) {
	if b.state != bodyOpaque {
		b.left -= n
		b.endData()
	}
}

func (b *body) endData() {
	switch {
	case b.left > 0:
	case b.state == bodyLength:
		b.state = bodyEnded
	default:
		b.state, b.left = bodyChunkEnd, 2
	}
}

// next takes the next bytes of a body.
func (b *body) next(p []byte) (n int, event Event, err *head.Error) {
	for {
		taken, event, err := b.step(p[n:])
		n += taken
		if err != nil || event != More || taken == 0 {
			return n, event, err
		}
	}
}

// step takes one piece; it takes none where it needs more.
func (b *body) step(p []byte) (n int, event Event, err *head.Error) {
	switch {
	case b.state == bodyEnded:
		b.state = bodyNone
		return 0, End, nil
	case len(p) == 0 || b.state == bodyNone:
		return 0, More, nil
	}
	switch b.state {
	case bodyLength, bodyChunkData:
		n = int(min(b.left, uint64(len(p))))
		b.Data = p[:n]
		b.left -= uint64(n)
		b.endData()
		return n, Data, nil
	case bodyOpaque:
		b.Data = p
		return len(p), Data, nil
	case bodyChunkEnd:
		return b.chunkEnd(p)
	case bodyChunkLine:
		return b.chunkLine(p)
	}
	return b.trailers(p)
}

func (b *body) chunkEnd(p []byte) (int, Event, *head.Error) {
	if p[0] != "\n\r"[b.left-1] {
		return 0, More, badChunk("the data of a chunk does not end in CRLF")
	}
	if b.left--; b.left == 0 {
		b.state = bodyChunkLine
	}
	return 1, More, nil
}

func (b *body) chunkLine(p []byte) (int, Event, *head.Error) {
	line, n, err := b.takeLine(p, maxChunkLine)
	if line == nil || err != nil {
		return n, More, err
	}
	size, ext, err := parseChunkLine(line)
	if err != nil {
		return n, More, err
	}
	if b.extensions += ext; b.extensions > maxExtensions {
		return n, More, badChunk("more than %d bytes of chunk extensions", maxExtensions)
	}
	b.state, b.left, b.line = bodyChunkData, size, b.line[:0]
	if size == 0 {
		b.state = bodyTrailers
	}
	return n, More, nil
}

// takeLine returns the next line without its end, once it is whole, and how much of p it took.
func (b *body) takeLine(p []byte, limit int) (line []byte, n int, err *head.Error) {
	n = bytes.IndexByte(p, '\n') + 1
	whole := n > 0
	if !whole {
		n = len(p)
	}
	if len(b.line)+n > limit {
		return nil, 0, badChunk("a line of a chunked body above %d bytes", limit)
	}
	if line = p[:n]; len(b.line) > 0 || !whole {
		b.line = append(b.line, line...)
		line = b.line
	}
	if !whole {
		return nil, n, nil
	}
	line = line[:len(line)-1]
	if cut, ok := bytes.CutSuffix(line, []byte("\r")); ok {
		line = cut
	} else if !b.lenient {
		return nil, n, badChunk("a line of a chunked body does not end in CRLF")
	}
	if line == nil {
		line = []byte{}
	}
	return line, n, nil
}

func badChunk(format string, args ...any) *head.Error {
	return head.Bad("malformed body: "+format, args...)
}

// parseChunkLine returns the size of a chunk and the number of bytes that its extensions have (RFC 9112, section 7.1).
func parseChunkLine(line []byte) (size uint64, extensions int, err *head.Error) {
	digits := 0
	for digits < len(line) {
		d, isHex := hexDigit(line[digits])
		if !isHex {
			break
		}
		size = size<<4 | uint64(d)
		digits++
	}
	ext := line[digits:]
	switch {
	case digits == 0 || digits > 15:
		return 0, 0, badChunk("chunk size %s", head.Quoted(string(line)))
	case !validExtensions(ext):
		return 0, 0, badChunk("chunk extension %s", head.Quoted(string(ext)))
	}
	return size, len(ext), nil
}

func hexDigit(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c|0x20 && c|0x20 <= 'f':
		return c | 0x20 - 'a' + 10, true
	}
	return 0, false
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
	for n < len(p) && head.IsTokenByte(p[n]) {
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
			if i++; i < len(p) && (p[i] < ' ' && p[i] != '\t' || p[i] == 0x7F) {
				return nil, false
			}
		}
	}
	return nil, false
}

// trailers takes the trailer section, a line at a time, to its empty line.
func (b *body) trailers(p []byte) (int, Event, *head.Error) {
	line, n, err := b.takeLine(p, maxTrailers)
	if line == nil || err != nil {
		return n, More, err
	}
	if b.trailing += len(line) + 2; b.trailing > maxTrailers || len(b.Trailers) >= head.MaxFields {
		return n, More, badChunk("trailers above %d bytes", maxTrailers)
	}
	if len(line) == 0 {
		b.state, b.line = bodyEnded, b.line[:0]
		return n, More, nil
	}
	field, err := parseField(string(line))
	if err != nil {
		return n, More, badChunk("trailer: %s", err.Reason)
	}
	b.Trailers = append(b.Trailers, field)
	b.line = b.line[:0]
	return n, More, nil
}
