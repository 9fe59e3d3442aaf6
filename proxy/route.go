package proxy

import (
	"regexp"
	"strings"

	"wstunnel/internal/config"
)

// table is the routing of one configuration, compiled: which site answers a host, which location a path.
// It is never modified.
type table struct {
	exact     map[string]*site
	wildcards map[string]*site // by suffix with its dot: ".example.com"
	fallback  *site            // the site of "_", or nil
}

// site is one compiled site.
type site struct {
	*config.Site
	name     string // the first host, for logs
	exact    map[string]*location
	prefixes map[string]*location
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
}

// newTable compiles the routing; upstreams come from the callback, so that this stays free of I/O.
func newTable(cfg *config.Config, open func(*config.Location, *config.Target) *upstream) *table {
	t := &table{exact: map[string]*site{}, wildcards: map[string]*site{}}
	for i := range cfg.Sites {
		s := newSite(&cfg.Sites[i], open)
		for _, host := range s.Hosts {
			if suffix, ok := strings.CutPrefix(host, "*"); ok {
				t.wildcards[suffix] = s
			} else if host == "_" {
				t.fallback = s
			} else {
				t.exact[host] = s
			}
		}
	}
	return t
}

func newSite(cfg *config.Site, open func(*config.Location, *config.Target) *upstream) *site {
	s := &site{
		Site: cfg, name: cfg.Hosts[0],
		exact: map[string]*location{}, prefixes: map[string]*location{},
	}
	for i := range cfg.Locations {
		c := &cfg.Locations[i]
		l := &location{Location: c, site: s, pattern: c.Match.String(), regexp: c.Match.Regexp}
		if c.WebSocket != nil {
			l.websocket = open(c, c.WebSocket)
		}
		if c.HTTP != nil {
			l.http = open(c, c.HTTP)
		}
		switch c.Match.Kind {
		case config.MatchExact:
			s.exact[c.Match.Path] = l
		case config.MatchPrefix, config.MatchPrefixStop:
			l.stop = c.Match.Kind == config.MatchPrefixStop
			s.prefixes[c.Match.Path] = l
		default:
			s.regexes = append(s.regexes, l)
		}
	}
	return s
}

// site returns the site that answers a Host header: the exact name, else the longest wildcard, else "_". It is nil
// if none does.
func (t *table) site(hostHeader string) *site {
	host, _ := splitHostPort(hostHeader)
	host = canonicalHost(host)
	if s := t.exact[host]; s != nil {
		return s
	}
	if len(t.wildcards) > 0 {
		for i := 1; i < len(host); i++ {
			if host[i] == '.' {
				if s := t.wildcards[host[i:]]; s != nil {
					return s
				}
			}
		}
	}
	return t.fallback
}

// location returns the location that answers a normalised path, with nginx's precedence: an exact path;
// the longest prefix if it is `^~`; the first regex in file order; the longest prefix. It is nil if none does.
func (s *site) location(path string) *location {
	if l := s.exact[path]; l != nil {
		return l
	}
	longest := s.longestPrefix(path)
	if longest != nil && longest.stop {
		return longest
	}
	for _, l := range s.regexes {
		if l.regexp.MatchString(path) {
			return l
		}
	}
	return longest
}

// longestPrefix looks for a prefix that ends at a segment boundary: /ws and /ws/ are prefixes of
// /ws/chat, /w is not.
func (s *site) longestPrefix(path string) *location {
	if l := s.prefixes[path]; l != nil {
		return l
	}
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] != '/' {
			continue
		}
		if l := s.prefixes[path[:i+1]]; l != nil {
			return l
		}
		if l := s.prefixes[path[:i]]; l != nil {
			return l
		}
	}
	return nil
}
