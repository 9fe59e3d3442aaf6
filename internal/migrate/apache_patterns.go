package migrate

import (
	"path"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
)

// apachePattern is what is said about the paths that a regex matches. Apache puts it over what is said about prefixes; here a regex goes before any
// prefix, so that there is a location for both together, too.
type apachePattern struct {
	*directive
	regex string
	pass  *apachePass // where it says where requests go; nil if it does not
	block []*directive
	files bool // it is about files by their names: what is passed on has none
	when  *mapping
}

// readPatterns finds all that is said about patterns.
func (h *apacheHost) readPatterns() {
	for _, p := range h.proxied {
		if p.regex != "" && !(matchesAll(p.regex) && h.content("/").pass == p) {
			h.patterns = append(h.patterns, apachePattern{directive: p.directive, regex: p.regex, pass: p})
		}
	}
	for _, s := range h.sections {
		if s.name != "location" && s.name != "locationmatch" {
			continue
		}
		_, regex, ok := h.sectionPattern(s)
		if !ok {
			h.note(h.ledger.refuse(s, "has a pattern that RE2 does not know", "write the location by hand, with what stands in it"))
			continue
		}
		if regex == "" || matchesAll(regex) {
			continue
		}
		pattern := apachePattern{directive: s, regex: regex, block: s.block}
		for _, name := range []string{"proxypass", "proxypassmatch"} {
			if d := lastOf(s.block, name); d != nil {
				pattern.pass = h.readPass(d, "", regex)
			}
		}
		h.patterns = append(h.patterns, pattern)
	}
	h.fileSections(h.sections, "")
	for _, s := range h.sections {
		if s.name != "directory" {
			continue
		}
		prefix, regex, ok := h.sectionPattern(s)
		if url, served := h.urlOf(path.Clean(prefix)); ok && regex == "" && served {
			h.fileSections(s.block, url)
		} else if ok && regex == "" && below(h.docroot, path.Clean(prefix)) {
			h.fileSections(s.block, "")
		}
	}
}

// placePatterns makes locations of them: of each with every prefix that it meets, and of each alone. What closes goes before all others, then what is
// about the longest prefix, and what is about none comes last.
func (h *apacheHost) placePatterns(prefixes []*location) {
	longest := slices.Clone(prefixes)
	slices.SortStableFunc(longest, func(a, b *location) int { return len(b.path) - len(a.path) })
	var closing, both, alone []*location
	guarded, met := map[*location]bool{}, map[*location]bool{}
	for _, p := range h.patterns {
		h.ledger.took(p.directive)
		own := h.patternAt(p, literalDirectory(p.regex), p.regex)
		if own.opts.has("respond") && p.pass == nil && !p.files {
			closing = append(closing, own)
			continue
		}
		alone = append(alone, own)
		for _, l := range longest {
			c := h.content(l.path)
			switch {
			case l.path == "/" || !meets(p.regex, l.path) || c.alias != nil && isFile(h.in.Files, c.dir):
			case h.winsOver(c, p):
				guarded[l] = true
			default:
				if r := h.patternBelow(p, l, own); r != nil {
					both, met[l] = append(both, r), true
				}
			}
		}
	}
	slices.SortStableFunc(both, func(a, b *location) int { return len(b.under) - len(a.under) })
	h.regexes = append(closing, both...)
	h.regexes = append(h.regexes, h.guard(prefixes, guarded, met)...)
	h.regexes = append(h.regexes, alone...)
}

// patternBelow translates what is said about a pattern together with what is said about a prefix; nil where that is no more than either says.
func (h *apacheHost) patternBelow(p apachePattern, l, own *location) *location {
	regex, _, ok := nestedRegex("~", p.regex, l.path)
	if !ok {
		l.note(h.ledger.refuse(p.directive, "is about some paths below "+l.path+" that no pattern here says", "write the location by hand"))
		return nil
	}
	r := h.patternAt(p, l.path, regex)
	if regex == p.regex || r.opts.flow() == own.opts.flow() {
		return nil
	}
	r.under = l.path
	return r
}

// winsOver reports a prefix that a pattern has nothing to say about.
func (h *apacheHost) winsOver(c apacheContent, p apachePattern) bool {
	if p.files {
		return c.pass != nil
	}
	if p.pass == nil || c.pass == nil || c.pass.regex != "" {
		return false
	}
	i, j := slices.Index(h.proxied, c.pass), slices.Index(h.proxied, p.pass)
	return i < 0 || j >= 0 && i < j // of the lines the first counts, and before them what stands in a section
}

// guard has prefixes win over patterns that are not for them: by ^~, or, where there are regexes that do go before, by a regex behind those.
func (h *apacheHost) guard(prefixes []*location, guarded, met map[*location]bool) (forms []*location) {
	for _, l := range prefixes {
		if !guarded[l] {
			continue
		}
		before := met[l] || slices.ContainsFunc(append(slices.Clone(h.first), h.regexes...), func(r *location) bool {
			return r.isRegex() && meets(strings.TrimPrefix(r.path, "~ "), l.path)
		})
		if !before {
			l.path = "^~ " + l.path
			continue
		}
		pattern := "^" + regexp.QuoteMeta(l.path)
		if !strings.HasSuffix(l.path, "/") {
			pattern += "(/|$)"
		}
		d := &directive{Place: l.Place, text: l.source, name: "location"}
		forms = append(forms, h.patternAt(apachePattern{directive: d}, l.path, pattern))
	}
	slices.SortStableFunc(forms, func(a, b *location) int { return len(b.path) - len(a.path) })
	return forms
}

// patternAt translates a pattern for paths below a prefix.
func (h *apacheHost) patternAt(p apachePattern, at, regex string) *location {
	l := &location{Place: p.Place, path: "~ " + regex, source: p.shown(), opts: &mapping{}}
	c := h.content(at)
	if p.pass != nil {
		c = apacheContent{pass: p.pass}
		if p.pass.except {
			c = apacheContent{dir: path.Join(h.docroot, at)}
		}
	}
	levels := h.levels(at, c.dir)
	if p.block != nil {
		levels = append(levels, p.block)
	}
	switch {
	case c.pass != nil:
		h.proxy(l, c.pass, at, levels)
	case c.dir != "" && h.docroot != "" || c.alias != nil:
		h.files(l, c, at, levels)
	default:
		l.opts.set("respond", word("404"))
	}
	h.settings(l, c, levels)
	if p.when != nil {
		l.opts.set("when", p.when)
	}
	return l
}

// meets reports a regex that may match paths below a prefix.
func meets(regex, prefix string) bool {
	literal, ok := anchoredLiteral(regex)
	return !ok || strings.HasPrefix(literal, prefix) || strings.HasPrefix(prefix, literal)
}

// anchoredLiteral returns the text that all that a regex matches begins with; it reports false where matches may begin anywhere.
func anchoredLiteral(regex string) (string, bool) {
	rest, begins := strings.CutPrefix(regex, "^")
	parsed, err := syntax.Parse(regex, syntax.Perl)
	if !begins || err != nil || parsed.Op != syntax.OpConcat || parsed.Sub[0].Op != syntax.OpBeginText || !compiles(rest) {
		return "", false
	}
	literal, _ := regexp.MustCompile(rest).LiteralPrefix()
	return literal, true
}
