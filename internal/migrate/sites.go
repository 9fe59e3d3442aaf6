package migrate

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// finish makes a document of servers, and a result of that.
func finish(in Input, doc *document, servers []*server, l *ledger, from string) *Result {
	doc.listens = listeners(servers)
	for _, s := range servers {
		dropUnreachable(s)
	}
	doc.sites = sitesOf(servers, l)
	if len(doc.sites) == 0 {
		empty := &site{hosts: []string{"_"}, opts: &mapping{}}
		empty.opts.set("respond", word("404"))
		doc.sites = []*site{empty}
	}
	if len(doc.listens) == 0 {
		doc.listens = []listen{{address: ":80"}}
	}
	doc.wire()
	for _, s := range doc.sites {
		s.share()
		s.shorten()
		s.hsts()
	}
	doc.share()
	return doc.result(in.Check, from, l)
}

// listeners are those of all servers, each once.
func listeners(servers []*server) (all []listen) {
	for _, s := range servers {
		for _, l := range s.listens {
			i := slices.IndexFunc(all, func(o listen) bool { return o.address == l.address })
			if i < 0 {
				all = append(all, listen{address: l.address, tls: l.tls, proxied: l.proxied})
				continue
			}
			all[i].tls = all[i].tls || l.tls
			all[i].proxied = all[i].proxied || l.proxied
		}
	}
	// One that takes all addresses of a port leaves none for others.
	all = slices.DeleteFunc(all, func(l listen) bool {
		return slices.ContainsFunc(all, func(o listen) bool {
			return o.address != l.address && strings.HasPrefix(o.address, ":") && strings.HasSuffix(l.address, o.address)
		})
	})
	slices.SortStableFunc(all, func(a, b listen) int {
		return cmp.Compare(len(a.address), len(b.address))
	})
	return all
}

// dropUnreachable drops locations that others with the same path leave nothing for.
func dropUnreachable(s *server) {
	seen := map[string]bool{}
	s.locations = slices.DeleteFunc(s.locations, func(loc *location) bool {
		key := strings.TrimSpace(strings.TrimPrefix(loc.path, "^~"))
		if loc.opts.has("when") {
			return seen[key]
		}
		double := seen[key]
		seen[key] = true
		return double
	})
}

// answersUnknown returns the server that answers unknown hosts. Those of nginx and Apache do so for each address and port; here one site does.
// One that says so goes before one that is only the first, and one with TLS before one without.
func answersUnknown(servers []*server) (chosen *server) {
	best := 0
	for _, s := range servers {
		if points := claim(s, servers); points > best {
			chosen, best = s, points
		}
	}
	return chosen
}

// claim says how well a server is fit to answer unknown hosts; zero if it is not.
func claim(s *server, servers []*server) (points int) {
	for _, l := range s.listens {
		told, first := l.standard, true
		for _, o := range servers {
			for _, other := range o.listens {
				if o == s || other.address != l.address {
					continue
				}
				told = told && !(other.standard && before(servers, o, s))
				first = first && !other.standard && !before(servers, o, s)
			}
		}
		p := 0
		switch {
		case told:
			p = 8
		case first:
			p = 4
		}
		if p > 0 && l.tls {
			p += 2
		}
		if p > 0 && (l.address == ":80" || l.address == ":443") {
			p++
		}
		points = max(points, p)
	}
	return points
}

func before(servers []*server, a, b *server) bool {
	return slices.Index(servers, a) < slices.Index(servers, b)
}

// sitesOf makes sites of servers: those for plain HTTP and those for TLS that have a name in common are one.
func sitesOf(servers []*server, l *ledger) []*site {
	var sites []*site
	byHost := map[string]*site{}
	for _, s := range servers {
		s.names = slices.DeleteFunc(s.names, func(name string) bool { return name == "_" })
		s.findLead()
	}
	if s := answersUnknown(servers); s != nil {
		s.names = append(s.names, "_")
		for _, o := range servers { // what leads unknown hosts to https leads them to it
			if o != s && o.redirectsAll && len(o.names) == 0 {
				o.names = []string{"_"}
			}
		}
	}
	ordered := slices.Clone(servers) // those with TLS first: what they say counts
	slices.SortStableFunc(ordered, func(a, b *server) int { return rank(a) - rank(b) })
	for _, s := range ordered {
		sites = place(sites, byHost, s, l)
	}
	order := func(x *site) int {
		return slices.IndexFunc(servers, func(s *server) bool { return s.Place == x.places[0] })
	}
	slices.SortStableFunc(sites, func(a, b *site) int {
		if aOnly, bOnly := onlyUnknown(a), onlyUnknown(b); aOnly != bOnly {
			return map[bool]int{true: 1, false: -1}[aOnly]
		}
		return order(a) - order(b)
	})
	return sites
}

func onlyUnknown(s *site) bool { return len(s.hosts) == 1 && s.hosts[0] == "_" }

// rank orders servers by what their site takes from them.
func rank(s *server) int {
	switch {
	case s.redirectsAll:
		return 2
	case s.secure():
		return 0
	}
	return 1
}

// place puts a server into the sites that have its names already, and makes one of the names that none has.
func place(sites []*site, byHost map[string]*site, s *server, l *ledger) []*site {
	var fresh []string
	joined := map[*site]bool{}
	for _, name := range s.names {
		known := byHost[name]
		if known == nil {
			fresh = append(fresh, name)
			continue
		}
		if !joined[known] {
			joined[known] = true
			known.join(s, l)
		}
	}
	if len(fresh) == 0 {
		return sites
	}
	if slices.Equal(fresh, []string{"_"}) && len(joined) > 0 && s.redirectsAll && s.leadsTo == "" {
		for known := range joined { // it leads unknown hosts to where known ones are
			known.hosts = append(known.hosts, "_")
			byHost["_"] = known
			return sites
		}
	}
	made := s.site(fresh, sites)
	for _, name := range fresh {
		byHost[name] = made
	}
	return append(sites, made)
}

// site makes a site of a server, for some of its names.
func (s *server) site(hosts []string, sites []*site) *site {
	x := &site{hosts: hosts, places: []Place{s.Place}, opts: s.opts.clone(), certs: s.certs, tls: s.secure(), notes: s.notes}
	for _, l := range s.locations {
		own := *l
		own.opts = l.opts.clone()
		x.locations = append(x.locations, &own)
	}
	if s.redirectsAll && s.leadsTo == "" {
		to := &mapping{}
		to.set("to", text("https://$host$request_uri"))
		to.set("status", word("301"))
		x.opts.set("redirect", to)
		x.locations = nil
	} else if s.redirects && s.secure() {
		x.opts.set("redirect_https", word("true"))
	}
	return x
}

// join adds what a server for the same hosts says.
func (x *site) join(s *server, l *ledger) {
	if !slices.Contains(x.places, s.Place) {
		x.places = append(x.places, s.Place)
	}
	for _, n := range s.notes {
		if !slices.Contains(x.notes, n) {
			x.notes = append(x.notes, n)
		}
	}
	switch {
	case (s.redirectsAll || s.redirects) && x.tls:
		x.joinLead(s, l)
	case x.tls && s.refusesPlain():
		x.opts.set("redirect_https", word("true"))
		if !sameLocations(x.locations, s.locations) {
			d := &directive{Place: s.Place, name: "server", text: strings.Join(s.names, " ")}
			x.notes = append(x.notes, l.note(d, "has other answers than this site for plain HTTP on "+addresses(s.listens),
				"redirect_https: true leads all of that to https, since nothing but a few paths is served without"))
		}
	case s.secure() && !x.tls:
		x.tls, x.certs = true, s.certs
		fallthrough
	default:
		if !sameLocations(x.locations, s.locations) {
			d := &directive{Place: s.Place, name: "server", text: strings.Join(s.names, " ")}
			x.notes = append(x.notes, l.refuse(d, "says something else for the same hosts on "+addresses(s.listens),
				"a site is the same on all listeners: give one of the two another name"))
		}
	}
}

func addresses(listens []listen) string {
	var all []string
	for _, l := range listens {
		all = append(all, l.address)
	}
	return strings.Join(all, ", ")
}

func sameLocations(a, b []*location) bool {
	return slices.EqualFunc(a, b, func(a, b *location) bool { return a.same(b) })
}

// wire has sites and listeners meet: TLS needs both, and so does plain HTTP.
func (d *document) wire() {
	secure := slices.ContainsFunc(d.listens, func(l listen) bool { return l.tls })
	plain := slices.ContainsFunc(d.listens, func(l listen) bool { return !l.tls })
	anyTLS := false
	for _, s := range d.sites {
		s.certificate(secure, !plain)
		anyTLS = anyTLS || s.tls
	}
	if secure && !anyTLS {
		for i := range d.listens {
			d.listens[i].tls = false
		}
	}
	if proxied := slices.ContainsFunc(d.listens, func(l listen) bool { return l.proxied }); proxied && !d.opts.has("trusted_proxies") {
		d.opts.set("trusted_proxies", texts("127.0.0.0/8", "::1"))
	}
}

// certificate says where a site's certificate comes from.
func (s *site) certificate(secure, needed bool) {
	if !secure || !s.tls && !needed {
		s.tls = false
		s.opts.remove("redirect_https")
		return
	}
	s.tls = true
	var pairs list
	for _, c := range s.certs {
		m := &mapping{}
		m.set("cert", text(c.cert))
		m.set("key", text(c.key))
		pairs = append(pairs, m)
	}
	switch len(pairs) {
	case 0:
		if slices.ContainsFunc(s.hosts, func(h string) bool { return h != "_" && (!strings.Contains(h, ".") || strings.HasPrefix(h, "*")) }) || onlyUnknown(s) {
			s.opts.set("tls", word("self-signed"))
		} else {
			s.opts.set("tls", word("auto"))
		}
	case 1:
		s.opts.set("tls", pairs[0])
	default:
		s.opts.set("tls", pairs)
	}
	if len(s.certs) > 0 && strings.HasPrefix(s.certs[0].cert, "/etc/letsencrypt/") {
		s.opts.find("tls").comment = "tls: auto would order and renew it here"
	}
}

// ofContent are keys that change nothing where a location redirects or responds.
var ofContent = []string{"max_body", "compress", "expires", "intercept_errors"}

// share moves to the site what all its locations say.
func (s *site) share() {
	if len(s.locations) < 2 {
		return
	}
	for _, key := range siteKeys {
		var first value
		all := !s.opts.has(key)
		for _, l := range s.locations {
			v := l.opts.get(key)
			if v == nil && slices.Contains(ofContent, key) && (l.opts.has("respond") || l.opts.has("redirect")) {
				continue // it makes no difference there
			}
			if first == nil {
				first = v
			}
			all = all && v != nil && v.flow() == first.flow()
		}
		if !all || first == nil {
			continue
		}
		s.opts.set(key, first)
		for _, l := range s.locations {
			l.opts.remove(key)
		}
	}
}

// hsts says what a site's headers say of Strict-Transport-Security by the key for that, if it is no more than for how long.
func (s *site) hsts() {
	headers, _ := s.opts.get("headers").(*mapping)
	if !s.tls || headers == nil {
		return
	}
	rules, _ := headers.get("response").(*mapping)
	if rules == nil {
		return
	}
	for _, key := range []string{"set", "add"} {
		fields, _ := rules.get(key).(*mapping)
		if fields == nil {
			continue
		}
		e := fields.find("Strict-Transport-Security")
		if e == nil {
			continue
		}
		v, _ := e.value.(text)
		age, ok := strings.CutPrefix(strings.TrimSuffix(strings.TrimSpace(string(v)), ";"), "max-age=")
		seconds, err := strconv.ParseInt(age, 10, 32)
		if !ok || err != nil || seconds <= 0 {
			continue
		}
		s.opts.set("hsts", durationText(time.Duration(seconds)*time.Second))
		if fields.remove(e.key); fields.empty() {
			rules.remove(key)
		}
	}
	if !rules.has("set") && !rules.has("add") && !rules.has("remove") {
		if headers.remove("response"); headers.empty() {
			s.opts.remove("headers")
		}
	}
}

// siteForms are the keys of a location that make a site of one location without naming that.
var siteForms = []string{
	"proxy", "redirect", "respond", "root", "static", "php", "index", "front_controller", "params", "headers", "allow", "deny", "basic_auth", "satisfy",
	"auth_request", "max_body", "compress", "error_pages", "intercept_errors", "expires", "try_files", "listing",
}

// shorten says at the site itself what its only location says, where that is for all paths and may stand there.
func (s *site) shorten() {
	for _, l := range s.locations {
		if l.opts.has("php") && !l.opts.has("try_files") && !s.opts.has("front_controller") && l.opts.get("front_controller") == text("index.php") {
			l.opts.remove("front_controller") // it is that anyway
		}
	}
	if len(s.locations) != 1 || s.locations[0].path != "/" {
		return
	}
	l := s.locations[0]
	for _, e := range l.opts.entries {
		if !slices.Contains(siteForms, e.key) || s.opts.has(e.key) {
			return
		}
	}
	if l.opts.has("http") || l.opts.empty() {
		return
	}
	s.opts.entries = append(s.opts.entries, l.opts.entries...)
	if !slices.Contains(s.places, l.Place) {
		s.places = append(s.places, l.Place)
	}
	for _, n := range l.notes {
		if !slices.Contains(s.notes, n) {
			s.notes = append(s.notes, n)
		}
	}
	s.locations = nil
}

// fileKeys may stand in the file as well, for all its sites.
var fileKeys = []string{"headers", "max_body", "compress", "basic_auth", "expires"}

// share moves to the file what all its sites say.
func (d *document) share() {
	if len(d.sites) < 2 {
		return
	}
	for _, key := range fileKeys {
		first := d.sites[0].opts.get(key)
		all := first != nil && !d.opts.has(key)
		for _, s := range d.sites {
			v := s.opts.get(key)
			all = all && v != nil && first != nil && v.flow() == first.flow()
		}
		if !all {
			continue
		}
		d.opts.set(key, first)
		for _, s := range d.sites {
			s.opts.remove(key)
		}
	}
}
