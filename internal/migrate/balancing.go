package migrate

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

// balanced is a server of an upstream of ours: its address alone where nothing else is said of it.
func balanced(address string, options *mapping) value {
	if options.empty() {
		return text(address)
	}
	m := &mapping{}
	m.set("address", text(address))
	m.entries = append(m.entries, options.entries...)
	return m
}

// weight returns a weight that ours can be, or nothing for 1 and for what is none.
func weight(s string) string {
	if w := digits(s, ""); w != "" && w != "1" && len(w) <= 3 {
		return w
	}
	return ""
}

// isPlain reports servers of which nothing but their addresses is said.
func isPlain(servers list) bool {
	for _, s := range servers {
		if _, ok := s.(text); !ok {
			return false
		}
	}
	return true
}

// hashVariable is a variable of nginx's that stands for what ours can hash.
var hashVariable = regexp.MustCompile(`^\$(http|cookie|arg)_([a-z0-9_]+)$`)

// balanceBy returns how ours chooses servers by a key of nginx's directive hash.
func balanceBy(key string) (value, bool) {
	by := func(what string) (value, bool) {
		m := &mapping{}
		m.set("hash", text(what))
		return m, true
	}
	switch key {
	case "$remote_addr", "$binary_remote_addr":
		return word("ip_hash"), true
	case "$uri", "$request_uri", "$document_uri":
		return by("path")
	}
	found := hashVariable.FindStringSubmatch(key)
	if found == nil {
		return nil, false
	}
	switch name := found[2]; found[1] {
	case "http":
		return by("header " + strings.ReplaceAll(name, "_", "-"))
	case "cookie":
		return by("cookie " + name)
	default:
		return by("query " + name)
	}
}

// stickyCookie translates nginx's sticky cookie; it returns nil for its other kinds.
func stickyCookie(args []string) value {
	if len(args) < 2 || args[0] != "cookie" {
		return nil
	}
	m := &mapping{}
	m.set("cookie", text(args[1]))
	for _, arg := range args[2:] {
		name, v, _ := strings.Cut(strings.ToLower(arg), "=")
		switch name {
		case "expires":
			if d, err := time.ParseDuration(v); err == nil && d > 0 {
				m.set("ttl", word(v))
			}
		case "secure":
			m.set("secure", word("true"))
		case "samesite":
			if slices.Contains([]string{"lax", "strict", "none"}, v) {
				m.set("same_site", word(v))
			}
		}
	}
	return m
}
