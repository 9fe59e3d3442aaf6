package migrate

import (
	"net/netip"
)

// accessRule lets a network in or keeps it out. The first rule that holds a client decides.
type accessRule struct {
	allow   bool
	all     bool
	network netip.Prefix
}

// holds reports whether r decides about every client that o is about.
func (r accessRule) holds(o accessRule) bool {
	if r.all || o.all {
		return r.all
	}
	return r.network.Bits() <= o.network.Bits() && r.network.Contains(o.network.Addr())
}

// accessLists turns rules, of which the first that holds a client decides, into our two lists, of which the longest prefix does. Networks are in one
// another or apart, so that a rule behind a wider one is never asked, and before a wider one it is the longer prefix. Clients that no rule
// holds are let in where open says so.
func accessLists(rules []accessRule, open bool) (allow, deny []string) {
	var asked []accessRule
	for _, r := range append(rules, accessRule{allow: open, all: true}) {
		hidden := false
		for _, earlier := range asked {
			hidden = hidden || earlier.holds(r)
		}
		if !hidden {
			asked = append(asked, r)
		}
	}
	rest := asked[len(asked)-1] // for all
	for _, r := range asked[:len(asked)-1] {
		if r.allow {
			allow = append(allow, networkText(r.network))
		} else {
			deny = append(deny, networkText(r.network))
		}
	}
	switch {
	case rest.allow && len(allow) > 0 && len(deny) > 0:
		allow = append(allow, "all")
	case rest.allow && len(deny) == 0:
		allow = nil // all are let in
	case !rest.allow && len(allow) == 0:
		deny = []string{"all"}
	}
	return allow, deny
}

// setAccess says who is let in. An empty pair of lists says that all are, which has to be said where a level above says something else.
func setAccess(opts *mapping, allow, deny []string) {
	if len(allow) > 0 {
		opts.set("allow", texts(allow...))
	}
	if len(deny) > 0 {
		opts.set("deny", texts(deny...))
	}
}
