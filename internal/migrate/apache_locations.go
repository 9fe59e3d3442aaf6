package migrate

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// apacheContent is what serves a path.
type apacheContent struct {
	pass *apachePass
	base string // the prefix that pass, or an Alias, is for
	// dir is the directory of the path's files.
	dir   string
	alias *directive // where dir comes of one
}

// readRoot finds the directory of the host's files.
func (h *apacheHost) readRoot() {
	if h.rootLine = h.find("documentroot"); h.rootLine != nil {
		h.docroot = joinName(h.reader.root, h.rootLine.arg(0))
	}
}

// content finds what serves a prefix.
func (h *apacheHost) content(at string) (c apacheContent) {
	var inner *apachePass
	for _, s := range h.sections { // of several that say something the last one counts
		if s.name != "location" {
			continue
		}
		prefix, regex, ok := h.sectionPattern(s)
		if d := lastOf(s.block, "proxypass"); ok && regex == "" && below(at, prefix) && d != nil {
			inner = h.readPass(d, prefix, "")
		}
	}
	if inner != nil && !inner.except {
		return apacheContent{pass: inner, base: inner.prefix}
	}
	if inner == nil {
		for _, p := range h.proxied {
			if p.regex == "" && below(at, p.prefix) || p.regex != "" && at == "/" && matchesAll(p.regex) && !p.except {
				if p.except {
					break
				}
				return apacheContent{pass: p, base: p.prefix}
			}
		}
	}
	for _, a := range h.all("alias", "scriptalias") {
		if prefix := normalPath(a.arg(0)); below(at, prefix) && len(a.args) > 1 {
			dir := joinName(h.reader.root, a.arg(1))
			return apacheContent{base: prefix, alias: a, dir: path.Join(dir, strings.TrimPrefix(at, strings.TrimSuffix(prefix, "/")))}
		}
	}
	if h.docroot != "" {
		c.dir = path.Join(h.docroot, at)
	}
	return c
}

// isApachesOwn reports what shows numbers of Apache, and the icons of its listings.
func (h *apacheHost) isApachesOwn(p string, d *directive) bool {
	if d.name == "alias" && p == "/icons/" && strings.Contains(d.arg(1), "/apache2/icons") {
		h.ledger.needless(d)
		return true
	}
	if handler := lastOf(d.block, "sethandler"); handler != nil {
		switch handler.arg(0) {
		case "server-status", "server-info", "balancer-manager", "ldap-status":
			h.ledger.needless(d)
			h.ledger.needless(d.block...)
			return true
		}
	}
	return false
}

// prefixes returns the paths that something is said about, with where that stands; / is the last one.
func (h *apacheHost) prefixes() (paths []string, places map[string]*directive) {
	places = map[string]*directive{}
	add := func(p string, d *directive) {
		if !isPlainPath(p) || places[p] != nil || h.isApachesOwn(p, d) {
			return
		}
		places[p] = d
		if p != "/" {
			paths = append(paths, p)
		}
	}
	for _, s := range h.sections {
		if s.name != "location" {
			continue
		}
		if prefix, regex, ok := h.sectionPattern(s); ok && regex == "" {
			add(prefix, s)
		}
	}
	for _, p := range h.proxied {
		if p.regex == "" {
			add(p.prefix, p.directive)
		}
	}
	for _, a := range h.all("alias", "scriptalias") {
		add(normalPath(a.arg(0)), a)
	}
	for _, s := range h.sections {
		if s.name != "directory" {
			continue
		}
		prefix, regex, ok := h.sectionPattern(s)
		if !ok || regex != "" {
			continue
		}
		if url, ok := h.urlOf(path.Clean(prefix)); ok {
			add(url, s)
		}
	}
	if _, said := places["/"]; !said && h.docroot != "" {
		places["/"] = h.rootLine
	}
	if places["/"] != nil {
		paths = append(paths, "/")
	}
	return paths, places
}

// allLocations translates all that a host serves.
func (h *apacheHost) allLocations() {
	paths, places := h.prefixes()
	var prefixes []*location
	for _, p := range paths {
		if l := h.location(p, places[p]); l != nil {
			prefixes = append(prefixes, l)
		}
	}
	prefixes = h.worthSaying(prefixes)
	h.readPatterns()
	h.placePatterns(prefixes)
	for _, l := range h.first {
		h.headers(l, h.levels("/", ""), false)
	}
	h.locations = append(h.locations, h.first...)
	h.locations = append(h.locations, h.regexes...)
	h.locations = append(h.locations, prefixes...)
	h.placeSockets()
	if len(h.locations) == 0 {
		l := &location{Place: h.Place, path: "/", opts: &mapping{}}
		l.opts.set("respond", word("404"))
		h.locations = append(h.locations, l)
	}
}

// worthSaying leaves out the locations that say nothing else than the one around them.
func (h *apacheHost) worthSaying(all []*location) []*location {
	around := func(l *location) (nearest *location) {
		for _, o := range all {
			if o != l && below(l.path, o.path) && (nearest == nil || len(o.path) > len(nearest.path)) {
				nearest = o
			}
		}
		return nearest
	}
	return slices.DeleteFunc(slices.Clone(all), func(l *location) bool {
		o := around(l)
		if o == nil || l.opts.has("static") {
			return false
		}
		for _, key := range []string{"http", "proxy", "websocket"} {
			if v := o.opts.get(key); v != nil && hasPath(v.flow()) {
				return false
			}
		}
		return l.opts.flow() == o.opts.flow()
	})
}

// hasPath reports a target with a path.
func hasPath(target string) bool {
	_, rest, ok := strings.Cut(strings.Trim(target, `"'`), "://")
	return ok && strings.Contains(rest, "/")
}

// location translates what is served below a prefix; nil if nothing is.
func (h *apacheHost) location(at string, d *directive) *location {
	l := &location{Place: d.Place, path: at, source: d.shown(), opts: &mapping{}}
	c := h.content(at)
	if d.section {
		h.ledger.took(d)
	}
	levels := h.levels(at, c.dir)
	switch {
	case c.pass != nil:
		h.proxy(l, c.pass, at, levels)
	case c.dir != "":
		h.files(l, c, at, levels)
	case at == "/":
		return nil
	default:
		l.opts.set("respond", word("404"))
	}
	h.settings(l, c, levels)
	return l
}

// literalDirectory is the path that all that a regex matches is below, as far as it shows.
func literalDirectory(regex string) string {
	literal, _ := anchoredLiteral(regex)
	if i := strings.LastIndexByte(literal, '/'); i >= 0 && isPlainPath(literal[:i+1]) {
		return literal[:i+1]
	}
	return "/"
}

// fileSections reads what is said about files by their names, below a path.
func (h *apacheHost) fileSections(sections []*directive, at string) {
	if h.docroot == "" || h.content("/").pass != nil {
		return
	}
	for _, s := range sections {
		if s.name != "files" && s.name != "filesmatch" || isHandlerSection(s) || len(s.block) == 0 {
			continue
		}
		_, regex, ok := h.sectionPattern(s)
		if !ok {
			h.note(h.ledger.refuse(s, "has a pattern that RE2 does not know", "write the location by hand, with what stands in it"))
			continue
		}
		if hiddenFiles(regex) && lastOf(s.block, "require") != nil {
			h.ledger.needless(s)
			continue
		}
		behind, begins := strings.CutPrefix(regex, "^")
		behind, ends := strings.CutSuffix(behind, "$")
		full := behind
		if begins {
			full = "/" + full
		} else if !ends || !strings.HasPrefix(behind, `\.`) {
			full = "/[^/]*" + full
		}
		if strings.Contains(behind, "|") && !strings.HasSuffix(behind, ")") {
			full = strings.Replace(full, behind, "(?:"+behind+")", 1)
		}
		if ends {
			full += "$"
		} else {
			full += "[^/]*$"
		}
		if at != "" && at != "/" {
			full = "^" + regexp.QuoteMeta(at) + "/.*" + strings.TrimPrefix(full, "/")
		}
		if compiles(full) {
			h.patterns = append(h.patterns, apachePattern{directive: s, regex: full, block: s.block, files: true})
		}
	}
}

// isHandlerSection reports a section that only says who runs files.
func isHandlerSection(s *directive) bool {
	for _, d := range s.block {
		if d.name != "sethandler" && d.name != "ssloptions" && !(d.section && isHandlerSection(d)) {
			return false
		}
	}
	return true
}

// hiddenFiles reports a pattern of files that are never served here.
func hiddenFiles(regex string) bool {
	return strings.HasPrefix(regex, `^\.`) || strings.HasSuffix(regex, `\.phps$`)
}
