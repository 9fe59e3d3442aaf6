package migrate

import (
	"regexp"
	"slices"
	"strings"
)

// nginxLocation is a location of nginx while it is translated.
type nginxLocation struct {
	*location
	server *nginxServer
	scope  *scope
	vars   variables
	// kind is nginx's modifier; pattern what stands behind it, a regex as RE2 has it.
	kind, pattern string
	groups        []string
	block         *directive // its own directive; that of the server where it stands for all of it
	before        []*location
	gates         []methodGate
	fallback      string
	rewritten     bool // its rewrite stays, so that what it passes on is the new path
}

// allLocations translates the locations of a server, and what it does without one.
func (s *nginxServer) allLocations() {
	s.locations = s.first
	s.nested(s.scope, "", "")
	if !slices.ContainsFunc(s.locations, func(l *location) bool {
		return l.literal() == "/" && !l.opts.has("when") && !strings.HasPrefix(l.path, "=")
	}) && s.servesItself() {
		l := s.newLocation(s.block, s.scope, "", "/")
		l.source = ""
		l.translate()
	}
	s.placePHP()
	s.twins()
	s.namedNotes(s.scope)
}

// servesItself reports whether the server has something to serve besides its locations.
func (s *nginxServer) servesItself() bool {
	own := &scope{own: s.scope.own}
	return len(own.here("root", "try_files", "proxy_pass", "fastcgi_pass", "index")) > 0 || len(s.locations) == 0 || s.scope.find("root") != nil
}

// nested translates the locations of a level. Those within a location come before it: it is asked only if none of them is meant. stop is the
// modifier of the outermost prefix around them, prefix the innermost one.
func (s *nginxServer) nested(sc *scope, stop, prefix string) {
	for _, d := range sc.here("location") {
		kind, pattern := nginxPattern(d)
		if strings.HasPrefix(pattern, "@") || s.inner[pattern] == d {
			continue
		}
		s.ledger.took(d)
		inner := sc.within(d.block)
		outer := stop
		if kind == "^~" || kind == "" {
			if prefix != "" {
				kind = outer
			} else {
				outer = kind
			}
			s.nested(inner, outer, pattern)
		} else {
			s.nested(inner, outer, prefix)
		}
		s.oneLocation(d, inner, kind, pattern, prefix)
	}
}

// oneLocation translates a location, which stands in one with a prefix or in none.
func (s *nginxServer) oneLocation(d *directive, sc *scope, kind, pattern, prefix string) {
	if strings.HasPrefix(kind, "~") {
		re, ok := toRE2(pattern)
		if !ok {
			s.note(s.ledger.refuse(d, "has a pattern that RE2 does not know (no lookaround, no backreferences)", "write the location by hand, with what stands in it"))
			s.skip(d.block)
			return
		}
		if pattern, kind, ok = nestedRegex(kind, re, prefix); !ok {
			s.note(s.ledger.refuse(d, "has a pattern that holds only within the location around it", "write it with the path of that in it"))
			s.skip(d.block)
			return
		}
	}
	if s.isChallenge(d, sc, pattern) {
		return
	}
	s.newLocation(d, sc, kind, pattern).translate()
}

// nestedRegex is a regex that is asked only below a prefix, which is empty or / for none.
func nestedRegex(kind, pattern, prefix string) (restricted, modifier string, ok bool) {
	if prefix == "" || prefix == "/" {
		return pattern, kind, true
	}
	quoted := regexp.QuoteMeta(prefix)
	rest, anchored := strings.CutPrefix(pattern, "^")
	if !anchored {
		switch {
		case kind == "~*":
			pattern = "(?i:" + pattern + ")"
		case strings.Contains(pattern, "|"):
			pattern = "(?:" + pattern + ")"
		}
		return "^" + quoted + ".*" + pattern, "~", true
	}
	if literal, ok := anchoredLiteral(pattern); ok && strings.HasPrefix(literal, prefix) {
		return pattern, kind, true
	}
	for _, any := range []string{"(.+", "(.*", ".+", ".*"} {
		if behind, ok := strings.CutPrefix(rest, any); ok {
			open := strings.TrimRight(any, ".+*")
			restricted = "^" + open + quoted + ".*" + strings.TrimPrefix(behind, "?")
			return restricted, kind, compiles(restricted)
		}
	}
	return "", "", false
}

// isChallenge drops a location in which an ACME client answers: certificates are ordered here.
func (s *nginxServer) isChallenge(d *directive, sc *scope, pattern string) bool {
	if !strings.Contains(strings.ReplaceAll(pattern, `\`, ""), "/.well-known/acme-challenge") {
		return false
	}
	s.note(s.ledger.advise(d, "answers an ACME client's challenges and was left out", "with tls: auto certificates are ordered and renewed here"))
	s.skip(d.block)
	return true
}

func (s *nginxServer) newLocation(d *directive, sc *scope, kind, pattern string) *nginxLocation {
	l := &nginxLocation{
		location: &location{Place: d.Place, opts: &mapping{}, source: d.shown()}, server: s, scope: sc, vars: variables{}, kind: kind, pattern: pattern,
		block: d, fallback: s.fallback,
	}
	for name, v := range s.vars {
		l.vars[name] = v
	}
	switch {
	case strings.HasPrefix(kind, "~"):
		l.path = kind + " " + pattern
		l.groups = groupNames(pattern)
	case !isPlainPath(pattern):
		l.path = "~ ^" + regexp.QuoteMeta(normalPath(pattern))
		if kind == "=" {
			l.path += "$"
		}
	case kind == "":
		l.path = pattern
		if last := pattern[len(pattern)-1]; last != '/' && !isWord(last) {
			l.path = "~ ^" + regexp.QuoteMeta(pattern) // the beginning of a name
		}
	default:
		l.path = kind + " " + pattern
	}
	return l
}

// normalPath begins with a slash.
func normalPath(p string) string {
	if !strings.HasPrefix(p, "/") {
		return "/" + p
	}
	return p
}

// translate finds what a location does, and adds it to its server.
func (l *nginxLocation) translate() {
	defer func() {
		l.server.locations = append(l.server.locations, l.all()...)
	}()
	if l.rewritePhase() {
		l.headers(false)
		l.errorPages()
		l.accessLog()
		return
	}
	l.content()
	l.settings()
	l.limitMethods()
}

// rewritePhase translates what happens before the location serves anything; it reports whether that answers.
func (l *nginxLocation) rewritePhase() (answered bool) {
	s := l.server
	for _, d := range l.scope.own {
		switch d.name {
		case "set":
			if l.block != s.block {
				l.vars[strings.TrimPrefix(d.arg(0), "$")] = d.arg(1)
				s.ledger.took(d)
			}
		case "rewrite":
			if l.block != s.block && l.rewrite(d) {
				return true
			}
		case "return":
			r, ok := readReturn(d)
			if !ok {
				l.note(s.ledger.refuse(d, "answers in a way that is not known here", "write redirect or respond by hand"))
				l.closed("503")
				return true
			}
			l.answer(d, r)
			return true
		case "if":
			if l.block != s.block {
				l.conditional(d)
			}
		}
	}
	return false
}

// answer has the location answer as a return does, with the variables that it knows.
func (l *nginxLocation) answer(d *directive, r returnOf) {
	s := *l.server
	s.vars = l.vars
	s.answer(l.location, d, r, l.scope, l.groups)
}

// rewrite translates a rewrite in a location; it reports whether that answers all requests.
func (l *nginxLocation) rewrite(d *directive) (answered bool) {
	s := l.server
	r, ok := readRewrite(d)
	if !ok {
		l.note(s.ledger.refuse(d, "has a pattern that RE2 does not know", "write the rewrite by hand"))
		return false
	}
	s.ledger.took(d)
	if r.status == 0 {
		m, err := l.rewriteOf(r)
		if err != nil {
			l.note(s.ledger.refuse(d, "leads to where cannot be said: "+err.Error(), "write the rewrite by hand"))
			return false
		}
		addRewrite(l.opts, m)
		l.rewritten = l.rewritten || r.flag == "break"
		return false
	}
	target := returnOf{status: r.status, to: r.redirectTarget()}
	if matchesAll(r.pattern) && !strings.Contains(r.pattern, "(") {
		l.answer(d, target)
		return true
	}
	before := &nginxLocation{
		location: &location{Place: d.Place, opts: &mapping{}, source: d.shown()}, server: s, scope: l.scope, vars: l.vars, groups: groupNames(r.pattern),
	}
	pattern, kind := r.pattern, "~"
	if l.kind == "" || l.kind == "^~" {
		if pattern, kind, ok = nestedRegex("~", r.pattern, l.pattern); !ok {
			l.note(s.ledger.refuse(d, "holds only within this location", "write a location of its own for it"))
			return false
		}
	}
	before.path = kind + " " + pattern
	before.answer(d, target)
	l.before = append(l.before, before.location)
	return false
}

func (l *nginxLocation) rewriteOf(r nginxRewrite) (*mapping, error) {
	s := *l.server
	s.vars = l.vars
	return s.rewriteOf(r)
}

// conditional translates an if in a location into a location of the same path that goes before it.
func (l *nginxLocation) conditional(d *directive) {
	s := l.server
	c, ok := conditionOf(d)
	inner := l.scope.within(d.block)
	if ok && strings.HasPrefix(c.op, "!-") && s.fallbackOf(d, inner) {
		l.fallback, s.fallback = s.fallback, ""
		return
	}
	if ok && strings.HasPrefix(c.op, "-") && len(inner.here("break")) > 0 {
		s.takeIf(d) // files are served in any case
		return
	}
	twin := &nginxLocation{
		location: &location{Place: d.Place, opts: &mapping{}, source: d.shown()}, server: s, scope: inner, vars: l.vars, kind: l.kind, pattern: l.pattern,
		groups: l.groups, block: d, fallback: l.fallback,
	}
	if l.upgrades(c) && len(inner.here("proxy_pass")) > 0 {
		twin.websocketOnly(l)
		s.takeIf(d)
		return
	}
	if strings.HasPrefix(c.variable, "http_upgrade") {
		s.ledger.needless(d)
		s.skip(d.block)
		return
	}
	when, known := s.when(c)
	if !ok || !known && !c.isGate() {
		l.note(s.ledger.note(d, "depends on what locations cannot ask for", "use when on a location, or leave it to the program"))
		s.skip(d.block)
		return
	}
	s.takeIf(d)
	if len(d.block) == 0 {
		return
	}
	twin.path = l.path
	if twin.rewritePhase() {
		twin.headers(false)
	} else {
		twin.content()
		twin.settings()
	}
	if c.isGate() {
		l.gate(d, c, twin.location)
		return
	}
	twin.opts.set("when", when)
	l.before = append(l.before, twin.location)
}

// upgrades reports a condition that holds for requests for WebSockets.
func (l *nginxLocation) upgrades(c nginxCondition) bool {
	return c.variable == "http_upgrade" && (c.op == "" || strings.EqualFold(strings.Trim(c.value, "^$"), "websocket") && !strings.HasPrefix(c.op, "!"))
}

// twins repeats what depends on a condition of the whole server before those locations that go before any regex.
func (s *nginxServer) twins() {
	var conditional []*location
	for _, l := range s.first {
		if l.opts.has("when") {
			conditional = append(conditional, l)
		}
	}
	if len(conditional) == 0 {
		return
	}
	var all []*location
	for _, l := range s.locations {
		if strings.HasPrefix(l.path, "=") || strings.HasPrefix(l.path, "^~") {
			for _, c := range conditional {
				twin := *c
				twin.path = l.path
				all = append(all, &twin)
			}
		}
		all = append(all, l)
	}
	s.locations = all
}

// namedNotes tells of named and internal locations that nothing here leads to.
func (s *nginxServer) namedNotes(sc *scope) {
	for _, d := range sc.here("location") {
		_, pattern := nginxPattern(d)
		if (s.named[pattern] == d || s.inner[pattern] == d) && !s.used[d] {
			if s.inner[pattern] == d {
				s.note(s.ledger.note(d, "is served to whom another location, or a program by X-Accel-Redirect, sends there", "let the program send such files itself"))
			} else {
				s.ledger.needless(d)
			}
			s.skip(d.block)
		}
		s.namedNotes(sc.within(d.block))
	}
}
