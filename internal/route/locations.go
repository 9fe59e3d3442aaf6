package route

import (
	"errors"
	"regexp"
	"strings"

	"wstunnel/internal/config"
)

// Locations are the locations of a site, by the paths that they answer. What they are for is L.
type Locations[L any] struct {
	exact    map[string][]L
	prefixes segment[L]
	regexes  []pattern[L] // in the order in which they were added
}

type pattern[L any] struct {
	regexp   *regexp.Regexp
	location L
}

// Add adds a location. Of several with one path the first that is wanted counts.
func (ls *Locations[L]) Add(match config.Match, l L) {
	switch match.Kind {
	case config.MatchExact:
		if ls.exact == nil {
			ls.exact = map[string][]L{}
		}
		ls.exact[match.Path] = append(ls.exact[match.Path], l)
	case config.MatchPrefix, config.MatchPrefixStop:
		ls.prefixes.add(match.Path, prefix[L]{l, match.Kind == config.MatchPrefixStop})
	default:
		ls.regexes = append(ls.regexes, pattern[L]{match.Regexp, l})
	}
}

// MaxMatched bounds, in bytes, what regexes are tried on: they cost some fifty nanoseconds a byte each.
const MaxMatched = 4 << 10

// ErrTooLong says that a path is longer than regexes are tried on.
var ErrTooLong = errors.New("the path is too long for the patterns of this site")

// Find returns the location that answers a normalised path, with nginx's precedence: an exact path; the longest prefix if it is `^~`; the first regex; the
// longest prefix. It is the zero L if none does. A location that is not wanted is as if it were not there. A path that is a prefix but for the slash at that
// one's end lacks it, and no regex is tried.
func (ls *Locations[L]) Find(path string, wanted func(L) bool) (l L, lacksSlash bool, err error) {
	for _, l := range ls.exact[path] {
		if wanted(l) {
			return l, false, nil
		}
	}
	longest, lacksSlash := ls.prefixes.longest(path, wanted)
	if longest != nil && (lacksSlash || longest.stop) {
		return longest.location, lacksSlash, nil
	}
	if len(ls.regexes) > 0 && len(path) > MaxMatched {
		return l, false, ErrTooLong
	}
	for _, p := range ls.regexes {
		if p.regexp.MatchString(path) && wanted(p.location) {
			return p.location, false, nil
		}
	}
	if longest != nil {
		l = longest.location
	}
	return l, false, nil
}

type prefix[L any] struct {
	location L
	stop     bool // ^~
}

// segment is a node of the tree of prefixes: all that begin with the same segments of a path. The zero segment is the root, before the first slash.
type segment[L any] struct {
	bare, slash []prefix[L] // that end here, without and with a slash at their end
	below       map[string]*segment[L]
}

func (n *segment[L]) add(path string, p prefix[L]) {
	path, slash := strings.CutSuffix(path, "/")
	if path != "" {
		for name := range strings.SplitSeq(path[1:], "/") {
			if n.below == nil {
				n.below = map[string]*segment[L]{}
			}
			if n.below[name] == nil {
				n.below[name] = &segment[L]{}
			}
			n = n.below[name]
		}
	}
	if slash {
		n.slash = append(n.slash, p)
	} else {
		n.bare = append(n.bare, p)
	}
}

// first returns the first prefix whose location is wanted, or nil.
func first[L any](prefixes []prefix[L], wanted func(L) bool) *prefix[L] {
	for i := range prefixes {
		if wanted(prefixes[i].location) {
			return &prefixes[i]
		}
	}
	return nil
}

// longest looks for the longest prefix that ends at a segment boundary: /ws and /ws/ are prefixes of /ws/chat, /w is not. Where the path lacks
// just the slash of a prefix, that is the one.
func (n *segment[L]) longest(path string, wanted func(L) bool) (p *prefix[L], lacksSlash bool) {
	p = first(n.slash, wanted)
	for name, rest, more := strings.Cut(path[1:], "/"); name != ""; name, rest, more = strings.Cut(rest, "/") {
		if n = n.below[name]; n == nil {
			break
		}
		bare, slash := first(n.bare, wanted), first(n.slash, wanted)
		if bare != nil {
			p = bare
		}
		switch {
		case more && slash != nil:
			p = slash
		case !more && bare == nil && slash != nil:
			return slash, true
		}
	}
	return p, false
}
