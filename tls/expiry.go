package tls

import (
	"cmp"
	"slices"
	"time"
)

// Expiry is when the certificate of a site ends.
type Expiry struct {
	// Name is a host of the configuration, empty for those that are ordered on demand.
	Name     string
	NotAfter time.Time
}

// Expiries returns when the certificates in use end, by name: one for each host with `tls: auto` that has one, one for each site with files. Of those that were
// ordered on demand, whose names clients choose, it is the one that ends first. It waits for nothing.
func (m *Manager) Expiries() []Expiry {
	c := m.current.Load()
	if c == nil {
		return nil
	}
	ends := map[string]time.Time{}
	note := func(name string, notAfter time.Time) {
		if known, ok := ends[name]; !ok || notAfter.Before(known) {
			ends[name] = notAfter
		}
	}
	m.mu.RLock()
	for name, e := range m.names {
		cert := e.cert.Load()
		switch {
		case cert == nil || cert.Leaf == nil:
		case e.asker != nil:
			note("", cert.Leaf.NotAfter)
		default:
			note(name, cert.Leaf.NotAfter)
		}
	}
	m.mu.RUnlock()
	for _, s := range c.fromFiles {
		for _, pair := range s.source.(filePairs) {
			note(s.site.Hosts[0], pair.current.Load().Leaf.NotAfter)
		}
	}
	all := make([]Expiry, 0, len(ends))
	for name, notAfter := range ends {
		all = append(all, Expiry{name, notAfter})
	}
	slices.SortFunc(all, func(a, b Expiry) int { return cmp.Compare(a.Name, b.Name) })
	return all
}
