package proxy

import (
	"errors"
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// Errors of [normalisePath].
var (
	errPathEscape = errors.New("bad percent-encoding in the path")
	errPathNUL    = errors.New("NUL in the path")
	errPathRoot   = errors.New("the path leaves the root")
)

// normalisePath returns the path that locations are matched against, as nginx makes it:
// percent-decoded, with `.` and `..` resolved and slashes merged. raw is the path of a request target,
// without its query; an absolute URL's empty path is "/".
func normalisePath(raw string) (string, error) {
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

// canonicalHost is the form of a host that sites are looked up by: lower case, no trailing dot,
// IDNs in punycode, addresses without brackets and in their shortest spelling. The port is off already.
func canonicalHost(host string) string {
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if inner, ok := strings.CutPrefix(host, "["); ok {
		host = strings.TrimSuffix(inner, "]")
		if addr, err := netip.ParseAddr(host); err == nil {
			return addr.String()
		}
		return host
	}
	for i := range len(host) {
		if host[i] >= 0x80 {
			if ascii, err := idna.Lookup.ToASCII(host); err == nil {
				return ascii
			}
			break
		}
	}
	return host
}
