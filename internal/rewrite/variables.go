package rewrite

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"strconv"
	"strings"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/host"
	"wstunnel/internal/route"
	"wstunnel/internal/template"
)

// Value returns what a variable of a template stands for; nothing where there is nothing.
func (in *Inbound) Value(name string) string {
	switch name {
	case "host":
		return in.HostName()
	case "http_host":
		return in.Request.Host
	case "scheme":
		return in.PublicScheme()
	case "remote_addr":
		return in.Client.String()
	case "remote_user":
		return in.User
	case "request_uri":
		path, query := route.Split(in.Request.Target)
		return path + query
	case "uri":
		return in.Path
	case "args", "query_string":
		return strings.TrimPrefix(in.Query(), "?")
	case "is_args":
		if len(in.Query()) > 1 {
			return "?"
		}
		return ""
	case "request_id":
		return in.RequestID()
	case "request_method":
		return in.Request.Method
	case "server_port":
		return in.Port
	case "server_name":
		return in.SiteName
	case "ssl_protocol":
		return tlsProtocol(in.TLSVersion)
	case "ssl_client_s_dn":
		return in.Subject
	}
	return in.named(name)
}

// named returns the value of a variable whose name the configuration or the request made.
func (in *Inbound) named(name string) string {
	if field, ok := strings.CutPrefix(name, "http_"); ok {
		return fieldValue(in.Request.Fields, field)
	}
	if cookie, ok := strings.CutPrefix(name, "cookie_"); ok {
		value, _ := in.Cookie(cookie)
		return value
	}
	if parameter, ok := strings.CutPrefix(name, "arg_"); ok {
		value, _ := in.parameter(parameter)
		return value
	}
	if field, ok := strings.CutPrefix(name, "upstream_http_"); ok {
		return fieldValue(in.Answer, field)
	}
	return in.Captures.Value(name)
}

// Query returns the Query with its question mark.
func (in *Inbound) Query() string {
	_, query := route.Split(in.Target)
	return query
}

// HostName is the host that was asked for, in lower case and without its port; that of the site where a client of HTTP/1.0 names none.
func (in *Inbound) HostName() string {
	name, _ := host.Split(in.Request.Host)
	if name == "" {
		return in.SiteName
	}
	return strings.ToLower(name)
}

// RequestID returns what names the request in logs and pages. It is made when it is first asked for.
func (in *Inbound) RequestID() string {
	if in.ID == "" {
		var id [16]byte
		rand.Read(id[:])
		in.ID = hex.EncodeToString(id[:])
	}
	return in.ID
}

// Cookie returns the value of the first Cookie of a name (RFC 6265, section 4.2), in any case, as nginx has it.
func (in *Inbound) Cookie(name string) (value string, found bool) {
	for i := range in.Request.Fields {
		f := &in.Request.Fields[i]
		if f.ID != head.Cookie {
			continue
		}
		for pair := range strings.SplitSeq(f.Value, ";") {
			if key, value, ok := strings.Cut(head.Trim(pair), "="); ok && strings.EqualFold(key, name) {
				return value, true
			}
		}
	}
	return "", false
}

// parameter returns the value, as it was sent, of the first parameter of a name in the query, in any case, as nginx has it.
func (in *Inbound) parameter(name string) (value string, found bool) {
	query := strings.TrimPrefix(in.Query(), "?")
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if key, value, _ := strings.Cut(pair, "="); strings.EqualFold(key, name) {
			return value, true
		}
	}
	return "", false
}

// Hashed returns what of a request is hashed, if it has that.
func (in *Inbound) Hashed(key config.HashKey) (text string, found bool) {
	switch key.Source {
	case config.HashHeader:
		return in.Header(key.Name)
	case config.HashCookie:
		return in.Cookie(key.Name)
	case config.HashQuery:
		return in.parameter(key.Name)
	}
	return in.Path, true
}

// fieldValue returns the values of the fields that a variable names: in any case, with underscores for hyphens.
func fieldValue(fields head.Fields, variable string) string {
	var values []string // joined at the end: what is added to a text bit by bit is copied as often
	separator := ", "
	for i := range fields {
		if f := &fields[i]; isNamed(f.Name, variable) {
			values = append(values, f.Value)
			if f.ID == head.Cookie {
				separator = "; "
			}
		}
	}
	return strings.Join(values, separator)
}

// isNamed reports whether a variable stands for a field's name.
func isNamed(name, variable string) bool {
	if len(name) != len(variable) {
		return false
	}
	for i := range len(name) {
		c, v := name[i], variable[i]
		if c == '-' {
			c = '_'
		}
		if c != v && (c|0x20 != v|0x20 || c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return true
}

// tlsProtocol names a version of TLS as nginx does; nothing for plain connections.
func tlsProtocol(version uint16) string {
	switch version {
	case 0:
		return ""
	case tls.VersionTLS12:
		return "TLSv1.2"
	case tls.VersionTLS13:
		return "TLSv1.3"
	}
	return "0x" + strconv.FormatUint(uint64(version), 16)
}

// Text returns a text for a header, whose control characters are percent-encoded: paths have been decoded.
func Text(t template.Template, value func(string) string) string {
	if text, ok := t.Constant(); ok {
		return text
	}
	text := t.Expand(value)
	if _, bad := head.BadValueByte(text); !bad {
		return text
	}
	var b strings.Builder
	for i := range len(text) {
		if _, bad := head.BadValueByte(text[i : i+1]); bad {
			b.WriteString(percent(text[i]))
		} else {
			b.WriteByte(text[i])
		}
	}
	return b.String()
}

// percent returns the percent-encoding of a byte.
func percent(c byte) string {
	const digits = "0123456789ABCDEF"
	return string([]byte{'%', digits[c>>4], digits[c&15]})
}
