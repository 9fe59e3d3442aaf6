package migrate

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// apacheRule is a RewriteRule with the conditions before it.
type apacheRule struct {
	*directive
	conds   []*directive
	pattern string
	not     bool
	to      string
	flags   map[string]string
}

// readRules reads the rules of a level. They count where RewriteEngine is on.
func (h *apacheHost) readRules(level []*directive) (rules []apacheRule) {
	var conds []*directive
	engine := false
	for _, d := range level {
		switch d.name {
		case "rewriteengine":
			engine = on(d)
			h.ledger.needless(d)
		case "rewritecond":
			conds = append(conds, d)
		case "rewriterule":
			r := apacheRule{directive: d, conds: conds, to: d.arg(1), flags: rewriteFlags(d.arg(2))}
			conds = nil
			if !engine {
				h.ledger.needless(d)
				h.ledger.needless(r.conds...)
				continue
			}
			pattern, not := strings.CutPrefix(d.arg(0), "!")
			if _, fold := r.flags["NC"]; fold {
				pattern = "(?i)" + pattern
			}
			var ok bool
			if r.pattern, ok = toRE2(pattern); !ok || len(d.args) < 2 {
				h.refuseRule(r, "has a pattern that RE2 does not know")
				continue
			}
			r.not = not
			rules = append(rules, r)
		}
	}
	return rules
}

func (h *apacheHost) refuseRule(r apacheRule, does string) {
	h.note(h.ledger.refuse(r.directive, does, "write redirect, rewrite or a location by hand"))
	for _, c := range r.conds {
		h.ledger.set(c, refused)
	}
}

func (h *apacheHost) takeRule(r apacheRule) {
	h.ledger.took(r.directive)
	h.ledger.took(r.conds...)
}

func (h *apacheHost) needlessRule(r apacheRule) {
	h.ledger.needless(r.directive)
	h.ledger.needless(r.conds...)
}

func rewriteFlags(s string) map[string]string {
	flags := map[string]string{}
	long := map[string]string{
		"REDIRECT": "R", "PROXY": "P", "LAST": "L", "FORBIDDEN": "F", "GONE": "G", "NOCASE": "NC", "QSAPPEND": "QSA", "QSDISCARD": "QSD", "NOESCAPE": "NE",
		"PASSTHROUGH": "PT", "ENV": "E", "COOKIE": "CO",
	}
	for flag := range strings.SplitSeq(strings.Trim(s, "[]"), ",") {
		name, v, _ := strings.Cut(strings.TrimSpace(flag), "=")
		name = strings.ToUpper(name)
		if short, ok := long[name]; ok {
			name = short
		}
		flags[name] = v
	}
	return flags
}

// apacheSocket is where requests for WebSockets go below a prefix, or for a pattern.
type apacheSocket struct {
	rule    apacheRule
	prefix  string
	regex   string
	target  target
	needsTo bool
}

// readRewrites translates the rules of the host itself.
func (h *apacheHost) readRewrites() {
	for _, r := range h.readRules(h.own) {
		c, problem := h.conditions(r)
		if problem != nil || r.not {
			h.refuseRule(r, "depends on what locations cannot ask for")
			continue
		}
		if h.serverRule(r, c) {
			return
		}
	}
	for _, s := range h.sections {
		if s.name != "location" {
			continue
		}
		for _, r := range h.readRules(s.block) {
			c, problem := h.conditions(r)
			prefix, regex, _ := h.sectionPattern(s)
			if problem == nil && regex == "" && c.upgrade && r.has("P") {
				h.socket(h.below(r, prefix), c)
				continue
			}
			if problem != nil || regex != "" || r.not {
				h.refuseRule(r, "depends on what locations cannot ask for")
				continue
			}
			h.serverRule(h.below(r, prefix), c)
		}
	}
}

func (r apacheRule) has(flag string) bool { _, ok := r.flags[flag]; return ok }

// below makes a rule of a section one of the host: its pattern is about what follows the section's path.
func (h *apacheHost) below(r apacheRule, prefix string) apacheRule {
	rest := strings.TrimPrefix(r.pattern, "^")
	if rest == r.pattern {
		rest = ".*" + rest
	}
	r.pattern = "^" + regexp.QuoteMeta(strings.TrimSuffix(prefix, "/")) + "/?" + strings.TrimPrefix(rest, "/?")
	return r
}

// serverRule translates a rule; it reports whether no request gets past it.
func (h *apacheHost) serverRule(r apacheRule, c apacheConditions) (ended bool) {
	switch {
	case r.has("P"):
		if c.upgrade || isSocketURL(r.to) {
			h.socket(r, c)
			return false
		}
		h.proxyRule(r, c)
	case r.has("F") || r.has("G"):
		status := map[bool]string{true: "403", false: "410"}[r.has("F")]
		h.answerRule(r, c, func(l *location) { l.opts.set("respond", word(status)) })
	case r.has("R") || strings.HasPrefix(r.to, "http://") || strings.HasPrefix(r.to, "https://"):
		return h.redirectRule(r, c)
	case r.to == "-":
		h.needlessRule(r)
	case c.noFile && (matchesAll(r.pattern) || r.pattern == "." || r.pattern == "^(.+)$"):
		h.takeRule(r)
		h.controller = scriptOf(r.to)
	case c.plain || c.secure || c.byHost || c.upgrade || c.when != nil || c.isFile || c.noFile || c.path != "":
		h.refuseRule(r, "rewrites paths under conditions")
	default:
		h.rewriteRule(r, h.opts)
	}
	return false
}

func isSocketURL(s string) bool {
	return strings.HasPrefix(s, "ws://") || strings.HasPrefix(s, "wss://")
}

var ruleVar = regexp.MustCompile(`%\{([^}]*)\}|\$([0-9])|%([0-9])`)

// ruleTemplate makes one of our templates of what a rule leads to. Captures of conditions are known only of those about the host.
func ruleTemplate(r apacheRule, c apacheConditions, host string) (string, error) {
	return replaceVars(r.to, ruleVar, func(m []string) (string, error) {
		switch {
		case m[2] == "0":
			return "$uri", nil
		case m[2] != "":
			return "$" + m[2], nil
		case m[3] != "":
			if len(c.groups) == 1 && host != "" {
				groups := regexp.MustCompile(c.groups[0]).FindStringSubmatch(host)
				if n, _ := strconv.Atoi(m[3]); n < len(groups) {
					return groups[n], nil
				}
			}
			return "", fmt.Errorf("%s has no counterpart", m[0])
		}
		if strings.EqualFold(m[1], "REQUEST_URI") && r.has("R") {
			return "$uri", nil
		}
		return apacheVariable(m[1])
	})
}

// redirectRule translates a rule that redirects.
func (h *apacheHost) redirectRule(r apacheRule, c apacheConditions) (ended bool) {
	status := redirectStatus(r.flags["R"])
	all := (matchesAll(r.pattern) || r.pattern == ".") && c.path == "" && c.when == nil
	if all && h.leadsToHTTPS(r) && !c.secure && (!c.byHost || len(c.hosts) >= len(h.names)) {
		h.takeRule(r)
		h.redirects = true
		if h.plain() && !h.secure() {
			h.redirectsAll = true
			return true
		}
		return !c.plain
	}
	if c.upgrade || c.noFile || c.isFile || c.secure && h.plain() {
		h.refuseRule(r, "redirects under conditions")
		return false
	}
	if status >= 400 {
		h.answerRule(r, c, func(l *location) { l.opts.set("respond", statusWord(status)) })
		return false
	}
	if c.byHost {
		return h.hostRule(r, c, status, all)
	}
	to, err := ruleTemplate(r, c, "")
	if err != nil {
		h.refuseRule(r, "leads to where cannot be said: "+err.Error())
		return false
	}
	h.answerRule(r, c, func(l *location) { l.opts.set("redirect", redirectTo(withQuery(r, absolute(to)), status)) })
	return all && !c.plain
}

// absolute begins a target at the root.
func absolute(to string) string {
	if strings.Contains(to, "://") || strings.HasPrefix(to, "/") || strings.HasPrefix(to, "$") {
		return to
	}
	return "/" + to
}

// withQuery appends the query, as Apache does unless the target has one or it is to be discarded.
func withQuery(r apacheRule, to string) string {
	switch {
	case r.has("QSD") || strings.HasSuffix(to, "?"):
		return strings.TrimSuffix(to, "?")
	case strings.Contains(to, "?") && r.has("QSA"):
		return to + "&$args"
	case strings.Contains(to, "?") || strings.Contains(to, "$request_uri") || strings.Contains(to, "$args"):
		return to
	}
	return to + "$is_args$args"
}

func redirectStatus(s string) int {
	switch strings.ToLower(s) {
	case "permanent":
		return 301
	case "seeother":
		return 303
	}
	if n, err := strconv.Atoi(s); err == nil && n >= 300 && n <= 599 {
		return n
	}
	return 302
}

// leadsToHTTPS reports a rule that leads to the same name and path over https.
func (h *apacheHost) leadsToHTTPS(r apacheRule) bool {
	rest, ok := strings.CutPrefix(r.to, "https://")
	if !ok {
		return false
	}
	slash := strings.HasPrefix(strings.TrimPrefix(r.pattern, "^"), "/")
	for _, tail := range []string{"%{REQUEST_URI}", "$1", "/$1", "$0", "/$0", "/%{REQUEST_URI}"} {
		host, ok := strings.CutSuffix(rest, tail)
		if !ok || tail == "$1" && slash || tail == "/$1" && !slash && !strings.HasPrefix(r.pattern, "^(.*)") && !strings.HasPrefix(r.pattern, "(.*)") {
			continue
		}
		switch strings.ToUpper(host) {
		case "%{HTTP_HOST}", "%{SERVER_NAME}", "%{HTTP_HOST}:443", "%{SERVER_NAME}:443":
			return true
		}
		if len(h.names) > 0 && strings.EqualFold(host, h.names[0]) {
			return len(h.names) == 1
		}
	}
	return false
}

// hostRule makes a server of the names that a rule redirects.
func (h *apacheHost) hostRule(r apacheRule, c apacheConditions, status int, all bool) (ended bool) {
	if !all || c.plain && h.secure() {
		h.refuseRule(r, "redirects some paths of some hosts")
		return false
	}
	h.takeRule(r)
	for _, name := range c.hosts {
		to, err := ruleTemplate(r, c, name)
		if err != nil {
			h.refuseRule(r, "leads to where cannot be said: "+err.Error())
			return false
		}
		l := &location{Place: r.Place, path: "/", source: r.shown(), opts: &mapping{}}
		if strings.Contains(to, "$1") {
			l.path = "~ " + r.pattern
		}
		l.opts.set("redirect", redirectTo(strings.Replace(withQuery(r, to), "$uri$is_args$args", "$request_uri", 1), status))
		other := &server{Place: r.Place, names: []string{name}, listens: h.listens, certs: h.certs, opts: h.opts.clone(), locations: []*location{l}}
		if i := slices.IndexFunc(h.extra, func(s *server) bool { return s.Place == r.Place && s.locations[0].same(l) }); i >= 0 {
			h.extra[i].names = append(h.extra[i].names, name)
			continue
		}
		h.extra = append(h.extra, other)
	}
	h.names = slices.DeleteFunc(h.names, func(name string) bool { return slices.Contains(c.hosts, name) })
	return false
}

// answerRule makes a location of a rule that answers.
func (h *apacheHost) answerRule(r apacheRule, c apacheConditions, answer func(*location)) {
	if c.plain && h.secure() || c.byHost || c.upgrade || c.noFile {
		h.refuseRule(r, "answers under conditions")
		return
	}
	pattern := r.pattern
	if c.path != "" {
		if !matchesAll(pattern) && pattern != "." {
			h.refuseRule(r, "answers under conditions")
			return
		}
		pattern = c.path
	}
	l := &location{Place: r.Place, path: "~ " + pattern, source: r.shown(), opts: &mapping{}}
	if exact, begins, ends, ok := literalText(pattern); ok && begins && ends && isPlainPath(exact) {
		l.path = "= " + exact
	} else if pattern == "." || matchesAll(pattern) && (!strings.Contains(pattern, "(") || r.to == "-") {
		l.path = "~ ^/"
	}
	if c.when != nil {
		l.opts.set("when", c.when)
	}
	h.takeRule(r)
	answer(l)
	if l.path == "~ ^/" && c.allowed != nil && len(c.when.entries) == 1 {
		l.path = "/"
		l.opts.remove("when")
		h.gates = append(h.gates, methodGate{allowed: c.allowed, other: l})
		return
	}
	h.first = append(h.first, l)
}

// rewriteRule translates a rule that only changes the path.
func (h *apacheHost) rewriteRule(r apacheRule, opts *mapping) {
	to, err := ruleTemplate(r, apacheConditions{}, "")
	if err != nil {
		h.refuseRule(r, "leads to where cannot be said: "+err.Error())
		return
	}
	if to = absolute(to); !strings.HasPrefix(to, "/") {
		h.refuseRule(r, "leads to where cannot be said")
		return
	}
	if strings.Contains(to, "?") && !r.has("QSA") && !strings.HasSuffix(to, "?") || r.has("QSD") && !strings.HasSuffix(to, "?") {
		to += "?"
	}
	h.takeRule(r)
	m := &mapping{}
	m.set("path", text(r.pattern))
	m.set("to", text(to))
	addRewrite(opts, m)
}

// proxyRule translates a rule with [P].
func (h *apacheHost) proxyRule(r apacheRule, c apacheConditions) {
	if c.plain || c.secure || c.byHost || c.noFile || c.isFile || strings.Contains(r.to, "%{") && !strings.HasSuffix(r.to, "%{REQUEST_URI}") {
		h.refuseRule(r, "passes requests on under conditions")
		return
	}
	pattern := r.pattern
	to := strings.TrimSuffix(r.to, "%{REQUEST_URI}")
	if to != r.to {
		to += "/"
	}
	p := &apachePass{directive: r.directive, url: to, params: map[string]string{}}
	if prefix, base, ok := prefixRule(pattern, to); ok && c.path == "" && c.when == nil {
		p.prefix, p.url = prefix, base
		h.takeRule(r)
		h.proxied = append([]*apachePass{p}, h.proxied...)
		return
	}
	if c.path != "" {
		pattern = c.path
	}
	p.regex = pattern
	h.takeRule(r)
	h.patterns = append(h.patterns, apachePattern{directive: r.directive, regex: pattern, pass: p, when: c.when})
}

var prefixPattern = regexp.MustCompile(`^\^?(/[A-Za-z0-9_./-]*?)?/?\??\(\.[*+]\)\$?$`)

// prefixRule reads a pattern such as ^/ws/(.*) with a target that ends in $1 as a prefix and what takes its place.
func prefixRule(pattern, to string) (prefix, base string, ok bool) {
	m := prefixPattern.FindStringSubmatch(pattern)
	base, ends := strings.CutSuffix(to, "$1")
	if m == nil || !ends || strings.ContainsAny(base, "$%") {
		return "", "", false
	}
	prefix = m[1]
	if prefix == "" {
		prefix = "/"
	} else if strings.Contains(pattern, prefix+"/(") {
		prefix += "/"
	}
	if !strings.HasSuffix(base, "/") {
		base += "/"
	}
	return prefix, base, isPlainPath(prefix)
}
