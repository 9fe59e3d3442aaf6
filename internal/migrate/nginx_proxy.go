package migrate

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// content translates what a location serves.
func (l *nginxLocation) content() {
	here := &scope{own: l.scope.own}
	for _, d := range l.scope.own {
		if does, other := otherHandlers[d.name]; other && l.block != l.server.block {
			l.note(l.server.ledger.refuse(d, does, "this location answers 501 until you say what is to"))
			l.closed("501")
			return
		}
	}
	switch pass := here.here("proxy_pass"); {
	case len(pass) > 0:
		l.proxy(pass[0])
	case len(here.here("fastcgi_pass")) > 0:
		l.fastcgi(here.here("fastcgi_pass")[0])
	case l.deniesAll():
		l.closed("403")
	default:
		l.files()
	}
}

// otherHandlers serve a location in ways that have no counterpart.
var otherHandlers = map[string]string{
	"grpc_pass": "passes gRPC on, which is not part of this", "uwsgi_pass": "speaks uwsgi to a program; have it listen for HTTP (uwsgi: http-socket)",
	"scgi_pass": "speaks SCGI to a program; have it listen for HTTP", "memcached_pass": "answers out of memcached", "stub_status": "shows numbers of nginx",
	"empty_gif": "answers with an empty image", "content_by_lua_block": "runs Lua", "content_by_lua_file": "runs Lua", "js_content": "runs JavaScript",
	"dav_methods": "changes files on behalf of clients (WebDAV)", "flv": "cuts videos", "mp4": "cuts videos", "hls": "cuts videos", "perl": "runs Perl",
	"echo": "answers with a text; write respond", "autoindex_format": "lists directories for programs", "push_stream_subscriber": "is a module for events",
}

// target is where requests go.
type target struct {
	secure    bool   // over TLS
	authority string // host:port, unix:/path or an upstream's name as we write it
	upstream  *upstream
	path      string // with captures; empty: as it came
	hasPath   bool
}

// url writes a target with a scheme.
func (t target) url(plain string) string {
	if strings.HasPrefix(t.authority, "unix:") {
		return t.authority
	}
	scheme := plain
	if t.secure {
		scheme += "s"
	}
	return scheme + "://" + t.authority + t.path
}

// short writes it as proxy takes it.
func (t target) short() string {
	if t.secure || t.path != "" {
		return t.url("http")
	}
	return t.authority
}

// readTarget reads the URL of a proxy_pass or a ProxyPass.
func (l *nginxLocation) readTarget(d *directive) (t target, problem string) {
	s := l.vars.expand(d.arg(0))
	scheme, rest, ok := strings.Cut(s, "://")
	t.secure = scheme == "https"
	if !ok || scheme != "http" && scheme != "https" {
		return t, "passes requests on by a scheme that is no http:// or https://"
	}
	if file, ok := strings.CutPrefix(rest, "unix:"); ok {
		name, path, has := strings.Cut(file, ":")
		t.authority, t.path, t.hasPath = "unix:"+name, path, has && path != ""
		if t.secure || strings.Contains(file, "$") {
			return t, "passes requests on to a socket file over TLS or by a variable"
		}
		return t, ""
	}
	end := strings.IndexAny(rest, "/$?")
	if end < 0 {
		end = len(rest)
	}
	authority := rest[:end]
	t.path, ok = passedPath(l.numbered(rest[end:]), l.isRegex())
	if t.hasPath = t.path != ""; !ok || authority == "" {
		return t, "passes requests on to where variables say that are not known before a request comes"
	}
	if u := l.server.upstreams[authority]; u != nil {
		t.upstream, t.authority = u, u.name
		return t, ""
	}
	port := "80"
	if t.secure {
		port = "443"
	}
	_, given, valid := splitPort(authority)
	if t.authority, ok = serverAddress(authority, port); !ok || !valid {
		return t, "passes requests on to no host that is known here"
	}
	if given == "" {
		t.authority = strings.TrimSuffix(t.authority, ":"+port)
	}
	return t, ""
}

// numbered calls captures by their numbers.
func (l *nginxLocation) numbered(s string) string {
	if len(l.groups) == 0 {
		return s
	}
	names := regexp.MustCompile(l.pattern).SubexpNames()
	return nginxVar.ReplaceAllStringFunc(s, func(ref string) string {
		if i := slices.Index(names, varName(ref)); i > 0 {
			return "$" + strconv.Itoa(i)
		}
		return ref
	})
}

var capture = regexp.MustCompile(`\$\d`)

// passedPath reads what stands behind host and port of a target. Of variables it takes those that hold the request's own path and query, and captures.
func passedPath(s string, regex bool) (path string, ok bool) {
	for _, query := range []string{"$is_args$args", "?$args", "?$query_string", "$is_args$query_string"} {
		s = strings.TrimSuffix(s, query)
	}
	switch s {
	case "$request_uri", "$uri", "$document_uri":
		return "", true
	}
	if i := strings.IndexByte(s, '?'); i >= 0 {
		return "", false
	}
	rest := s
	if regex {
		rest = capture.ReplaceAllString(s, "")
	}
	return s, !strings.Contains(rest, "$") && (s == "" || strings.HasPrefix(s, "/"))
}

// proxy translates a location that passes requests on.
func (l *nginxLocation) proxy(d *directive) {
	t, problem := l.readTarget(d)
	if problem != "" {
		l.note(l.server.ledger.refuse(d, problem, "this location answers 502 until you name the backend"))
		l.closed("502")
		return
	}
	l.server.ledger.took(d)
	l.mapPath(&t, d)
	keepsHost := l.requestHeaders(t)
	l.place(t, keepsHost)
	l.backendTLS(t)
	l.timeouts("proxy_")
	l.responses(t, keepsHost)
	if l.scope.on("proxy_intercept_errors") {
		l.server.ledger.took(l.scope.find("proxy_intercept_errors"))
		l.opts.set("intercept_errors", word("true"))
	}
}

// place writes where requests go, by the key that says what goes there.
func (l *nginxLocation) place(t target, keepsHost bool) {
	if t.upstream != nil {
		if t.upstream.single != "" && keepsHost {
			t.authority, t.upstream = t.upstream.single, nil
		} else {
			t.upstream.used = true
		}
	}
	if l.passesUpgrade() && !l.opts.has("websocket") {
		l.opts.set("proxy", text(t.short()))
	} else {
		l.opts.set("http", text(t.url("http")))
	}
	if !keepsHost {
		l.opts.set("host", word("backend"))
	}
}

// mapPath brings the path of a target into our form.
func (l *nginxLocation) mapPath(t *target, d *directive) {
	if l.rewritten {
		l.mapRewrite(t)
		return
	}
	if !t.hasPath {
		return
	}
	if strings.HasPrefix(t.authority, "unix:") {
		l.rewriteFor(t)
		return
	}
	if l.isRegex() {
		if l.kind == "" { // a prefix that had to be written as one
			l.rewriteFor(t)
		}
		return
	}
	prefix := l.literal()
	switch {
	case t.path == prefix:
		t.path = "" // it goes on as it came
	case strings.HasSuffix(prefix, "/") && !strings.HasSuffix(t.path, "/") && l.kind != "=":
		l.note(l.server.ledger.advise(d, "lets what follows "+prefix+" follow "+t.path+" without a slash; here one stands between", ""))
		l.server.ledger.took(d)
	}
}

// rewriteFor has a rewrite say what the path of a target says where a target cannot have one.
func (l *nginxLocation) rewriteFor(t *target) {
	prefix := l.pattern
	if prefix != t.path {
		m := &mapping{}
		m.set("path", text("^"+regexp.QuoteMeta(prefix)))
		m.set("to", text(literalTemplate(t.path)))
		if l.kind != "=" {
			m.set("path", text("^"+regexp.QuoteMeta(prefix)+"(.*)$"))
			m.set("to", text(literalTemplate(t.path)+"$1"))
		}
		m.set("stay", word("true"))
		addRewrite(l.opts, m)
	}
	t.path, t.hasPath = "", false
}

// mapRewrite writes a rewrite that only cuts the location's own prefix off as the path of the target.
func (l *nginxLocation) mapRewrite(t *target) {
	t.path, t.hasPath = "", false // what was rewritten goes on as it is
	m, ok := l.opts.get("rewrite").(*mapping)
	if !ok || l.isRegex() || l.kind == "=" || strings.HasPrefix(t.authority, "unix:") {
		return
	}
	pattern, to := string(m.get("path").(text)), string(m.get("to").(text))
	prefix := regexp.QuoteMeta(strings.TrimSuffix(l.literal(), "/"))
	cuts := slices.Contains([]string{
		"^" + prefix + "/(.*)", "^" + prefix + "/(.*)$", "^" + prefix + "/?(.*)", "^" + prefix + "/?(.*)$", prefix + "/(.*)", prefix + "/(.*)$", prefix + "/?(.*)$",
	}, pattern) && strings.HasSuffix(to, "/$1") ||
		slices.Contains([]string{"^" + prefix + "(.*)", "^" + prefix + "(.*)$", "^" + prefix + "(/.*)$", "^" + prefix + "(/.*)"}, pattern) && to == "$1"
	if !cuts {
		return
	}
	base := strings.TrimSuffix(to, "$1")
	if base == "" {
		base = "/"
	}
	if strings.ContainsAny(base, "$?") {
		return
	}
	l.opts.remove("rewrite")
	t.path, t.hasPath = base, true
}

// passesUpgrade reports whether a location passes requests for WebSockets on as such.
func (l *nginxLocation) passesUpgrade() bool {
	upgrade, connection := false, false
	for _, h := range l.scope.all("proxy_set_header") {
		v := strings.ToLower(h.arg(1))
		switch strings.ToLower(h.arg(0)) {
		case "upgrade":
			upgrade = strings.Contains(v, "http_upgrade") || v == "websocket" || l.namesMapOf(v, "http_upgrade")
		case "connection":
			connection = strings.Contains(v, "upgrade") || v == "$http_connection" || l.namesMapOf(v, "http_upgrade") || l.namesMapOf(v, "http_connection")
		}
	}
	return upgrade && connection
}

// namesMapOf reports a value that is a map of a variable.
func (l *nginxLocation) namesMapOf(v, variable string) bool {
	m := l.server.maps[varName(v)]
	return strings.HasPrefix(v, "$") && m != nil && len(m.args) > 0 && varName(m.args[0]) == variable
}

// websocketOnly takes the target of an if on $http_upgrade as that of its location's WebSockets.
func (l *nginxLocation) websocketOnly(main *nginxLocation) {
	d := l.scope.here("proxy_pass")[0]
	t, problem := l.readTarget(d)
	if problem != "" {
		main.note(l.server.ledger.refuse(d, problem, "write websocket: and the backend"))
		return
	}
	if t.upstream != nil {
		t.upstream.used = true
	}
	if t.path == l.pattern {
		t.path = ""
	}
	main.opts.set("websocket", text(t.url("ws")))
	l.server.ledger.took(d)
}

// backendTLS says how the certificate of a backend is checked.
func (l *nginxLocation) backendTLS(t target) {
	if !t.secure {
		return
	}
	s := l.server
	if !l.scope.on("proxy_ssl_verify") {
		l.opts.set("tls_verify", word("false"))
		l.opts.find("tls_verify").comment = "as nginx does unless told otherwise; better: true"
		return
	}
	s.ledger.took(l.scope.find("proxy_ssl_verify"))
	if ca := l.scope.find("proxy_ssl_trusted_certificate"); ca != nil {
		s.ledger.took(ca)
		l.opts.set("tls_ca", text(joinName(s.dir, ca.arg(0))))
	}
	if name := l.scope.find("proxy_ssl_name"); name != nil && !strings.HasPrefix(name.arg(0), "$") {
		l.note(s.ledger.note(name, "is the name in the backend's certificate", "name the backend by it in the target"))
	}
}

// timeouts says how long backends may take where that is said. family is proxy_ or fastcgi_.
func (l *nginxLocation) timeouts(family string) {
	m := &mapping{}
	if d := l.scope.find(family + "connect_timeout"); d != nil {
		if v, ok := nginxTime(d.arg(0)); ok {
			l.server.ledger.took(d)
			m.set("connect", durationText(v))
		}
	}
	if d := l.scope.find(family + "read_timeout"); d != nil {
		if v, ok := nginxTime(d.arg(0)); ok {
			l.server.ledger.took(d)
			if l.opts.has("http") || l.opts.has("proxy") || l.opts.has("php") {
				m.set("response_head", durationText(v))
				m.set("response_body", durationText(v))
			}
			if l.opts.has("proxy") || l.opts.has("websocket") {
				m.set("tunnel_idle", durationText(v))
			}
		}
	}
	dropDefaults(m)
	if !m.empty() {
		l.opts.set("timeouts", m)
	}
}

// dropDefaults takes out of timeouts what holds anyway.
func dropDefaults(m *mapping) {
	for key, usual := range map[string]string{"connect": "5s", "response_head": "1m", "response_body": "1m", "tunnel_idle": "1h"} {
		if v := m.get(key); v != nil && v.flow() == usual {
			m.remove(key)
		}
	}
}
