package upstream

// Adopt counts a tunnel to one of the upstream's servers that another process has opened, be it one more than there may be. Where none of the servers has the address, the
// place is at none.
func (u *Upstream) Adopt(address string) Place {
	for _, e := range u.endpoints {
		if e.address != address {
			continue
		}
		e.tunnels.Add(1)
		place := Place{server: e.Server}
		if l := u.limit; l != nil {
			l.mu.Lock()
			l.used[address]++
			l.mu.Unlock()
			place.slot = &Slot{limit: l, server: address}
		}
		return place
	}
	return Place{}
}
