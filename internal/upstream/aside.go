package upstream

import "maps"

// named is a server of an upstream.
type named struct{ upstream, address string }

// SetAside keeps requests from a server of an upstream, by the address that the configuration has, or lets them go there again. It is safe for concurrent use,
// and no reload changes it.
func (p *Upstreams) SetAside(upstream, address string, aside bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	next := map[named]bool{}
	if all := p.aside.Load(); all != nil {
		next = maps.Clone(*all)
	}
	if aside {
		next[named{upstream, address}] = true
	} else {
		delete(next, named{upstream, address})
	}
	p.aside.Store(&next)
}

// isAside reports whether a server was set aside.
func (p *Upstreams) isAside(upstream, address string) bool {
	all := p.aside.Load()
	return all != nil && (*all)[named{upstream, address}]
}
