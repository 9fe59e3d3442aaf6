package proxy

import (
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"strconv"
	"strings"

	"wstunnel/internal/head"
	"wstunnel/internal/host"
	"wstunnel/internal/route"
	"wstunnel/internal/template"
)

// value returns what a variable of a template stands for; nothing where there is nothing.
func (in *inbound) value(name string) string {
	switch name {
	case "host":
		return in.hostName()
	case "http_host":
		return in.request.Host
	case "scheme":
		return in.publicScheme()
	case "remote_addr":
		return in.client.String()
	case "remote_user":
		return in.user
	case "request_uri":
		path, query := route.Split(in.request.Target)
		return path + query
	case "uri":
		return in.path
	case "args", "query_string":
		return strings.TrimPrefix(in.query(), "?")
	case "is_args":
		if len(in.query()) > 1 {
			return "?"
		}
		return ""
	case "request_id":
		return in.requestID()
	case "request_method":
		return in.request.Method
	case "server_port":
		return in.port
	case "server_name":
		return in.siteName
	case "ssl_protocol":
		return tlsProtocol(in.tlsVersion)
	case "ssl_client_s_dn":
		return in.subject
	}
	return in.named(name)
}

// named returns the value of a variable whose name the configuration or the request made.
func (in *inbound) named(name string) string {
	if field, ok := strings.CutPrefix(name, "http_"); ok {
		return fieldValue(in.request.Fields, field)
	}
	if cookie, ok := strings.CutPrefix(name, "cookie_"); ok {
		value, _ := in.cookie(cookie)
		return value
	}
	if parameter, ok := strings.CutPrefix(name, "arg_"); ok {
		value, _ := in.parameter(parameter)
		return value
	}
	if field, ok := strings.CutPrefix(name, "upstream_http_"); ok {
		return fieldValue(in.answer, field)
	}
	return in.captures.value(name)
}

// query returns the query with its question mark.
func (in *inbound) query() string {
	_, query := route.Split(in.target)
	return query
}

// hostName is the host that was asked for, in lower case and without its port; that of the site where a client of HTTP/1.0 names none.
func (in *inbound) hostName() string {
	name, _ := host.Split(in.request.Host)
	if name == "" {
		return in.siteName
	}
	return strings.ToLower(name)
}

// requestID returns what names the request in logs and pages. It is made when it is first asked for.
func (in *inbound) requestID() string {
	if in.id == "" {
		var id [16]byte
		rand.Read(id[:])
		in.id = hex.EncodeToString(id[:])
	}
	return in.id
}

// cookie returns the value of the first cookie of a name (RFC 6265, section 4.2), in any case, as nginx has it.
func (in *inbound) cookie(name string) (value string, found bool) {
	for i := range in.request.Fields {
		f := &in.request.Fields[i]
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
func (in *inbound) parameter(name string) (value string, found bool) {
	query := strings.TrimPrefix(in.query(), "?")
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if key, value, _ := strings.Cut(pair, "="); strings.EqualFold(key, name) {
			return value, true
		}
	}
	return "", false
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

// expandText returns a text for a header, whose control characters are percent-encoded: paths have been decoded.
func expandText(t template.Template, value func(string) string) string {
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
