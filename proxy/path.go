package proxy

import (
	"errors"
	"strings"
	"unicode/utf8"
)

// Errors of [normalisePath].
var (
	errPathEscape = errors.New("bad percent-encoding in the path")
	errPathNUL    = errors.New("NUL in the path")
	errPathRoot   = errors.New("the path leaves the root")
	errPathUTF8   = errors.New("raw bytes in the path that are no UTF-8")
)

// normalisePath returns the path that locations are matched against, as nginx makes it:
// percent-decoded, with `.` and `..` resolved and slashes merged. raw is the path of a request target,
// without its query; an absolute URL's empty path is "/".
func normalisePath(raw string) (string, error) {
	if !utf8.ValidString(raw) {
		return "", errPathUTF8
	}
	decoded, err := percentDecode(raw)
	if err != nil {
		return "", err
	}
	if isNormal(decoded) {
		return decoded, nil
	}
	segments := strings.Split(strings.TrimPrefix(decoded, "/"), "/")
	out := segments[:0]
	directory := false // the path ends in a slash, or in a dot segment that stands for one
	for _, s := range segments {
		directory = s == "" || s == "." || s == ".."
		switch s {
		case "", ".":
		case "..":
			if len(out) == 0 {
				return "", errPathRoot
			}
			out = out[:len(out)-1]
		default:
			out = append(out, s)
		}
	}
	path := "/" + strings.Join(out, "/")
	if directory && len(out) > 0 {
		path += "/"
	}
	return path, nil
}

// isNormal reports whether a decoded path begins with a slash and has no empty or dot segment.
func isNormal(path string) bool {
	return strings.HasPrefix(path, "/") && !strings.Contains(path, "//") && !strings.Contains(path, "/.")
}

func percentDecode(raw string) (string, error) {
	if strings.IndexByte(raw, '%') < 0 {
		if strings.IndexByte(raw, 0) >= 0 {
			return "", errPathNUL
		}
		return raw, nil
	}
	var b strings.Builder
	b.Grow(len(raw))
	for i := 0; i < len(raw); i++ {
		c := raw[i]
		if c == '%' {
			if i+2 >= len(raw) {
				return "", errPathEscape
			}
			high, ok1 := hexDigit(raw[i+1])
			low, ok2 := hexDigit(raw[i+2])
			if !ok1 || !ok2 {
				return "", errPathEscape
			}
			c = high<<4 | low
			i += 2
		}
		if c == 0 {
			return "", errPathNUL
		}
		b.WriteByte(c)
	}
	return b.String(), nil
}

// escapePath percent-encodes a decoded path for a request target: all that RFC 3986 does not let
// stand in a path.
func escapePath(path string) string {
	var b strings.Builder
	for i := range len(path) {
		c := path[i]
		if isAlphanumeric(c) || strings.IndexByte("/-._~!$&'()*+,;=:@", c) >= 0 {
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

// cutPrefix returns what follows, in a path as it was sent, the part that normalises to a prefix without a slash at its end. It reports false
// where no part does, or where what follows has dot segments, so that only the normalised path says what is meant.
func cutPrefix(raw, prefix string) (rest string, ok bool) {
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
		if c == '%' && i+2 < len(raw) {
			high, _ := hexDigit(raw[i+1])
			low, _ := hexDigit(raw[i+2])
			c, n = high<<4|low, 3
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
	if !strings.Contains(path, "/.") {
		return false
	}
	for segment := range strings.SplitSeq(path, "/") {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// splitTarget splits a request target into the path as it was sent and the query with its
// question mark. An absolute URL loses scheme and authority.
func splitTarget(target string) (path, query string) {
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
