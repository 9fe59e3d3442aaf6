package migrate

import (
	"slices"
	"strings"
)

// rewritePhase translates what a server does before it looks for a location.
func (s *nginxServer) rewritePhase() {
	for _, d := range s.scope.own {
		switch d.name {
		case "set":
			s.vars[strings.TrimPrefix(d.arg(0), "$")] = d.arg(1)
			s.ledger.took(d)
		case "rewrite":
			s.serverRewrite(d)
		case "return":
			s.serverReturn(d)
		case "if":
			s.serverIf(d)
		case "break":
			return
		}
		if s.ended {
			return
		}
	}
}

// serverReturn translates a return of a server: no request of it reaches a location.
func (s *nginxServer) serverReturn(d *directive) {
	r, ok := readReturn(d)
	s.ended = true
	if !ok {
		s.note(s.ledger.refuse(d, "answers in a way that is not known here", "say what is to be answered with redirect or respond"))
		s.locations = []*location{closedLocation(d, "/", "503")}
		return
	}
	s.ledger.took(d)
	if s.leadsToHTTPS(r) || s.redirects && r.to == "" && r.status >= 400 && len(s.names) == 0 {
		s.redirectsAll = s.plain() && !s.secure()
		s.redirects = true
		if s.redirectsAll {
			return
		}
	}
	l := &location{Place: d.Place, path: "/", source: d.shown(), opts: &mapping{}}
	s.answer(l, d, r, s.scope, nil)
	s.locations = append(s.first, l)
}

// closedLocation is one that answers with a status only.
func closedLocation(d *directive, path, status string) *location {
	l := &location{Place: d.Place, path: path, source: d.shown(), opts: &mapping{}}
	l.closed(status)
	return l
}

// leadsToHTTPS reports an answer that leads to the same name and path over https.
func (s *nginxServer) leadsToHTTPS(r returnOf) bool {
	rest, ok := strings.CutPrefix(s.vars.expand(r.to), "https://")
	if !ok {
		return false
	}
	host, ok := "", false
	for _, tail := range []string{"$request_uri", "$uri$is_args$args", "$uri?$args", "$uri", "$1"} {
		if host, ok = strings.CutSuffix(rest, tail); ok {
			break
		}
	}
	if !ok {
		return false
	}
	switch strings.TrimSuffix(host, ":443") {
	case "$host", "$http_host", "$server_name", "${host}", "${server_name}":
		return true
	}
	return len(s.names) == 1 && s.names[0] == strings.ToLower(host)
}

// answer has a location answer as a return does.
func (s *nginxServer) answer(l *location, d *directive, r returnOf, sc *scope, groups []string) {
	s.ledger.took(d)
	if r.to != "" {
		to, err := s.vars.template(r.to, groups)
		if err != nil {
			l.note(s.ledger.refuse(d, "leads to where cannot be said: "+err.Error(), "write the redirect by hand"))
			l.closed("503")
			return
		}
		l.opts.set("redirect", redirectTo(to, r.status))
		return
	}
	if !r.hasBody {
		l.opts.set("respond", statusWord(r.status))
		return
	}
	body, err := s.vars.template(r.body, groups)
	if err != nil {
		l.note(s.ledger.note(d, "answers with what cannot be said: "+err.Error(), "write the answer by hand"))
		body = literalTemplate(r.body)
	}
	m := &mapping{}
	m.set("status", statusWord(r.status))
	m.set("body", text(body))
	if t := returnType(sc); t != "text/plain" {
		m.set("type", text(t))
	}
	l.opts.set("respond", m)
}

// returnType is the type of what a return says.
func returnType(sc *scope) string {
	for _, h := range sc.all("add_header") {
		if strings.EqualFold(h.arg(0), "Content-Type") {
			return h.arg(1)
		}
	}
	return sc.word("default_type", "text/plain")
}

// redirectTo says where to.
func redirectTo(to string, status int) value {
	if status == 302 {
		return text(to)
	}
	m := &mapping{}
	m.set("to", text(to))
	m.set("status", statusWord(status))
	return m
}

// nginxRewrite is a rewrite, with its pattern as ours.
type nginxRewrite struct {
	pattern, to string
	flag        string
	status      int // of a redirect; otherwise zero
}

func readRewrite(d *directive) (r nginxRewrite, ok bool) {
	if r.pattern, ok = toRE2(d.arg(0)); !ok || len(d.args) < 2 {
		return r, false
	}
	r.to, r.flag = d.arg(1), d.arg(2)
	switch {
	case r.flag == "permanent":
		r.status = 301
	case r.flag == "redirect" || strings.HasPrefix(r.to, "http://") || strings.HasPrefix(r.to, "https://") || strings.HasPrefix(r.to, "$scheme"):
		r.status = 302
	}
	return r, true
}

// matchesAll reports a pattern that every path matches.
func matchesAll(pattern string) bool {
	return slices.Contains([]string{"^", "^/", "/", ".*", "(.*)", "^.*", "^.*$", "^(.*)", "^(.*)$", "^/(.*)$", "^/(.*)", "^/.*$", "^/?(.*)$", "^/?(.*)", "/(.*)"}, pattern)
}

// redirectTarget is where a rewrite that redirects leads, with the query that nginx appends.
func (r nginxRewrite) redirectTarget() string {
	if to, ok := strings.CutSuffix(r.to, "?"); ok {
		return to
	}
	if strings.Contains(r.to, "?") || strings.Contains(r.to, "$request_uri") || strings.Contains(r.to, "$args") {
		return r.to
	}
	return r.to + "$is_args$args"
}

func (s *nginxServer) serverRewrite(d *directive) {
	r, ok := readRewrite(d)
	if !ok {
		s.note(s.ledger.refuse(d, "has a pattern that RE2 does not know", "write the rewrite by hand"))
		return
	}
	s.ledger.took(d)
	if r.status == 0 {
		m, err := s.rewriteOf(r)
		if err != nil {
			s.note(s.ledger.refuse(d, "leads to where cannot be said: "+err.Error(), "write the rewrite by hand"))
			return
		}
		addRewrite(s.opts, m)
		return
	}
	path := "~ " + r.pattern
	if matchesAll(r.pattern) {
		wholePath := r.pattern == "^" || strings.HasPrefix(strings.TrimPrefix(r.pattern, "^"), "(") || !strings.Contains(r.to, "$1")
		if wholePath && s.leadsToHTTPS(returnOf{status: r.status, to: r.to}) {
			s.redirects, s.ended = true, true
			s.redirectsAll = s.plain() && !s.secure()
			return
		}
		s.ended = true
		if !strings.Contains(r.pattern, "(") {
			path = "/"
		}
	}
	l := &location{Place: d.Place, path: path, source: d.shown(), opts: &mapping{}}
	s.answer(l, d, returnOf{status: r.status, to: r.redirectTarget()}, s.scope, groupNames(r.pattern))
	s.first = append(s.first, l)
	if s.ended {
		s.locations = s.first
	}
}

// rewriteOf makes our rewrite of one that does not redirect.
func (s *nginxServer) rewriteOf(r nginxRewrite) (*mapping, error) {
	to, err := s.vars.template(r.to, groupNames(r.pattern))
	if err != nil {
		return nil, err
	}
	m := &mapping{}
	m.set("path", text(r.pattern))
	m.set("to", text(to))
	if r.flag == "break" {
		m.set("stay", word("true"))
	}
	return m, nil
}

// addRewrite adds one to those that are tried in turn.
func addRewrite(opts *mapping, m *mapping) {
	switch v := opts.get("rewrite").(type) {
	case *mapping:
		opts.set("rewrite", list{v, m})
	case list:
		opts.set("rewrite", append(slices.Clone(v), m))
	default:
		opts.set("rewrite", m)
	}
}

// serverIf translates an if of a server.
func (s *nginxServer) serverIf(d *directive) {
	c, ok := conditionOf(d)
	inner := s.scope.within(d.block)
	r, returns := s.ifReturn(inner)
	switch {
	case !ok || !returns:
		if ok && strings.HasPrefix(c.op, "!-") && s.fallbackOf(d, inner) {
			return
		}
		s.ifNote(d)
	case c.isPlainHTTP() && s.leadsToHTTPS(r):
		s.redirects = true
		s.takeIf(d)
	case s.hostIf(d, c, r, inner):
		s.takeIf(d)
	case c.isGate():
		s.serverGate(d, c, r, inner)
	default:
		when, ok := s.when(c)
		if !ok {
			s.ifNote(d)
			return
		}
		s.takeIf(d)
		l := &location{Place: d.Place, path: "~ ^/", source: d.shown(), opts: &mapping{}}
		l.opts.set("when", when)
		s.answer(l, d, r, inner, nil)
		s.first = append(s.first, l)
	}
}

func (s *nginxServer) takeIf(d *directive) {
	s.ledger.took(d)
	s.ledger.took(d.block...)
}

// ifNote says that an if has no counterpart, with all in it.
func (s *nginxServer) ifNote(d *directive) {
	s.note(s.ledger.note(d, "depends on what locations cannot ask for, or does what they cannot", "use when on a location, or leave it to the program"))
	s.skip(d.block)
}

// ifReturn returns what an if answers with: by a return, or by a rewrite of every path.
func (s *nginxServer) ifReturn(inner *scope) (returnOf, bool) {
	for _, d := range inner.own {
		switch d.name {
		case "return":
			return readReturn(d)
		case "rewrite":
			r, ok := readRewrite(d)
			if !ok || r.status == 0 || !matchesAll(r.pattern) {
				return returnOf{}, false
			}
			to := r.redirectTarget()
			if strings.Contains(to, "$1") {
				whole := "$uri"
				if strings.HasPrefix(r.pattern, "^/") || strings.HasPrefix(r.pattern, "/") {
					whole = "/$1" // the slash stands outside of what is captured
				}
				to = strings.Replace(to, strings.Replace(whole, "$uri", "$1", 1), "$uri", 1)
			}
			return returnOf{status: r.status, to: to}, !strings.Contains(to, "$1")
		case "add_header", "break":
		default:
			return returnOf{}, false
		}
	}
	return returnOf{}, false
}

// hostIf translates an if about the host into servers of their own for the hosts that it holds for.
func (s *nginxServer) hostIf(d *directive, c nginxCondition, r returnOf, inner *scope) bool {
	held, ok := c.hosts(s.names)
	if !ok {
		return false
	}
	other := &server{Place: d.Place, names: held, listens: s.listens, certs: s.certs, opts: s.opts.clone()}
	if strings.HasPrefix(c.op, "!") { // whoever asks for another name
		for i := range other.listens {
			if s.listens[i].standard {
				other.names = append(slices.Clone(held), "_")
			}
		}
	}
	if len(other.names) == 0 {
		return true
	}
	s.names = slices.DeleteFunc(s.names, func(name string) bool { return slices.Contains(held, name) })
	if s.leadsToHTTPS(r) && s.plain() && !s.secure() {
		other.redirects, other.redirectsAll = true, true
	} else {
		l := &location{Place: d.Place, path: "/", source: d.shown(), opts: &mapping{}}
		s.answer(l, d, r, inner, nil)
		other.locations = []*location{l}
	}
	if len(s.names) == 0 && other.redirectsAll { // all that it answers
		s.redirects = true
	}
	s.extra = append(s.extra, other)
	return true
}

// fallbackOf takes in an if that leads to a script what is no file.
func (s *nginxServer) fallbackOf(d *directive, inner *scope) bool {
	rewrites := inner.here("rewrite")
	if len(rewrites) == 0 {
		return false
	}
	r, ok := readRewrite(rewrites[0])
	if !ok || r.status != 0 {
		return false
	}
	to := r.to
	if strings.Contains(to, "?") || capture.MatchString(to) {
		script, query, _ := strings.Cut(to, "?")
		if script = strings.TrimSuffix(script, "/$1"); strings.Contains(script, "$") || !strings.HasSuffix(script, ".php") || query != "" && !strings.Contains(query, "$1") {
			return false
		}
		to = script
	}
	s.fallback = to
	s.takeIf(d)
	return true
}
