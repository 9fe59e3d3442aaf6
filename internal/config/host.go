package config

import (
	"net/netip"
	"strings"

	"golang.org/x/net/idna"
)

// parseHost brings a site's host into the form it is compared in: lower-case ASCII, no
// trailing dot, IDN as punycode; IPv6 addresses without brackets, in their shortest form.
func parseHost(s scalar) (string, *problem) {
	bad := func(found, allowed string) (string, *problem) {
		return "", &problem{found, allowed}
	}
	text := s.text
	switch {
	case text == "":
		return bad("empty host", "a name such as example.com, *.example.com, or _")
	case text == "_":
		return text, nil
	case text == "*":
		return bad("host "+s.shown(), "_ for every host that no other site has")
	case strings.Contains(text, "://"):
		return bad("host "+s.shown()+" has a scheme", suggestHost(s))
	case strings.ContainsAny(text, "/?#"):
		return bad("host "+s.shown()+" has a path", suggestHost(s)+"; paths go to locations")
	}
	if addr, ok := parseIP(text); ok {
		return addr, nil
	}
	if strings.Contains(text, ":") {
		return bad("host "+s.shown()+" has a port or is a bad address", suggestHost(s)+"; ports go to listen")
	}
	name, wildcard := strings.CutPrefix(text, "*.")
	name, open := strings.CutSuffix(name, ".*")
	if strings.Contains(name, "*") || wildcard && open {
		return bad("host "+s.shown(), "a * only as the whole first label, as in *.example.com, or for all that follows, as in mail.*")
	}
	ascii, ok := asciiName(name)
	if !ok {
		return bad("bad host name "+s.shown(), "a name such as example.com, *.example.com, or _")
	}
	switch {
	case wildcard:
		ascii = "*." + ascii
	case open:
		ascii += ".*"
	}
	return ascii, nil
}

// suggestHost says how to write a host that was given with more around it.
func suggestHost(s scalar) string {
	rest := s.written
	if _, after, ok := strings.Cut(rest, "://"); ok {
		rest = after
	}
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		rest = rest[:i]
	}
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, ']') {
		rest = rest[:i]
	}
	if _, ok := asciiName(strings.TrimPrefix(rest, "*.")); !ok {
		if _, ok := parseIP(rest); !ok {
			return "a plain host name such as example.com"
		}
	}
	return "write " + quote(rest)
}

// parseIP reads an IP address, in brackets or not.
func parseIP(s string) (string, bool) {
	bare := s
	if inner, ok := strings.CutPrefix(s, "["); ok {
		if bare, ok = strings.CutSuffix(inner, "]"); !ok || !strings.Contains(bare, ":") {
			return "", false
		}
	}
	addr, err := netip.ParseAddr(bare)
	if err != nil || addr.Zone() != "" {
		return "", false
	}
	return addr.String(), true
}

// asciiName returns a DNS name as lower-case ASCII without a trailing dot.
func asciiName(s string) (string, bool) {
	ascii, err := idna.Lookup.ToASCII(strings.TrimSuffix(s, "."))
	if err != nil || !isDNSName(ascii) {
		return "", false
	}
	return ascii, true
}

// isDNSName tells whether s is a name of letters, digits, hyphens and underscores in labels
// of 1 to 63 bytes, 253 in all, that does not look like an IPv4 address.
func isDNSName(s string) bool {
	if len(s) > 253 {
		return false
	}
	label := ""
	for label = range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, c := range []byte(label) {
			if !isWordByte(c) && c != '-' {
				return false
			}
		}
	}
	return strings.Trim(label, "0123456789") != ""
}

func isWordByte(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// isIssuable tells whether an ACME authority gives a certificate for a site's host without
// a DNS challenge: no wildcards, no addresses, no names without a dot.
func isIssuable(host string) bool {
	_, isIP := parseIP(host)
	return !isIP && !strings.Contains(host, "*") && strings.Contains(host, ".")
}
