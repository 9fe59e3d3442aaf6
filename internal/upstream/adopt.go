package upstream

// Adopt counts a connection to one of the upstream's servers that another process has opened, be it one more than there may be. What it returns is nil where they are
// not bounded, or where none of the servers has the address.
func (u *Upstream) Adopt(address string) *Slot {
	if u.limit == nil {
		return nil
	}
	for _, p := range u.pools {
		if p.address == address {
			u.limit.mu.Lock()
			defer u.limit.mu.Unlock()
			u.limit.used[address]++
			return &Slot{limit: u.limit, server: address}
		}
	}
	return nil
}
