package config

import (
	"regexp"
	"regexp/syntax"
)

// shadowFinder finds the locations of one site that no request can reach. The order of
// matching is nginx's: an exact path; else the longest prefix is remembered, and wins at
// once if it is a ^~; else the first regex that matches; else the remembered prefix.
type shadowFinder struct {
	all []shadowed
}

type shadowed struct {
	match   Match
	when    bool // it has conditions, and so shadows nothing
	path    scalar
	pos     Pos
	problem problem
}

func (f *shadowFinder) add(l Location, path scalar) {
	f.all = append(f.all, shadowed{match: l.Match, when: l.When != nil, path: path, pos: path.pos})
}

// find returns the shadowed locations, each with the one that shadows it.
func (f *shadowFinder) find(lineText func(int) string) []shadowed {
	var found []shadowed
	report := func(s, by shadowed, why string) {
		s.problem = problem{
			"path " + s.path.shown() + " can never match: the location on " + lineText(by.pos.Line) + why,
			"locations that requests can reach",
		}
		found = append(found, s)
	}
	stopAll := f.stopAll()
	catchAll := f.firstCatchAll()
	first := make(map[string]shadowed)
	for i, s := range f.all {
		key := matchKey(s.match)
		if by, dup := first[key]; dup {
			report(s, by, " has the same path")
			continue
		}
		if !s.when {
			first[key] = s
		}
		switch s.match.Kind {
		case MatchRegex, MatchRegexFold:
			switch {
			case stopAll != nil:
				report(s, *stopAll, " stops the search for a regex on every path")
			case catchAll >= 0 && catchAll < i:
				report(s, f.all[catchAll], " matches every path")
			}
		case MatchPrefix:
			if catchAll >= 0 {
				report(s, f.all[catchAll], " matches every path, and a regex goes before a prefix without ^~")
			}
		}
	}
	return found
}

// matchKey is equal for locations that match the same requests at the same rank.
func matchKey(m Match) string {
	switch m.Kind {
	case MatchExact:
		return "= " + m.Path
	case MatchRegex, MatchRegexFold:
		return "~ " + m.Regexp.String()
	}
	return m.Path
}

// stopAll returns the ^~ / location if no regex is ever tried because of it: there is no
// longer prefix without ^~ that lets the search go on.
func (f *shadowFinder) stopAll() *shadowed {
	var root *shadowed
	for i, s := range f.all {
		switch {
		case s.match.Kind == MatchPrefixStop && s.match.Path == "/" && !s.when:
			root = &f.all[i]
		case s.match.Kind == MatchPrefix && s.match.Path != "/":
			return nil
		}
	}
	return root
}

// firstCatchAll returns the index of the first regex that matches every path, or -1.
func (f *shadowFinder) firstCatchAll() int {
	for i, s := range f.all {
		if s.match.Regexp != nil && !s.when && matchesEverything(s.match.Regexp) {
			return i
		}
	}
	return -1
}

// matchesEverything tells whether a regex matches every path, as far as its shape shows: an
// optional ^, an optional /, an optional "anything", and a $ only after "anything".
func matchesEverything(re *regexp.Regexp) bool {
	parsed, err := syntax.Parse(re.String(), syntax.Perl)
	if err != nil {
		return false
	}
	parts := flatten(parsed)
	take := func(ok func(*syntax.Regexp) bool) bool {
		if len(parts) == 0 || !ok(parts[0]) {
			return false
		}
		parts = parts[1:]
		return true
	}
	begin := take(func(r *syntax.Regexp) bool { return r.Op == syntax.OpBeginText })
	slash := take(func(r *syntax.Regexp) bool { return r.Op == syntax.OpLiteral && string(r.Rune) == "/" })
	anything := take(func(r *syntax.Regexp) bool {
		return r.Op == syntax.OpStar && isAny(r.Sub[0]) || !slash && r.Op == syntax.OpPlus && isAny(r.Sub[0])
	})
	if !slash && !anything && take(isAny) {
		return len(parts) == 0 // a path has at least one byte
	}
	if take(func(r *syntax.Regexp) bool { return r.Op == syntax.OpEndText }) {
		return len(parts) == 0 && (anything || !begin && !slash)
	}
	return len(parts) == 0
}

// isAny tells whether r is the dot. That a dot leaves out newlines makes no difference to
// the paths that people serve.
func isAny(r *syntax.Regexp) bool {
	for r.Op == syntax.OpCapture {
		r = r.Sub[0]
	}
	return r.Op == syntax.OpAnyChar || r.Op == syntax.OpAnyCharNotNL
}

// flatten returns the parts that r matches one after the other, without groups.
func flatten(r *syntax.Regexp) []*syntax.Regexp {
	switch r.Op {
	case syntax.OpEmptyMatch:
		return nil
	case syntax.OpCapture:
		return flatten(r.Sub[0])
	case syntax.OpConcat:
		var parts []*syntax.Regexp
		for _, sub := range r.Sub {
			parts = append(parts, flatten(sub)...)
		}
		return parts
	}
	return []*syntax.Regexp{r}
}
