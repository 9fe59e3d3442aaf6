package migrate

import (
	"slices"
	"strings"
)

// methodGate is a condition for all methods but some, as a server or a location of nginx has it: what comes after it is for those that are allowed.
type methodGate struct {
	allowed []string
	// from is the number of locations that the condition stands behind.
	from int
	// other answers all methods that are not allowed.
	other *location
}

// isGate reports a condition that holds for all methods but those that it names. Others than are known here are refused by naming those that are allowed.
func (c nginxCondition) isGate() bool {
	return c.variable == "request_method" && strings.HasPrefix(c.op, "!")
}

// othersOf are the usual methods without some.
func othersOf(methods []string) []string {
	return slices.DeleteFunc(slices.Clone(usualMethods), func(m string) bool { return slices.Contains(methods, m) })
}

// close has locations answer the allowed methods only, and adds the answer for all others.
func (g methodGate) close(locations []*location) []*location {
	closed := slices.Clone(locations[:min(g.from, len(locations))])
	for _, l := range locations[len(closed):] {
		if l.allow(g.allowed) {
			closed = append(closed, l)
		}
	}
	return append(closed, g.other)
}

// allow has a location answer no other methods; it reports false where none is left.
func (l *location) allow(methods []string) bool {
	when := &mapping{}
	if old, ok := l.opts.get("when").(*mapping); ok {
		when = old.clone()
	}
	var both []value
	old, named := when.get("method").(list)
	for _, m := range texts(methods...) {
		if !named || slices.Contains(old, m) {
			both = append(both, m)
		}
	}
	when.set("method", list(both))
	l.opts = l.opts.clone()
	l.opts.set("when", when)
	return len(both) > 0
}

// serverGate translates a condition of a server for all methods but some.
func (s *nginxServer) serverGate(d *directive, c nginxCondition, r returnOf, inner *scope) {
	g := methodGate{from: len(s.first), other: &location{Place: d.Place, path: "/", source: d.shown(), opts: &mapping{}}}
	var ok bool
	if g.allowed, ok = c.methods(); !ok {
		s.note(s.ledger.refuse(d, "asks for methods that cannot be listed", "this server is closed: write when with the methods that are allowed"))
		s.ended, s.locations = true, []*location{closedLocation(d, "/", "503")}
		s.skip(d.block)
		return
	}
	s.takeIf(d)
	s.answer(g.other, d, r, inner, nil)
	s.gates = append(s.gates, g)
}

// closeGates applies all gates; the last one is behind the others.
func (s *nginxServer) closeGates() {
	for _, g := range slices.Backward(s.gates) {
		s.locations = g.close(s.locations)
	}
}

// gate translates a condition of a location for all methods but some; twin is what the location does for those.
func (l *nginxLocation) gate(d *directive, c nginxCondition, twin *location) {
	s := l.server
	g := methodGate{from: len(l.before), other: twin}
	var ok bool
	if g.allowed, ok = c.methods(); !ok {
		l.note(s.ledger.refuse(d, "asks for methods that cannot be listed", "this location is closed: write when with the methods that are allowed"))
		g.other = closedLocation(d, l.path, "503")
		g.allowed = nil
	}
	l.gates = append(l.gates, g)
}

// all returns a location with those that stand before and behind it.
func (l *nginxLocation) all() []*location {
	all := append(slices.Clone(l.before), l.location)
	for _, g := range slices.Backward(l.gates) {
		all = g.close(all)
	}
	return all
}
