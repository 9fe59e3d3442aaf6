package proxy

import (
	"net/http"
	"regexp"
	"strings"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/host"
	"wstunnel/internal/logs"
)

// table is the routing of one configuration, compiled: which site answers a host, which location a path.
// It is never modified.
type table struct {
	sites host.Table[*site]
}

// site is one compiled site.
type site struct {
	*config.Site
	name     string // the first host, for logs
	exact    map[string]*location
	prefixes segment
	access   *logs.Log   // where lines of requests go; nil for nowhere
	regexes  []*location // in file order
}

// location is one compiled location.
type location struct {
	*config.Location
	site      *site
	pattern   string // as written, for logs
	stop      bool   // ^~
	regexp    *regexp.Regexp
	websocket *upstream
	http      *upstream
	access    *logs.Log // nil for nowhere
}

// outside is what a table refers to and does not make, so that compiling stays free of I/O.
type outside interface {
	upstream(*config.Target) *upstream
	accessLog(config.AccessLog) *logs.Log
}

// newTable compiles the routing.
func newTable(cfg *config.Config, o outside) *table {
	t := &table{}
	for i := range cfg.Sites {
		s := newSite(&cfg.Sites[i], o)
		for _, name := range s.Hosts {
			t.sites.Add(name, s)
		}
	}
	return t
}

func newSite(cfg *config.Site, o outside) *site {
	s := &site{
		Site: cfg, name: cfg.Hosts[0], exact: map[string]*location{}, access: o.accessLog(cfg.AccessLog),
	}
	for i := range cfg.Locations {
		c := &cfg.Locations[i]
		l := &location{Location: c, site: s, pattern: c.Match.String(), regexp: c.Match.Regexp, access: o.accessLog(c.AccessLog)}
		if c.WebSocket != nil {
			l.websocket = o.upstream(c.WebSocket)
		}
		if c.HTTP != nil {
			l.http = o.upstream(c.HTTP)
		}
		switch c.Match.Kind {
		case config.MatchExact:
			s.exact[c.Match.Path] = l
		case config.MatchPrefix, config.MatchPrefixStop:
			l.stop = c.Match.Kind == config.MatchPrefixStop
			s.prefixes.add(l)
		default:
			s.regexes = append(s.regexes, l)
		}
	}
	return s
}

// site returns the site that answers a Host header: the exact name, else the longest wildcard, else "_". It is nil
// if none does.
func (t *table) site(hostHeader string) *site {
	name, _ := host.Split(hostHeader)
	s, _ := t.sites.Find(host.Canonical(name))
	return s
}

// maxRegexPath bounds the path that regexes are tried on: they cost some fifty nanoseconds a byte each.
const maxRegexPath = 8 << 10

// location returns the location that answers a normalised path, with nginx's precedence: an exact path;
// the longest prefix if it is `^~`; the first regex in file order; the longest prefix. It is nil if none does. A path that is a prefix but for
// the slash at that one's end lacks it, and no regex is tried.
func (s *site) location(path string) (l *location, lacksSlash bool, err *head.Error) {
	if l := s.exact[path]; l != nil {
		return l, false, nil
	}
	longest, lacksSlash := s.prefixes.longest(path)
	if lacksSlash || longest != nil && longest.stop {
		return longest, lacksSlash, nil
	}
	if len(s.regexes) > 0 && len(path) > maxRegexPath {
		return nil, false, &head.Error{Status: http.StatusRequestURITooLong, Reason: "the path is too long for the patterns of this site"}
	}
	for _, l := range s.regexes {
		if l.regexp.MatchString(path) {
			return l, false, nil
		}
	}
	return longest, false, nil
}

// segment is a node of the tree of prefixes: all that begin with the same segments of a path. The zero segment is the root, before the
// first slash.
type segment struct {
	bare, slash *location // the prefix that ends here, without and with a slash at its end
	below       map[string]*segment
}

func (n *segment) add(l *location) {
	prefix, slash := strings.CutSuffix(l.Match.Path, "/")
	if prefix != "" {
		for name := range strings.SplitSeq(prefix[1:], "/") {
			if n.below == nil {
				n.below = map[string]*segment{}
			}
			if n.below[name] == nil {
				n.below[name] = &segment{}
			}
			n = n.below[name]
		}
	}
	if slash {
		n.slash = l
	} else {
		n.bare = l
	}
}

// longest looks for the longest prefix that ends at a segment boundary: /ws and /ws/ are prefixes of /ws/chat, /w is not. Where the path lacks
// just the slash of a prefix, that is the one.
func (n *segment) longest(path string) (l *location, lacksSlash bool) {
	l = n.slash
	for name, rest, more := strings.Cut(path[1:], "/"); name != ""; name, rest, more = strings.Cut(rest, "/") {
		if n = n.below[name]; n == nil {
			break
		}
		if n.bare != nil {
			l = n.bare
		}
		switch {
		case more && n.slash != nil:
			l = n.slash
		case !more && n.bare == nil && n.slash != nil:
			return n.slash, true
		}
	}
	return l, false
}
