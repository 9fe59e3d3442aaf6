package migrate

import (
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// readRedirects translates Redirect and RedirectMatch of the host. Paths that are passed on never come to them.
func (h *apacheHost) readRedirects() {
	for _, d := range h.all("redirect", "redirectmatch", "redirectpermanent", "redirecttemp") {
		if h.redirectsAll {
			h.ledger.needless(d)
			continue
		}
		h.redirectLine(d, "")
	}
	for _, s := range h.sections {
		if s.name == "location" {
			prefix, regex, ok := h.sectionPattern(s)
			for _, d := range s.block {
				if strings.HasPrefix(d.name, "redirect") && ok && regex == "" {
					h.redirectLine(d, prefix)
				}
			}
		}
	}
}

// redirectLine translates one; section is the path of the section that it stands in.
func (h *apacheHost) redirectLine(d *directive, section string) {
	status, args := 302, d.args
	switch d.name {
	case "redirectpermanent":
		status = 301
	case "redirecttemp":
	default:
		if len(args) > 0 {
			if n, ok := statusName(args[0]); ok {
				status, args = n, args[1:]
			}
		}
	}
	from := section
	if section == "" || len(args) > 1 || status >= 400 && len(args) == 1 {
		if len(args) == 0 {
			return
		}
		from, args = args[0], args[1:]
	}
	to := ""
	if len(args) > 0 {
		to = args[0]
	}
	l := &location{Place: d.Place, source: d.shown(), opts: &mapping{}}
	if d.name == "redirectmatch" {
		re, ok := toRE2(from)
		if !ok {
			h.note(h.ledger.refuse(d, "has a pattern that RE2 does not know", "write the redirect by hand"))
			return
		}
		l.path = "~ " + re
		to = keepCaptures(to)
	} else {
		if !h.prefixRedirect(l, d, normalPath(from), &to, status) {
			return
		}
	}
	h.ledger.took(d)
	if status >= 400 {
		l.opts.set("respond", statusWord(status))
	} else {
		if !strings.Contains(to, "?") && !strings.Contains(to, "$request_uri") {
			to += "$is_args$args"
		}
		l.opts.set("redirect", redirectTo(to, status))
	}
	h.first = append(h.first, l)
}

// keepCaptures doubles the dollars of a target that name no capture.
func keepCaptures(s string) string {
	return regexp.MustCompile(`\$(\D|$)`).ReplaceAllString(s, "$$$$$1")
}

// prefixRedirect makes a location of a path with all that is below it; it reports false where nothing is left to say.
func (h *apacheHost) prefixRedirect(l *location, d *directive, from string, to *string, status int) bool {
	if from == "/" && status < 400 && h.plain() && !h.secure() && h.isOwnHTTPS(*to) {
		h.ledger.took(d)
		h.redirects, h.redirectsAll = true, true
		if len(h.names) > 1 {
			rest := strings.TrimPrefix(*to, "https://")
			h.leadsTo = strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(rest, "/"), ":443"))
			l.path = "/"
			l.opts.set("redirect", redirectTo("https://"+h.leadsTo+"$request_uri", status))
			h.locations = []*location{l}
		}
		return false
	}
	if c := h.content(from); c.pass != nil && c.pass.prefix != from {
		h.ledger.needless(d) // Apache passes it on
		return false
	}
	base := literalTemplate(*to)
	switch {
	case from == "/":
		l.path = "/"
		if *to = strings.TrimSuffix(base, "/") + "$request_uri"; !strings.HasSuffix(base, "/") {
			*to = base + "$request_uri"
		}
		if status < 400 {
			h.locations = nil
		}
	case path.Ext(from) != "" && !strings.HasSuffix(from, "/") && isPlainPath(from):
		l.path, *to = "= "+from, base
	default:
		l.path = "~ ^" + regexp.QuoteMeta(strings.TrimSuffix(from, "/")) + "(/.*)?$"
		if strings.HasSuffix(from, "/") {
			l.path = "~ ^" + regexp.QuoteMeta(from) + "(.*)$"
		}
		*to = base + "$1"
	}
	return true
}

// isOwnHTTPS reports a URL that is the root of one of the host's own names, over https.
func (h *apacheHost) isOwnHTTPS(to string) bool {
	rest, ok := strings.CutPrefix(to, "https://")
	name := strings.TrimSuffix(strings.TrimSuffix(rest, "/"), ":443")
	return ok && (len(h.names) == 0 && !strings.Contains(name, "/") || len(h.names) > 0 && strings.EqualFold(h.names[0], name) || slices.Contains(h.names, strings.ToLower(name)))
}

// statusName reads the status of a Redirect.
func statusName(s string) (int, bool) {
	switch strings.ToLower(s) {
	case "permanent":
		return 301, true
	case "temp":
		return 302, true
	case "seeother":
		return 303, true
	case "gone":
		return 410, true
	}
	n, err := strconv.Atoi(s)
	return n, err == nil && n >= 300 && n <= 599
}

// scriptOf is the path that a front controller's rule leads to, without what it appends.
func scriptOf(to string) string {
	to = strings.TrimSuffix(to, "?")
	if script, query, ok := strings.Cut(to, "?"); ok && strings.Contains(query, "$") {
		to = script
	}
	for _, tail := range []string{"/$1", "/$0", "/%{REQUEST_URI}", "%{REQUEST_URI}", "$1"} {
		to = strings.TrimSuffix(to, tail)
	}
	return to
}

// dirRewrites translates the rules of a directory, or of its .htaccess; it returns where what is no file leads to.
func (h *apacheHost) dirRewrites(l *location, at string, level []*directive) (fallback string) {
	if l.isRegex() {
		return ""
	}
	base := at
	if d := lastOf(level, "rewritebase"); d != nil {
		base = d.arg(0)
	}
	for _, r := range h.readRules(level) {
		c, problem := h.conditions(r)
		all := matchesAll(r.pattern) || slices.Contains([]string{".", "^(.+)$", "(.+)", "^.+$", "^(.*)/?$"}, r.pattern)
		to := scriptOf(r.to)
		switch {
		case problem != nil || r.not:
			h.refuseRule(r, "depends on what locations cannot ask for")
		case r.to == "-" && !r.has("F") && !r.has("G"):
			h.needlessRule(r)
		case c.upgrade && r.has("P"):
			h.socket(h.below(r, at), c)
		case c.noFile && all && !r.has("R") && !r.has("P") && !strings.ContainsAny(to, "$%"):
			h.takeRule(r)
			if !strings.HasPrefix(to, "/") {
				to = path.Join(base, to)
			}
			fallback = to
		case r.pattern == `^index\.php$`:
			h.needlessRule(r)
		default:
			h.dirRule(r, c, at, base)
		}
	}
	return fallback
}

// dirRule translates any other rule of a directory as one of the host.
func (h *apacheHost) dirRule(r apacheRule, c apacheConditions, at, base string) {
	key := r.Place.String() + at
	if h.done[key] {
		return
	}
	h.done[key] = true
	if !strings.Contains(r.to, "://") && !strings.HasPrefix(r.to, "/") && !strings.HasPrefix(r.to, "%{REQUEST_URI}") && r.to != "-" {
		r.to = strings.TrimSuffix(base, "/") + "/" + r.to
	}
	if matchesAll(r.pattern) && (strings.HasSuffix(r.to, "/$1") || strings.HasSuffix(r.to, "%{REQUEST_URI}")) && at == "/" {
		h.serverRule(apacheRule{r.directive, r.conds, "^/?(.*)", r.not, r.to, r.flags}, c)
		return
	}
	h.serverRule(h.below(r, at), c)
}
