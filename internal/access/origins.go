package access

import (
	"strings"

	"wstunnel/internal/host"
)

// Origin returns an origin in the form that origins are compared in: lower case, with its port. It is empty for what is none, such as "null".
func Origin(serialised string) string {
	scheme, authority, found := strings.Cut(serialised, "://")
	if !found || !host.Valid(authority) {
		return ""
	}
	scheme = strings.ToLower(scheme)
	return scheme + "://" + host.Authority(scheme, authority)
}

// OriginAllowed reports whether an origin, in the form of [Origin], is one of a list: the same one, or one that begins with SCHEME://*. and names some host below.
func OriginAllowed(origin string, list []string) bool {
	for _, allowed := range list {
		if origin == allowed && origin != "" {
			return true
		}
		scheme, authority, wildcard := strings.Cut(allowed, "://*.")
		if rest, ok := strings.CutPrefix(origin, scheme+"://"); wildcard && ok && strings.HasSuffix(rest, "."+authority) {
			return true
		}
	}
	return false
}
