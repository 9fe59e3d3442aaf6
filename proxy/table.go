package proxy

import (
	"wstunnel/internal/access"
	"wstunnel/internal/config"
	"wstunnel/internal/host"
	"wstunnel/internal/logs"
	"wstunnel/internal/route"
	"wstunnel/internal/upstream"
)

// table is the routing of one configuration, compiled: which site answers a host, which location a path.
// It is never modified.
type table struct {
	sites host.Table[*site]
	all   []*site // in the order of the configuration
}

// site is one compiled site.
type site struct {
	*config.Site
	name      string // the first host, for logs
	locations route.Locations[*location]
	all       []*location // in the order of the configuration
	access    *logs.Log   // where lines of requests go; nil for nowhere
	counts    *siteCounts
}

// location is one compiled location.
type location struct {
	*config.Location
	site      *site
	pattern   string // as written, for logs
	websocket *upstream.Upstream
	http      *upstream.Upstream
	php       *application
	access    *logs.Log          // nil for nowhere
	guarded   bool               // requests are asked who they are from
	users     *access.Users      // of basic_auth, or nil
	asked     *upstream.Upstream // of auth_request, or nil
}

// outside is what a table refers to and does not make, so that compiling stays free of I/O.
type outside interface {
	upstream(*config.Target) *upstream.Upstream
	accessLog(config.AccessLog) *logs.Log
	users(file string) *access.Users
	counts(site string) *siteCounts
}

// newTable compiles the routing.
func newTable(cfg *config.Config, o outside) *table {
	t := &table{}
	for i := range cfg.Sites {
		s := newSite(&cfg.Sites[i], o)
		for _, name := range s.Hosts {
			t.sites.Add(name, s)
		}
		t.all = append(t.all, s)
	}
	return t
}

func newSite(cfg *config.Site, o outside) *site {
	s := &site{Site: cfg, name: cfg.Hosts[0], access: o.accessLog(cfg.AccessLog), counts: o.counts(cfg.Hosts[0])}
	for i := range cfg.Locations {
		c := &cfg.Locations[i]
		l := &location{Location: c, site: s, pattern: c.Match.String(), access: o.accessLog(c.AccessLog)}
		if c.WebSocket != nil {
			l.websocket = o.upstream(c.WebSocket)
		}
		if c.HTTP != nil {
			l.http = o.upstream(c.HTTP)
		}
		if c.PHP != nil {
			l.php = &application{Upstream: o.upstream(c.PHP.Target)}
		}
		if c.Access.BasicAuth != nil {
			l.users = o.users(c.Access.BasicAuth.Users)
		}
		if c.Access.AuthRequest != nil {
			l.asked = o.upstream(c.Access.AuthRequest.Target)
		}
		l.guarded = l.users != nil || l.asked != nil || len(c.Access.Allow)+len(c.Access.Deny) > 0
		s.locations.Add(c.Match, l)
		s.all = append(s.all, l)
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
