// Package host knows how a host is written in a request, a TLS handshake and a configuration, brings all of them into one form, and
// finds what a host belongs to. It is pure.
package host

import (
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// maxName is the length of the longest DNS name as text (RFC 1035, section 2.3.4).
const maxName = 253

// Split splits off what follows the last colon outside brackets. A colon with no port is legal (RFC 3986, section 3.2.3).
func Split(authority string) (name, port string) {
	i := strings.LastIndexByte(authority, ':')
	if i < 0 || i < strings.LastIndexByte(authority, ']') {
		return authority, ""
	}
	return authority[:i], authority[i+1:]
}

// Valid reports whether a text can stand in a Host header (RFC 9110, section 7.2): a name in ASCII or an address, with or without a
// port. An empty one is not valid.
func Valid(authority string) bool {
	name, port := Split(authority)
	if port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strings.Trim(port, "0123456789") != "" {
			return false
		}
	}
	if inner, ok := strings.CutPrefix(name, "["); ok {
		inner, closed := strings.CutSuffix(inner, "]")
		addr, err := netip.ParseAddr(inner)
		return closed && err == nil && addr.Is6() && addr.Zone() == ""
	}
	for i := range len(name) {
		c := name[i]
		if (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return name != "" && !strings.Contains(name, "..") && name[0] != '.' && len(name) <= maxName+1
}

// Canonical returns the form of a host that all comparisons use: lower case, no trailing dot, IDNs in punycode, addresses without
// brackets and in their shortest spelling. The port is off already.
func Canonical(name string) string {
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	if inner, ok := strings.CutPrefix(name, "["); ok {
		name = strings.TrimSuffix(inner, "]")
	}
	if strings.Contains(name, ":") {
		if addr, err := netip.ParseAddr(name); err == nil {
			return addr.String()
		}
		return name
	}
	for i := range len(name) {
		if name[i] >= 0x80 {
			if ascii, err := idna.Lookup.ToASCII(name); err == nil {
				return ascii
			}
			break
		}
	}
	return name
}

// IsAddress reports whether a canonical host is an IP address.
func IsAddress(canonical string) bool {
	_, err := netip.ParseAddr(canonical)
	return err == nil
}

// Authority makes two spellings of one authority equal: canonical, with the port that the scheme (http or https) stands for where it
// names none.
func Authority(scheme, authority string) string {
	name, port := Split(authority)
	switch {
	case port != "":
	case scheme == "https":
		port = "443"
	default:
		port = "80"
	}
	return Canonical(name) + ":" + port
}
