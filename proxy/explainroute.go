package proxy

import (
	"slices"
	"strings"

	"wstunnel/internal/config"
	"wstunnel/internal/host"
	"wstunnel/internal/route"
)

// trace is what is told of the way to a location. A nil trace is told nothing.
type trace struct {
	cfg    *config.Config
	looks  []Look
	reason string // of the next look
}

// rewrote takes a rewrite that is about to be made.
func (t *trace) rewrote(r *config.Rewrite) {
	if t != nil {
		t.reason = "rewritten by " + r.Path.String() + " to " + r.To.String()
	}
}

// wentToScript takes the location that a script's own path leads to.
func (t *trace) wentToScript(x *exchange, path string) {
	if t != nil {
		t.reason = "the script that is meant, by its own path"
		t.looked(x, path)
	}
}

// looked takes the location that was found for a path. The others are held against it by the code that found it.
func (t *trace) looked(x *exchange, path string) {
	if t == nil {
		return
	}
	look := Look{Path: path, Reason: t.reason}
	t.reason = ""
	for i := range x.site.Locations {
		l := &x.site.Locations[i]
		c := Candidate{Name: l.Match.String(), Place: t.cfg.Place(l.Pos), Matches: finds(l, path)}
		switch {
		case x.location != nil && l == x.location.Location:
			c.Chosen, c.Reason = true, whyChosen(l)
		case !c.Matches:
			c.Reason = "another path"
		case l.When != nil && !x.in.Meets(l.When):
			c.Reason = "when: " + x.in.Unmet(l.When)
		case x.location == nil:
			c.Reason = "the path is too long for a regex"
		default:
			c.Reason = whyLost(l, x.location.Location)
		}
		look.Candidates = append(look.Candidates, c)
	}
	t.looks = append(t.looks, look)
}

// finds reports whether a location is found for a path where there is no other.
func finds(l *config.Location, path string) bool {
	var alone route.Locations[*config.Location]
	alone.Add(l.Match, l)
	found, _, _ := alone.Find(path, func(*config.Location) bool { return true })
	return found != nil
}

// whyChosen says what a location has to match by.
func whyChosen(l *config.Location) string {
	if l.When != nil {
		return "matches, and all of when holds"
	}
	return "matches"
}

// whyLost says why one of two locations that match came second.
func whyLost(l, chosen *config.Location) string {
	name := chosen.Match.String()
	switch {
	case l.Match.Kind == chosen.Match.Kind && l.Match.Path == chosen.Match.Path && l.Match.Regexp == nil:
		return "matches, but stands behind another one of this path"
	case chosen.Match.Kind == config.MatchExact:
		return "matches, but " + name + " is exact"
	case chosen.Match.Regexp != nil && l.Match.Regexp != nil:
		return "matches, but the regex " + name + " stands before it"
	case chosen.Match.Regexp != nil:
		return "matches, but a regex goes before a prefix: " + name
	case l.Match.Regexp != nil:
		return "matches, but no regex is tried where " + name + " matches"
	}
	return "matches, but " + name + " is longer"
}

// explainSites tells which site answers, and why no other does.
func explainSites(cfg *config.Config, x *exchange) (sites []Candidate) {
	name, _ := host.Split(x.in.Request.Host)
	name = host.Canonical(name)
	for i := range cfg.Sites {
		s := &cfg.Sites[i]
		c := Candidate{Name: strings.Join(s.Hosts, ", "), Place: cfg.Place(s.Pos)}
		own := slices.IndexFunc(s.Hosts, func(h string) bool {
			var alone host.Table[bool]
			alone.Add(h, true)
			_, found := alone.Find(name)
			return found
		})
		c.Matches = own >= 0
		switch {
		case own < 0:
			c.Reason = "other names"
		case x.site != nil && x.site.Site == s:
			c.Chosen, c.Reason = true, s.Hosts[own]+" stands for the name"
			switch s.Hosts[own] {
			case "_":
				c.Reason = "for all names that no other site has"
			case name:
				c.Reason = "has the name"
			}
		case s.Hosts[own] == "_":
			c.Reason = "for all names that no other site has"
		default:
			c.Reason = s.Hosts[own] + " stands for the name too, but less exactly"
		}
		sites = append(sites, c)
	}
	return sites
}
