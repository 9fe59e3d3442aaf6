package rewrite

import (
	"strings"

	"wstunnel/internal/route"
	"wstunnel/internal/template"
)

// urlMaker makes a URL, or a path with a query, of a template. What a client sent goes in as data: it can't begin another part of the URL than the one it
// stands in, nor name another host.
type urlMaker struct {
	b       strings.Builder
	part    urlPart
	inValue bool // of a parameter of the query
}

type urlPart int

const (
	inScheme urlPart = iota
	inAuthority
	inPath
	inQuery
)

// URL returns the URL that a template makes.
func URL(t template.Template, value func(string) string) string {
	m, absolute := urlMaker{}, isAbsolute(t)
	if !absolute {
		m.part = inPath
	}
	for p := range t.Parts() {
		if p.Name == "" {
			m.write(p.Literal)
		} else {
			m.variable(p.Name, value(p.Name))
		}
	}
	url := m.b.String()
	if absolute {
		return url
	}
	return "/" + strings.TrimLeft(url, "/") // two slashes would begin a host
}

// bringsQuery reports a template that has the query of the request in it.
func bringsQuery(t template.Template) bool {
	for p := range t.Parts() {
		switch p.Name {
		case "args", "query_string", "request_uri":
			return true
		}
	}
	return false
}

// isAbsolute reports whether a template begins with a scheme: a word, or $scheme, before ://.
func isAbsolute(t template.Template) bool {
	scheme, _, found := strings.Cut(t.String(), "://")
	return found && (scheme == "$scheme" || !strings.ContainsAny(scheme, "/?$"))
}

// write adds text that is part of a URL as it is, and notes which part it ends in.
func (m *urlMaker) write(text string) {
	m.b.WriteString(text)
	if m.part == inScheme {
		_, rest, found := strings.Cut(text, "://")
		if !found {
			return
		}
		m.part, text = inAuthority, rest
	}
	for i := range len(text) {
		switch c := text[i]; {
		case m.part == inAuthority && c == '/':
			m.part = inPath
		case m.part < inQuery && c == '?':
			m.part = inQuery
		case m.part == inQuery:
			m.inValue = c == '=' || m.inValue && c != '&'
		}
	}
}

// variable adds the value of a variable.
func (m *urlMaker) variable(name, value string) {
	encoded := isEncoded(name)
	switch {
	case m.part == inScheme || m.part == inAuthority && namesHost(name):
		m.write(escapeURL(value, hostBytes, false))
		return
	case m.part == inAuthority:
		value = "/" + strings.TrimLeft(value, "/")
		m.part = inPath
	}
	switch {
	case m.inValue && strings.HasPrefix(name, "arg_"):
		m.b.WriteString(escapeURL(value, valueBytes, true))
	case m.inValue:
		m.b.WriteString(escapeURL(value, valueBytes, false))
	case m.part == inPath && strings.HasPrefix(name, "arg_"): // a parameter that has a question mark begins no query
		m.b.WriteString(escapeURL(value, pathBytes, true))
	case encoded:
		m.write(escapeURL(value, urlBytes, true))
	default:
		m.b.WriteString(route.Escape(value))
	}
}

// isEncoded reports a variable whose value is percent-encoded, as the client sent it.
func isEncoded(name string) bool {
	switch name {
	case "request_uri", "args", "query_string", "is_args":
		return true
	}
	return strings.HasPrefix(name, "arg_")
}

// namesHost reports a variable that may stand in the host of a URL.
func namesHost(name string) bool {
	switch name {
	case "host", "http_host", "server_name", "server_port":
		return true
	}
	return false
}

// The bytes that parts of a URL take beside letters and digits.
const (
	hostBytes  = "-._~:[]"
	pathBytes  = "-._~!$&'()*+,;=:@/"
	urlBytes   = "-._~!$&'()*+,;=:@/?"
	valueBytes = "-._~!$'()*,:@/?"
)

// isEscape reports whether s begins with a percent sign and two hexadecimal digits.
func isEscape(s string) bool {
	isHex := func(c byte) bool { return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f' }
	return len(s) >= 3 && s[0] == '%' && isHex(s[1]) && isHex(s[2])
}

// escapeURL percent-encodes all that is neither a letter, nor a digit, nor one of more; what is encoded already stays so if it is to.
func escapeURL(s, more string, encoded bool) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte(more, c) >= 0 || encoded && isEscape(s[i:]) {
			b.WriteByte(c)
		} else {
			b.WriteString(percent(c))
		}
	}
	return b.String()
}
