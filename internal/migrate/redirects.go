package migrate

import (
	"slices"
	"strings"
)

// findLead finds out of a server for plain HTTP whether it does no more than lead to https, and to which host.
func (s *server) findLead() {
	if s.redirectsAll || s.secure() || !s.plain() {
		return
	}
	lead, host := leadOf(s.locations)
	if lead == nil {
		return
	}
	s.redirectsAll, s.locations = true, []*location{lead}
	if host != "$host" {
		s.leadsTo = host
	}
}

// leadOf returns the location that leads all requests to the same path over https, and the host that it names; nil if there is none, or others that
// some requests come to.
func leadOf(locations []*location) (lead *location, host string) {
	i := slices.IndexFunc(locations, func(l *location) bool {
		host = l.leadsTo()
		return host != "" && !l.opts.has("when")
	})
	if i < 0 {
		return nil, ""
	}
	lead = locations[i]
	others := slices.Clone(locations[:i])
	if lead.isRegex() { // no other regex behind it is asked, and no prefix
		others = slices.DeleteFunc(append(others, locations[i+1:]...), func(l *location) bool {
			return l.isPrefix() || l.isRegex() && slices.Index(locations, l) > i
		})
	} else {
		others = slices.DeleteFunc(append(others, locations[i+1:]...), func(l *location) bool { return l.path == "/" && !l.opts.has("when") })
	}
	if len(others) > 0 {
		return nil, ""
	}
	return lead, host
}

// leadsTo returns the host that a location of all paths leads to over https, with path and query; "$host" is the one that was asked for. It is empty
// for other locations.
func (l *location) leadsTo() string {
	pattern, isRegex := strings.CutPrefix(l.path, "~ ")
	if l.path != "/" && !(isRegex && matchesAll(pattern)) {
		return ""
	}
	rest, ok := strings.CutPrefix(l.redirect(), "https://")
	if !ok {
		return ""
	}
	tails := []string{"$request_uri", "$uri$is_args$args", "$uri"}
	switch {
	case isRegex && strings.Contains(pattern, "/("):
		tails = append(tails, "/$1$is_args$args", "/$1")
	case isRegex && strings.Contains(pattern, "("):
		tails = append(tails, "$1$is_args$args", "$1")
	}
	for _, tail := range tails {
		host, ok := strings.CutSuffix(rest, tail)
		host = strings.ToLower(strings.TrimSuffix(host, ":443"))
		if ok && (host == "$host" || host != "" && !strings.ContainsAny(host, "$/:")) {
			return host
		}
	}
	return ""
}

// redirect is where a location redirects to, or empty.
func (l *location) redirect() string {
	switch v := l.opts.get("redirect").(type) {
	case text:
		return string(v)
	case *mapping:
		to, _ := v.get("to").(text)
		return string(to)
	}
	return ""
}

// refusesPlain reports whether a server for plain HTTP serves nothing but what some of its locations do: where it has no other it redirects or refuses.
func (s *server) refusesPlain() bool {
	if s.secure() {
		return false
	}
	for _, l := range s.locations {
		if l.opts.has("when") {
			continue
		}
		pattern, isRegex := strings.CutPrefix(l.path, "~ ")
		if l.path == "/" || l.path == "^~ /" || isRegex && matchesAll(pattern) {
			return l.opts.has("redirect") || l.opts.has("respond")
		}
	}
	return true
}

// directive is the one that a location came from, for a note about it.
func (l *location) directive() *directive {
	name, _, _ := strings.Cut(l.source, " ")
	return &directive{Place: l.Place, name: strings.ToLower(name), text: l.source}
}

// joinLead has a site with TLS redirect plain HTTP, as the server for that does. Where it leads to another host at once, and the site of the host asked for
// does not do the same, an advice says so.
func (x *site) joinLead(s *server, l *ledger) {
	x.opts.set("redirect_https", word("true"))
	if s.leadsTo == "" {
		return
	}
	if _, host := leadOf(x.locations); host == s.leadsTo {
		return
	}
	for _, name := range x.hosts {
		if name == s.leadsTo || !slices.Contains(s.names, name) || name == "_" {
			continue
		}
		x.notes = append(x.notes, l.adviseTaken(s.locations[0].directive(), "leads "+name+" to https://"+s.leadsTo+" at once",
			"here https://"+name+" is asked first, and answers as this site does"))
	}
}
