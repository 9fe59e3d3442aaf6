package config

import (
	"gopkg.in/yaml.v3"
)

// wiring is what listeners and sites need of each other.
type wiring struct {
	unsure        bool // some of it could not be read: nothing can be said about the rest
	plainListener bool
	tlsListeners  []Pos
	proxied       []Pos // listeners with proxy_protocol
	plainSites    []Pos
	tlsSites      []Pos
}

// checkWiring reports listeners and sites that can never meet.
func (d *decoder) checkWiring(w wiring) {
	if w.unsure {
		return
	}
	if len(w.tlsListeners) == 0 {
		for _, pos := range w.tlsSites {
			d.add(pos, "a site with tls, but no listener has tls: true",
				`a listener such as {address: ":443", tls: true}, or tls: off`)
		}
	}
	if len(w.tlsSites) == 0 {
		for _, pos := range w.tlsListeners {
			d.add(pos, "a listener with tls: true, but no site has tls", "a site with tls: auto, self-signed or {cert, key}")
		}
	}
	if !w.plainListener && len(w.tlsSites) > 0 {
		for _, pos := range w.plainSites {
			d.add(pos, "a site without tls, but every listener has tls: true",
				`tls for the site, or a listener without tls such as {address: ":80"}`)
		}
	}
}

// inherited is what a level takes over from the one above, unless it says something of its own.
type inherited struct {
	timeouts    Timeouts
	accessLog   AccessLog
	slowClients SlowClients
	rules       Rules
}

func (d *decoder) sites(n *yaml.Node, above inherited, w *wiring) []Site {
	var sites []Site
	items := d.nonEmptyList(n, "a list with at least one site")
	w.unsure = w.unsure || len(items) == 0
	for _, item := range items {
		o, ok := d.object(item, inSite)
		if !ok {
			w.unsure = true
			continue
		}
		sites = append(sites, d.site(o, above, w))
	}
	return sites
}

func (d *decoder) site(o object, above inherited, w *wiring) Site {
	site := Site{Pos: o.pos, TLS: SiteTLS{Pos: o.pos}}
	tlsKnown := true
	if n := o.get("tls"); n != nil {
		site.TLS, tlsKnown = d.siteTLS(n)
	}
	switch {
	case !tlsKnown:
		w.unsure = true
	case site.TLS.Mode == TLSOff:
		w.plainSites = append(w.plainSites, site.TLS.Pos)
	default:
		w.tlsSites = append(w.tlsSites, site.TLS.Pos)
	}
	if n := o.get("hosts"); n != nil {
		site.Hosts = d.hosts(n, tlsKnown && site.TLS.Mode == TLSAuto && !site.TLS.OnDemand)
	} else {
		d.add(o.pos, `no "hosts"`, "hosts for each site, such as hosts: [example.com], or [_] for all others")
	}
	if n := o.get("admin"); n != nil {
		site.Admins = d.siteAdmins(n)
	}
	d.siteSecurity(o, &site, tlsKnown && site.TLS.Mode == TLSOff)
	if n := o.get("access_log"); n != nil {
		d.accessLog(n, &above.accessLog)
	}
	d.slowClients(o, &above.slowClients)
	site.AccessLog = above.accessLog
	d.rules(o, &above.rules)
	site.Rules = above.rules
	if n := o.get("rewrite"); n != nil {
		site.Rewrites = d.rewrites(n, true)
	}
	site.Locations = d.locations(o, above)
	return site
}

// hosts reads a site's hosts, a list or a single one. For an ordered certificate all must
// be names that an ACME authority gives certificates for, apart from "_" beside others.
func (d *decoder) hosts(n *yaml.Node, acme bool) []string {
	const allowed = "a list of hosts, such as [example.com, www.example.com]"
	items := []*yaml.Node{n}
	if deref(n).Kind != yaml.ScalarNode {
		items = d.nonEmptyList(n, allowed)
	}
	var hosts []string
	for _, item := range items {
		s, ok := d.scalar(item, allowed)
		if !ok {
			continue
		}
		host, p := parseHost(s)
		if p != nil {
			d.addProblem(s.pos, *p)
			continue
		}
		if line, dup := d.hostLines[host]; dup {
			d.add(s.pos, "host "+s.shown()+" is already on "+d.lineText(line), "each host once in the file")
			continue
		}
		d.hostLines[host] = s.pos.Line
		if acme && !isIssuable(host) && (host != "_" || len(items) == 1) {
			d.add(s.pos, "host "+s.shown()+" with tls: auto, which orders certificates for full DNS names only",
				"tls: self-signed or {cert: FILE, key: FILE} for such a host")
		}
		hosts = append(hosts, host)
	}
	return hosts
}
