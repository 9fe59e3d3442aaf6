package migrate

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// socket takes in a rule that passes requests for WebSockets on.
func (h *apacheHost) socket(r apacheRule, c apacheConditions) {
	to := strings.TrimSuffix(r.to, "%{REQUEST_URI}")
	whole := to != r.to
	s := apacheSocket{rule: r}
	prefix, base, ok := prefixRule(r.pattern, to)
	switch {
	case c.plain || c.byHost || c.noFile || c.isFile || c.when != nil:
		h.refuseRule(r, "passes WebSockets on under conditions")
		return
	case whole && (matchesAll(r.pattern) || r.pattern == "." || r.pattern == ".*"), ok && prefix == "/":
		s.prefix, base = "/", strings.TrimSuffix(strings.TrimSuffix(to, "$1"), "/")+"/"
		if c.path != "" {
			s.prefix, s.regex = pathOfCondition(c.path)
		}
	case ok && c.path == "":
		s.prefix = prefix
	default:
		exact, begins, ends, literal := literalText(r.pattern)
		if c.path != "" || strings.ContainsAny(to, "$%") {
			h.refuseRule(r, "passes WebSockets on in a way that cannot be said")
			return
		}
		s.regex, base = r.pattern, to
		if literal && begins && isPlainPath(exact) {
			s.regex, s.prefix = "", exact
			s.needsTo = ends
		}
	}
	u, problem := readApacheURL(base)
	if problem != "" || u.balancer != "" && h.upstreams[u.balancer] == nil {
		h.refuseRule(r, "passes WebSockets on to where cannot be said")
		return
	}
	s.target = target{secure: u.secure, authority: u.authority, path: u.path}
	if c.path != "" && s.regex == "" {
		s.target.path = strings.TrimSuffix(u.path, "/") + s.prefix
	}
	if u.balancer != "" {
		b := h.upstreams[u.balancer]
		b.used = true
		s.target.authority, s.target.upstream, s.target.secure = b.name, b.upstream, b.secure
	}
	h.takeRule(r)
	h.sockets = append(h.sockets, s)
}

// pathOfCondition makes a prefix of a pattern such as ^/socket.io, or keeps it as a regex.
func pathOfCondition(re string) (prefix, regex string) {
	loose := strings.NewReplacer(`\.`, ".", `\/`, "/", `\-`, "-").Replace(strings.TrimSuffix(strings.TrimPrefix(re, "^"), ".*"))
	if strings.HasPrefix(re, "^/") && isPlainPath(loose) && !strings.ContainsAny(loose, `()[]{}|+\$^`) {
		return loose, ""
	}
	return "", re
}

// placeSockets puts what rules say about WebSockets onto the locations that they are about; where one goes where pages go, one key says both.
func (h *apacheHost) placeSockets() {
	for _, s := range h.sockets {
		if s.regex != "" {
			h.regexSocket(s)
			continue
		}
		if !slices.ContainsFunc(h.locations, func(l *location) bool { return l.path == s.prefix }) {
			h.ownSocket(s)
		}
		for _, l := range h.locations {
			if l.isPrefix() && below(l.path, s.prefix) && !l.opts.has("websocket") && !l.opts.has("proxy") && !l.opts.has("respond") && !l.opts.has("redirect") {
				h.giveSocket(l, s)
			}
		}
	}
}

// ownSocket makes a location of the prefix of a rule, which serves pages as the one around it does.
func (h *apacheHost) ownSocket(s apacheSocket) {
	l := h.location(s.prefix, s.rule.directive)
	if l == nil {
		l = &location{Place: s.rule.Place, path: s.prefix, source: s.rule.shown(), opts: &mapping{}}
	}
	if l.opts.has("respond") {
		l.opts.remove("respond")
	}
	l.source = s.rule.shown()
	if s.needsTo {
		l.path = "= " + s.prefix
		h.giveSocket(l, s)
	}
	h.locations = append([]*location{l}, h.locations...)
}

// giveSocket has a location pass WebSockets on.
func (h *apacheHost) giveSocket(l *location, s apacheSocket) {
	t := s.target
	at := strings.TrimPrefix(l.path, "= ")
	rest := strings.TrimPrefix(at, strings.TrimSuffix(s.prefix, "/"))
	if rest != "" && rest != "/" {
		t.path = path.Join(t.path, rest)
	}
	if s.prefix == "/" && strings.TrimSuffix(s.target.path, "/") == "" || strings.TrimSuffix(t.path, "/") == strings.TrimSuffix(at, "/") {
		t.path = ""
	}
	http := l.opts.get("http")
	if http != nil && http.flow() == text(t.url("http")).flow() {
		l.opts.remove("http")
		l.opts.set("proxy", text(t.short()))
		return
	}
	l.opts.set("websocket", text(t.url("ws")))
	if http == nil && !on(h.find("proxypreservehost")) {
		l.opts.set("host", word("backend"))
	}
	if t.secure && !l.opts.has("tls_verify") {
		l.opts.set("tls_verify", word("false"))
	}
}

// regexSocket makes a location of a pattern.
func (h *apacheHost) regexSocket(s apacheSocket) {
	if _, err := regexp.Compile(s.regex); err != nil {
		return
	}
	l := h.location("/", s.rule.directive)
	if l == nil {
		l = &location{Place: s.rule.Place, opts: &mapping{}}
	}
	l.path, l.source = "~ "+s.regex, s.rule.shown()
	if v := l.opts.get("http"); v != nil && hasPath(v.flow()) {
		l.note(h.ledger.refuse(s.rule.directive, "is about paths that are mapped elsewhere by a prefix", "this location serves WebSockets only"))
		l.opts.remove("http")
	}
	t := s.target
	if strings.TrimSuffix(t.path, "/") == "" {
		t.path = ""
	}
	l.opts.set("websocket", text(t.url("ws")))
	if !on(h.find("proxypreservehost")) {
		l.opts.set("host", word("backend"))
	}
	h.locations = append([]*location{l}, h.locations...)
}
