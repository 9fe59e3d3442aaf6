// Package route knows which location answers a path, and what a path means. It does no I/O.
package route

import (
	"bytes"
	"errors"
	"strings"
	"unicode/utf8"
)

// Errors of [Normalise].
var (
	ErrEscape = errors.New("bad percent-encoding in the path")
	ErrNUL    = errors.New("NUL in the path")
	ErrRoot   = errors.New("the path leaves the root")
	ErrUTF8   = errors.New("raw bytes in the path that are no UTF-8")
)

// Normalise returns the path that locations are matched against, as nginx makes it:
// percent-decoded, with `.` and `..` resolved and slashes merged. raw is the path of a request target,
// without its query; an absolute URL's empty path is "/".
func Normalise(raw string) (string, error) {
	if !utf8.ValidString(raw) {
		return "", ErrUTF8
	}
	decoded, err := percentDecode(raw)
	switch {
	case err != nil:
		return "", err
	case strings.HasPrefix(decoded, "/") && !strings.Contains(decoded, "//") && !strings.Contains(decoded, "/."):
		return decoded, nil
	case !strings.HasPrefix(decoded, "/"):
		decoded = "/" + decoded
	}
	return resolveDots([]byte(decoded))
}

// Resolve normalises a path that is decoded already.
func Resolve(decoded string) (string, error) {
	if strings.IndexByte(decoded, 0) >= 0 {
		return "", ErrNUL
	}
	return resolveDots([]byte("/" + decoded))
}

// resolveDots merges the slashes of a decoded path and resolves its dot segments, in place.
func resolveDots(p []byte) (string, error) {
	length := 0        // of what is resolved
	directory := false // the path ends in a slash, or in a dot segment that stands for one
	for i := 0; i < len(p); {
		for i < len(p) && p[i] == '/' {
			i++
		}
		segment := p[i:]
		if end := bytes.IndexByte(segment, '/'); end >= 0 {
			segment = segment[:end]
		}
		i += len(segment)
		directory = true
		switch string(segment) {
		case "", ".":
		case "..":
			if length == 0 {
				return "", ErrRoot
			}
			length = bytes.LastIndexByte(p[:length], '/')
		default:
			directory = false
			p[length] = '/'
			length += 1 + copy(p[length+1:], segment)
		}
	}
	if length == 0 || directory {
		p[length] = '/'
		length++
	}
	return string(p[:length]), nil
}

// percentDecode returns a path without its percent-encoding, itself where there is none.
func percentDecode(raw string) (string, error) {
	if strings.IndexByte(raw, 0) >= 0 {
		return "", ErrNUL
	}
	if strings.IndexByte(raw, '%') < 0 {
		return raw, nil
	}
	decoded := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '%' {
			var ok bool
			if c, ok = escaped(raw[i:]); !ok {
				return "", ErrEscape
			}
			if c == 0 {
				return "", ErrNUL
			}
			i += 2
		}
		decoded = append(decoded, c)
	}
	return string(decoded), nil
}

// escaped returns the byte that the percent-encoding at the front of s stands for.
func escaped(s string) (c byte, ok bool) {
	if len(s) < 3 {
		return 0, false
	}
	high, ok1 := hexDigit(s[1])
	low, ok2 := hexDigit(s[2])
	return high<<4 | low, ok1 && ok2
}

// pathBytes may stand in a path as they are (RFC 3986, section 3.3).
var pathBytes = byteSet("/-._~!$&'()*+,;=:@")

// Escape percent-encodes a decoded path for a request target: all that RFC 3986 does not let
// stand in a path.
func Escape(path string) string {
	var b strings.Builder
	b.Grow(len(path))
	for i := range len(path) {
		c := path[i]
		if pathBytes[c] {
			b.WriteByte(c)
			continue
		}
		const hex = "0123456789ABCDEF"
		b.WriteByte('%')
		b.WriteByte(hex[c>>4])
		b.WriteByte(hex[c&15])
	}
	return b.String()
}

// CutPrefix returns what follows, in a path as it was sent, the part that normalises to a prefix without a slash at its end. It reports false
// where no part does, or where what follows has dot segments, so that only the normalised path says what is meant.
func CutPrefix(raw, prefix string) (rest string, ok bool) {
	matched := 0
	for i := 0; i <= len(raw); {
		if matched == len(prefix) && (i == len(raw) || raw[i] == '/' || strings.HasPrefix(raw[i:], "%2F") || strings.HasPrefix(raw[i:], "%2f")) {
			rest = raw[i:]
			if strings.HasPrefix(rest, "%") {
				rest = "/" + rest[3:]
			}
			decoded, err := percentDecode(rest)
			return rest, err == nil && !hasDotSegment(decoded)
		}
		if i == len(raw) {
			break
		}
		c, n := raw[i], 1
		if c == '%' {
			c, _ = escaped(raw[i:])
			n = 3
		}
		switch {
		case matched < len(prefix) && c == prefix[matched]:
			matched++
		case c == '/' && matched > 0 && prefix[matched-1] == '/': // one of several slashes
		default:
			return "", false
		}
		i += n
	}
	return "", false
}

// hasDotSegment reports whether a decoded path has a segment `.` or `..`.
func hasDotSegment(path string) bool {
	for i := strings.Index(path, "/."); i >= 0; i = strings.Index(path, "/.") {
		path = path[i+2:]
		rest := strings.TrimPrefix(path, ".")
		if rest == "" || rest[0] == '/' {
			return true
		}
	}
	return false
}

// Split splits a request target into the path as it was sent and the query with its
// question mark. An absolute URL loses scheme and authority.
func Split(target string) (path, query string) {
	if !strings.HasPrefix(target, "/") {
		if _, rest, ok := strings.Cut(target, "://"); ok {
			if i := strings.IndexAny(rest, "/?"); i >= 0 {
				target = rest[i:]
			} else {
				target = ""
			}
		}
	}
	if i := strings.IndexByte(target, '?'); i >= 0 {
		path, query = target[:i], target[i:]
	} else {
		path = target
	}
	if path == "" {
		path = "/"
	}
	return path, query
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

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// byteSet is the set of all letters, digits and marks.
func byteSet(marks string) (set [256]bool) {
	for c := range set {
		set[c] = isAlphanumeric(byte(c)) || strings.IndexByte(marks, byte(c)) >= 0
	}
	return set
}

func isAlphanumeric(c byte) bool {
	return isDigit(c) || 'a' <= c|0x20 && c|0x20 <= 'z'
}
