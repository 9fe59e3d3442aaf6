package migrate

import (
	"errors"
	"slices"
	"strings"
)

// hopByHop are fields that end at a proxy, which writes them itself.
var hopByHop = []string{"connection", "upgrade", "keep-alive", "te", "trailer", "transfer-encoding", "proxy-connection", "expect", "content-length", "proxy"}

// requestHeaders translates proxy_set_header; it reports whether the client's Host goes on.
func (l *nginxLocation) requestHeaders(t target) (keepsHost bool) {
	s := l.server
	set, remove := &mapping{}, list{}
	for _, h := range l.scope.all("proxy_set_header") {
		name, v := h.arg(0), l.vars.expand(h.arg(1))
		if strings.EqualFold(name, "Host") {
			s.ledger.took(h)
			if keepsHost = l.keepsHost(v); keepsHost || v == "$proxy_host" || v == t.authority || v == "$proxy_host:$proxy_port" {
				continue
			}
			keepsHost = true // it is set over what goes on
		}
		switch {
		case !isFieldName(name):
			l.note(s.ledger.note(h, "names no header", "write headers.request by hand"))
			continue
		case slices.Contains(hopByHop, strings.ToLower(name)) || l.saidAnyway(name, v):
			s.ledger.needless(h)
			continue
		case v == "":
			s.ledger.took(h)
			remove = append(remove, text(name))
			continue
		}
		value, err := l.vars.template(v, l.groups)
		if err != nil {
			l.note(s.ledger.note(h, "tells the backend what cannot be said: "+err.Error(), "leave it to the program, or write headers.request.set"))
			continue
		}
		s.ledger.took(h)
		set.set(name, text(value))
	}
	request := &mapping{}
	if !set.empty() {
		request.set("set", set)
	}
	if len(remove) > 0 {
		request.set("remove", remove)
	}
	if !request.empty() {
		l.headersOf().set("request", request)
	}
	return keepsHost
}

// keepsHost reports values of Host that are what the client sent.
func (l *nginxLocation) keepsHost(v string) bool {
	switch v {
	case "$host", "$http_host", "$host:$server_port", "$http_host:$server_port", "$host:$http_port", "${host}", "$host:$proxy_port":
		return true
	case "$server_name":
		return len(l.server.names) == 1 && !strings.HasPrefix(l.server.names[0], "*")
	}
	return len(l.server.names) == 1 && v == l.server.names[0]
}

// saidAnyway reports fields that backends are told in any case, or that go on as they came.
func (l *nginxLocation) saidAnyway(name, v string) bool {
	lower := strings.ToLower(name)
	own := "$http_" + strings.ReplaceAll(lower, "-", "_")
	if v == own {
		return true
	}
	https := l.server.secure() && (!l.server.plain() || l.server.redirects)
	switch lower {
	case "x-real-ip":
		return v == "$remote_addr" || v == "$realip_remote_addr" || v == "$proxy_protocol_addr"
	case "x-forwarded-for":
		return v == "$proxy_add_x_forwarded_for" || v == "$remote_addr" || v == "$http_x_forwarded_for, $remote_addr" || v == "$proxy_protocol_addr"
	case "x-forwarded-proto":
		return v == "$scheme" || l.namesMapOf(v, "http_x_forwarded_proto") || v == "https" && https
	case "x-forwarded-host":
		return v == "$host" || v == "$http_host" || v == "$host:$server_port" || v == "$server_name" && len(l.server.names) == 1
	case "x-forwarded-port":
		return v == "$server_port" || v == "443" && https || l.namesMapOf(v, "http_x_forwarded_port")
	}
	return false
}

// headersOf returns what a location says of headers.
func (l *nginxLocation) headersOf() *mapping { return headersOf(l.opts) }

func headersOf(opts *mapping) *mapping {
	if m, ok := opts.get("headers").(*mapping); ok {
		return m
	}
	m := &mapping{}
	opts.set("headers", m)
	return m
}

// headerRules are what is done to the headers of an answer.
type headerRules struct {
	set, add *mapping
	remove   list
}

func newHeaderRules() headerRules { return headerRules{set: &mapping{}, add: &mapping{}} }

func (r headerRules) empty() bool { return r.set.empty() && r.add.empty() && len(r.remove) == 0 }

func (r headerRules) mapping(always bool) *mapping {
	m := &mapping{}
	if !r.set.empty() {
		m.set("set", r.set)
	}
	if !r.add.empty() {
		m.set("add", r.add)
	}
	if len(r.remove) > 0 {
		m.set("remove", r.remove)
	}
	if always {
		m.set("always", word("true"))
	}
	return m
}

// addHeader adds a field to those with its name.
func addHeader(m *mapping, name string, v text) {
	switch old := m.get(name).(type) {
	case text:
		m.set(name, list{old, v})
	case list:
		m.set(name, append(slices.Clone(old), v))
	default:
		m.set(name, v)
	}
}

// responseHeaders puts rules into options; those that hold always are apart from those that do not.
func responseHeaders(opts *mapping, always, sometimes headerRules) {
	var rules list
	if !always.empty() {
		rules = append(rules, always.mapping(true))
	}
	if !sometimes.empty() {
		rules = append(rules, sometimes.mapping(false))
	}
	switch len(rules) {
	case 1:
		headersOf(opts).set("response", rules[0])
	case 2:
		headersOf(opts).set("response", rules)
	}
}

// headers translates what is done to the headers of answers. proxied says that they are a backend's.
func (l *nginxLocation) headers(proxied bool) {
	s := l.server
	always, sometimes := newHeaderRules(), newHeaderRules()
	if proxied {
		for _, d := range l.scope.all("proxy_hide_header", "fastcgi_hide_header") {
			s.ledger.took(d)
			always.remove = append(always.remove, text(d.arg(0)))
		}
	}
	for _, d := range l.scope.all("add_header") {
		if strings.EqualFold(d.arg(0), "Content-Type") && l.opts.has("respond") || d.arg(1) == "" && len(d.args) > 1 {
			s.ledger.took(d)
			continue
		}
		rules := &sometimes
		if slices.Contains(d.args[min(2, len(d.args)):], "always") {
			rules = &always
		}
		v, err := l.responseTemplate(d.arg(1))
		if err == nil && !isFieldName(d.arg(0)) {
			err = errors.New("it has no name")
		}
		if err != nil {
			l.note(s.ledger.note(d, "adds a header that cannot be said: "+err.Error(), "leave it to the program"))
			continue
		}
		s.ledger.took(d)
		addHeader(rules.add, d.arg(0), text(v))
	}
	l.headersMore(&always)
	responseHeaders(l.opts, always, sometimes)
}

// responseTemplate is template with what the backend's answer says, too.
func (l *nginxLocation) responseTemplate(s string) (string, error) {
	var known []string
	for _, m := range nginxVar.FindAllString(l.vars.expand(s), -1) {
		if name := varName(m); strings.HasPrefix(name, "upstream_http_") {
			known = append(known, name)
		}
	}
	return l.vars.template(s, append(known, l.groups...))
}

// headersMore translates the directives of the module headers-more.
func (l *nginxLocation) headersMore(always *headerRules) {
	s := l.server
	for _, d := range append(l.scope.all("more_set_headers"), l.scope.all("more_clear_headers")...) {
		s.ledger.took(d)
		for _, a := range d.args {
			name, v, has := strings.Cut(a, ":")
			if v = strings.TrimSpace(v); !has || v == "" {
				always.remove = append(always.remove, text(strings.TrimSpace(name)))
				continue
			}
			value, err := l.responseTemplate(v)
			if err != nil || !isFieldName(strings.TrimSpace(name)) {
				l.note(s.ledger.note(d, "sets a header in a way that cannot be said", "write headers.response"))
				continue
			}
			always.set.set(strings.TrimSpace(name), text(value))
		}
	}
}

// responses says how a backend's answers are changed, where that is not what is done anyway.
func (l *nginxLocation) responses(t target, keepsHost bool) {
	s := l.server
	maps := t.path != "" || !keepsHost // then our own mapping has something to do
	for _, d := range l.scope.all("proxy_redirect") {
		switch from, to := d.arg(0), d.arg(1); {
		case from == "off":
			s.ledger.took(d)
			if maps {
				l.opts.set("rewrite_responses", word("false"))
			}
		case from == "default" || l.isOwnURL(from, t) && (to == "" || strings.HasSuffix(to, l.pattern) || strings.HasSuffix(to, "/")) || from == "/" && to == l.pattern:
			s.ledger.needless(d)
		default:
			l.note(s.ledger.note(d, "changes redirects of the backend", "the backend's own URLs are mapped anyway; have it read X-Forwarded-Proto for others"))
		}
	}
	for _, d := range l.scope.all("proxy_cookie_path", "proxy_cookie_domain") {
		from, to := d.arg(0), d.arg(1)
		if maps && d.name == "proxy_cookie_path" && strings.TrimSuffix(from, "/") == strings.TrimSuffix(t.path, "/") && strings.TrimSuffix(to, "/") == strings.TrimSuffix(l.pattern, "/") ||
			from == "off" || from == to || d.name == "proxy_cookie_domain" && l.isOwnURL("http://"+from, t) && strings.HasPrefix(to, "$") {
			s.ledger.needless(d)
			continue
		}
		l.note(s.ledger.note(d, "changes cookies of the backend", "cookies of the target's path are mapped anyway; have the program set others right"))
	}
}

// isOwnURL reports a URL that begins with a target's.
func (l *nginxLocation) isOwnURL(u string, t target) bool {
	rest, ok := strings.CutPrefix(u, "http://")
	if !ok {
		if rest, ok = strings.CutPrefix(u, "https://"); !ok {
			return false
		}
	}
	host, _, _ := strings.Cut(rest, "/")
	authority := t.authority
	name, _, _ := strings.Cut(authority, ":")
	return host == authority || host == name || host == "$proxy_host" || host == "$host"
}
