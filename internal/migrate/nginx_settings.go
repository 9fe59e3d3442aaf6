package migrate

import (
	"path"
	"slices"
	"strconv"
	"strings"
)

// settings translates what holds for a location whatever it serves.
func (l *nginxLocation) settings() {
	l.access()
	l.basicAuth()
	l.authRequest()
	if d := l.scope.find("satisfy"); d != nil && d.arg(0) == "any" && (l.opts.has("basic_auth") || l.opts.has("auth_request")) {
		l.server.ledger.took(d)
		l.opts.set("satisfy", word("any"))
	}
	if d := l.scope.find("client_max_body_size"); d != nil {
		if size, ok := nginxSize(d.arg(0)); ok {
			l.server.ledger.took(d)
			if size > 0 {
				l.opts.set("max_body", sizeText(size))
			}
		}
	}
	l.compress()
	proxied := l.opts.has("proxy") || l.opts.has("http") || l.opts.has("php")
	l.headers(proxied)
	l.expires(proxied && !l.opts.has("php"))
	l.errorPages()
	l.accessLog()
	for _, d := range l.scope.all("gzip_static") {
		l.precompressed(d)
	}
	for _, d := range l.scope.all("brotli_static") {
		l.precompressed(d)
	}
}

func (l *nginxLocation) precompressed(d *directive) {
	if d.arg(0) != "off" && (l.opts.has("root") || l.opts.has("static")) {
		l.server.ledger.took(d)
		l.opts.set("precompressed", word("true"))
	}
}

// rules reads allow and deny.
func (l *nginxLocation) rules() (rules []accessRule) {
	for _, d := range l.scope.all("allow", "deny") {
		r := accessRule{allow: d.name == "allow", all: d.arg(0) == "all"}
		var ok bool
		if r.network, ok = network(d.arg(0)); !ok && !r.all {
			l.note(l.server.ledger.note(d, "is about no address", "write addresses or networks into allow and deny"))
			continue
		}
		l.server.ledger.took(d)
		rules = append(rules, r)
	}
	return rules
}

// deniesAll reports a location that nobody gets into.
func (l *nginxLocation) deniesAll() bool {
	rules := l.scope.all("allow", "deny")
	if len(rules) == 0 || rules[0].name != "deny" || rules[0].arg(0) != "all" || l.scope.word("satisfy", "all") == "any" {
		return false
	}
	l.server.ledger.took(rules[0])
	return true
}

func (l *nginxLocation) access() {
	if rules := l.rules(); len(rules) > 0 && !l.opts.has("respond") {
		allow, deny := accessLists(rules, true)
		setAccess(l.opts, allow, deny)
	}
}

func (l *nginxLocation) basicAuth() {
	d, file := l.scope.find("auth_basic"), l.scope.find("auth_basic_user_file")
	if d == nil || d.arg(0) == "off" || file == nil {
		return
	}
	s := l.server
	realm := l.vars.expand(d.arg(0))
	if strings.Contains(file.arg(0)+realm, "$") {
		l.note(s.ledger.refuse(d, "asks for passwords in a way that depends on the request", "this location is closed: write basic_auth by hand"))
		setAccess(l.opts, nil, []string{"all"})
		return
	}
	s.ledger.took(d, file)
	m := &mapping{}
	m.set("realm", text(realm))
	m.set("users", text(joinName(s.dir, file.arg(0))))
	l.opts.set("basic_auth", m)
}

// authRequest translates auth_request: the location that it names says which program is asked.
func (l *nginxLocation) authRequest() {
	d := l.scope.find("auth_request")
	if d == nil || d.arg(0) == "off" {
		return
	}
	s := l.server
	asked := s.inner[d.arg(0)]
	if asked == nil {
		asked = s.exactly(s.scope, d.arg(0))
	}
	var inner *nginxLocation
	problem := "names no location with a proxy_pass"
	var t target
	if asked != nil {
		inner = s.newLocation(asked, s.scope.within(asked.block), "=", "/")
		if pass := inner.scope.here("proxy_pass"); len(pass) > 0 {
			if t, problem = inner.readTarget(pass[0]); problem == "" {
				s.ledger.took(pass[0])
			}
		}
	}
	if problem != "" {
		l.note(s.ledger.refuse(d, "lets another decide who comes in, which "+problem, "this location is closed: write auth_request by hand"))
		setAccess(l.opts, nil, []string{"all"})
		return
	}
	s.use(asked)
	s.skip(asked.block)
	s.ledger.took(d)
	if t.upstream != nil {
		t.upstream.used = true
	}
	m := &mapping{}
	if t.path == "" {
		t.path = d.arg(0)
	}
	m.set("url", text(t.url("http")))
	l.copiedHeaders(m)
	l.on401(m)
	if len(m.entries) == 1 {
		l.opts.set("auth_request", m.entries[0].value)
		return
	}
	l.opts.set("auth_request", m)
}

// exactly finds a location by its path.
func (s *nginxServer) exactly(sc *scope, path string) *directive {
	for _, d := range sc.here("location") {
		if kind, pattern := nginxPattern(d); pattern == path && !strings.HasPrefix(kind, "~") {
			return d
		}
	}
	return nil
}

// copiedHeaders finds what of the answer about a client is told to the backend.
func (l *nginxLocation) copiedHeaders(m *mapping) {
	s := l.server
	var names list
	for _, set := range l.scope.all("auth_request_set") {
		variable := strings.TrimPrefix(set.arg(0), "$")
		from, ok := strings.CutPrefix(set.arg(1), "$upstream_http_")
		if !ok {
			s.ledger.needless(set)
			continue
		}
		s.ledger.took(set)
		name := headerName(from)
		for _, h := range l.scope.all("proxy_set_header", "fastcgi_param") {
			if h.arg(1) == "$"+variable && strings.EqualFold(h.arg(0), name) {
				names = append(names, text(name))
				l.forget(h.arg(0))
				s.ledger.took(h)
			}
		}
	}
	if len(names) > 0 {
		m.set("copy_headers", names)
	}
}

// forget takes a field out of what requests are given, with the note that it could not be.
func (l *nginxLocation) forget(name string) {
	if request, ok := headersOf(l.opts).get("request").(*mapping); ok {
		if set, ok := request.get("set").(*mapping); ok {
			set.remove(name)
		}
	}
	if headersOf(l.opts).empty() {
		l.opts.remove("headers")
	}
	l.notes = slices.DeleteFunc(l.notes, func(n Note) bool {
		mine := strings.HasPrefix(n.Directive, "proxy_set_header "+name+" ")
		if mine {
			delete(l.server.ledger.notes, n)
			l.server.ledger.fates[ledgerKey{n.Place, "proxy_set_header"}] = translated
		}
		return mine
	})
}

// on401 finds where a client is led that has to log in first.
func (l *nginxLocation) on401(m *mapping) {
	s := l.server
	for _, d := range l.scope.all("error_page") {
		if !slices.Contains(d.args, "401") {
			continue
		}
		to := l.vars.expand(d.arg(len(d.args) - 1))
		if named := s.named[to]; named != nil {
			if ret := (&scope{own: named.block}).here("return"); len(ret) > 0 {
				r, _ := readReturn(ret[0])
				to = l.vars.expand(r.to)
				s.use(named)
				s.ledger.took(ret[0])
			}
		}
		for _, set := range l.scope.here("set", "auth_request_set") {
			s.ledger.took(set)
		}
		v, err := l.vars.template(to, l.groups)
		if err != nil || to == "" || strings.HasPrefix(to, "@") {
			l.note(s.ledger.note(d, "leads to where cannot be said", "write auth_request.on_401"))
			continue
		}
		s.ledger.took(d)
		m.set("on_401", text(v))
	}
}

// limitMethods translates limit_except: what the location does is for the named methods, and others get 403.
func (l *nginxLocation) limitMethods() {
	s := l.server
	for _, d := range l.scope.here("limit_except") {
		if inner := (&scope{own: d.block}); len(inner.here("deny")) == 0 || len(inner.here("allow")) > 0 {
			l.note(s.ledger.refuse(d, "lets only some clients use other methods", "nobody may here: write another location for those who may, with when"))
		}
		s.ledger.took(d)
		s.skip(d.block)
		methods := slices.Clone(d.args)
		if slices.Contains(methods, "GET") && !slices.Contains(methods, "HEAD") {
			methods = append(methods, "HEAD")
		}
		if l.opts.has("when") || len(methods) == 0 {
			continue
		}
		named := *l.location
		named.opts = l.opts.clone()
		named.opts.set("when", whenOf("method", texts(methods...)))
		l.before = append(l.before, &named)
		l.location = closedLocation(d, l.path, "403")
	}
}

// compress translates gzip.
func (l *nginxLocation) compress() {
	d := l.scope.find("gzip")
	if d == nil || d.arg(0) != "on" || l.opts.has("respond") || l.opts.has("redirect") {
		return
	}
	s := l.server
	s.ledger.took(d)
	types := l.scope.find("gzip_types")
	if types != nil {
		s.ledger.took(types)
		if slices.Contains(types.args, "*") {
			l.opts.set("compress", word("true"))
			return
		}
	}
	var kinds []string
	if types != nil {
		kinds = types.args
	}
	l.opts.set("compress", compressed(kinds))
}

// textLike are in the names of types that are compressed unless something else is said, or were once called so.
var textLike = []string{
	"text/", "json", "xml", "javascript", "ecmascript", "font", "opentype", "x-icon", "wasm", "manifest", "/rtf", "x-component", "/bmp", "vnd.microsoft.icon", "markdown", "yaml",
}

// compressed says what is compressed: text and what is like it, or the types where others are among them.
func compressed(types []string) value {
	all := list{}
	plain := true
	for _, t := range types {
		if strings.Count(t, "/") != 1 || slices.Contains(all, value(text(t))) {
			continue
		}
		all = append(all, text(t))
		plain = plain && slices.ContainsFunc(textLike, func(like string) bool { return strings.Contains(t, like) })
	}
	if plain {
		return word("true")
	}
	m := &mapping{}
	m.set("types", all)
	return m
}

// expires translates expires; of a backend's answers only Cache-Control can be said.
func (l *nginxLocation) expires(proxied bool) {
	d := l.scope.find("expires")
	if d == nil || d.arg(0) == "off" || l.opts.has("respond") {
		return
	}
	s := l.server
	v := d.arg(0)
	age, ok := nginxTime(v)
	switch {
	case !proxied && ok:
		l.opts.set("expires", durationText(age))
	case !proxied && v == "max":
		l.opts.set("expires", word("max"))
	case ok:
		l.setResponse("Cache-Control", "max-age="+strconv.Itoa(int(age.Seconds())))
	case v == "epoch" || v == "-1" || v == "-1s" || v == "0":
		l.setResponse("Cache-Control", map[bool]string{true: "max-age=0", false: "no-cache"}[v == "0"])
	case v == "max":
		l.setResponse("Cache-Control", "max-age=315360000")
	default:
		l.note(s.ledger.note(d, "says how long answers may be kept in a way that cannot be said", "write expires, or headers.response"))
		return
	}
	s.ledger.took(d)
}

// setResponse sets a field of answers beside what is done to them already.
func (l *nginxLocation) setResponse(name, v string) {
	rules := newHeaderRules()
	rules.set.set(name, text(v))
	m := rules.mapping(false)
	h := headersOf(l.opts)
	switch old := h.get("response").(type) {
	case list:
		h.set("response", append(slices.Clone(old), m))
	case *mapping:
		h.set("response", list{old, m})
	default:
		h.set("response", m)
	}
}

// errorPages translates error_page with files.
func (l *nginxLocation) errorPages() {
	s := l.server
	pages := &mapping{}
	for _, d := range l.scope.all("error_page") {
		if len(d.args) < 2 || slices.Contains(d.args, "401") && l.opts.has("auth_request") {
			continue
		}
		page := d.args[len(d.args)-1]
		if strings.HasSuffix(page, ".php") && l.server.php != nil {
			l.server.ledger.needless(d) // what is no file leads to the front controller
			if d.arg(0) != "404" || len(d.args) > 2 {
				l.note(l.server.ledger.note(d, "has a script answer errors", "have the front controller answer what is no file"))
			}
			continue
		}
		file, ok := s.pageFile(l, page)
		for _, code := range d.args[:len(d.args)-1] {
			n, err := strconv.Atoi(code)
			if strings.HasPrefix(code, "=") && (code != "=" && len(d.args) > 2) {
				ok = ok && strings.TrimPrefix(code, "=") == d.args[0]
			}
			if err == nil && 300 <= n && n <= 599 && ok {
				pages.set(code, text(file))
			}
		}
		if !ok {
			l.note(s.ledger.note(d, "answers errors by other means than a file", "write error_pages with a file, or try_files"))
			continue
		}
		s.ledger.took(d)
	}
	if !pages.empty() {
		l.opts.set("error_pages", pages)
	}
}

// pageFile finds the file that a URI of an error page means.
func (s *nginxServer) pageFile(l *nginxLocation, uri string) (string, bool) {
	if strings.ContainsAny(uri, "$?") || !isPlainPath(uri) || strings.Contains(path.Ext(uri), ".ph") {
		return "", false
	}
	root := l.root()
	if d := s.inner[uri]; d != nil {
		s.use(d)
		inner := s.newLocation(d, s.scope.within(d.block), "=", uri)
		s.skip(d.block)
		root = inner.root()
		if alias := inner.scope.here("alias"); len(alias) > 0 {
			return joinName(s.dir, alias[0].arg(0)), true
		}
	} else if d := s.exactly(s.scope, uri); d != nil {
		root = s.newLocation(d, s.scope.within(d.block), "=", uri).root()
	} else if dir := s.inner[path.Dir(uri)+"/"]; dir != nil {
		s.use(dir)
		inner := s.newLocation(dir, s.scope.within(dir.block), "", path.Dir(uri)+"/")
		s.skip(dir.block)
		root = inner.root()
		if alias := inner.scope.here("alias"); len(alias) > 0 {
			return joinName(s.dir, alias[0].arg(0)) + "/" + path.Base(uri), true
		}
	}
	if strings.Contains(root, "$") {
		return "", false
	}
	return path.Join(root, uri), true
}

// accessLog translates access_log.
func (l *nginxLocation) accessLog() {
	if !slices.ContainsFunc(l.scope.own, func(d *directive) bool { return d.name == "access_log" }) || l.block == l.server.block {
		return
	}
	if v := l.server.logOf(l.scope.find("access_log"), &l.notes); v != nil {
		l.opts.set("access_log", v)
	}
}

// logOf returns ours of an access log.
func (n *nginx) logOf(d *directive, notes *[]Note) value {
	switch to := d.arg(0); {
	case to == "off":
		n.ledger.took(d)
		return word("off")
	case to == "/dev/stdout" || to == "/dev/stderr":
		n.ledger.took(d)
		return word("stderr")
	case strings.HasPrefix(to, "syslog:") || strings.Contains(to, "$"):
		*notes = append(*notes, n.ledger.note(d, "writes a log to where cannot be said", "access_log writes to stderr or to a file"))
		return nil
	default:
		m := &mapping{}
		m.set("to", text(joinName("/usr/share/nginx", to)))
		format := d.arg(1)
		switch {
		case format == "" || format == "combined" || !strings.Contains(n.logs[format], "{") && n.logs[format] != "" || strings.Contains(format, "="):
			m.set("format", word("combined"))
		case strings.HasPrefix(strings.TrimSpace(n.logs[format]), "{"):
			m.set("format", word("json"))
		default:
			m.set("format", word("combined"))
		}
		n.ledger.took(d)
		return m
	}
}

// fileLog translates the access log of http.
func (n *nginx) fileLog(sc *scope) {
	if ds := sc.here("access_log"); len(ds) > 0 {
		if v := n.logOf(ds[0], &n.doc.notes); v != nil {
			n.doc.opts.set("access_log", v)
		}
	}
}
