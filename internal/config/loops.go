package config

import (
	"net"
	"net/netip"
	"slices"
)

// backendPlace is one place in the file where a backend's address stands.
type backendPlace struct {
	scalar
	address string // host:port
}

// checkLoops reports backends that are listeners of this very configuration. What a name leads to is not looked up; a request that comes
// back by such a way is refused when it does.
func (d *decoder) checkLoops(listeners []Listener) {
	for _, s := range d.backends {
		for _, l := range listeners {
			if leadsTo(s.address, l.Address) {
				d.add(s.pos, s.shown()+" leads back to this server, to the listener on "+d.lineText(l.Line),
					"the address of a backend")
				break
			}
		}
	}
}

// leadsTo tells whether a connection to an address reaches a listener, if both are on this machine.
func leadsTo(address, listener string) bool {
	host, port, _ := net.SplitHostPort(address)
	own, ownPort, _ := net.SplitHostPort(listener)
	if port != ownPort {
		return false
	}
	if host == own {
		return true
	}
	there, isIP := hostAddress(host)
	here, ownIsIP := hostAddress(own)
	switch {
	case !isIP:
		return false
	case own == "" || ownIsIP && here.IsUnspecified():
		return ofThisMachine(there)
	case there.IsUnspecified(): // which connects to the loopback address
		return ownIsIP && here.IsLoopback()
	}
	return ownIsIP && here == there
}

// hostAddress returns the IP address that a host is, without asking anybody.
func hostAddress(host string) (netip.Addr, bool) {
	if host == "localhost" {
		host = "127.0.0.1"
	}
	addr, err := netip.ParseAddr(host)
	return addr.Unmap(), err == nil
}

// ofThisMachine tells whether an address is one of this machine's.
func ofThisMachine(addr netip.Addr) bool {
	if addr.IsLoopback() || addr.IsUnspecified() {
		return true
	}
	own, _ := net.InterfaceAddrs() // none, where the system does not say
	return slices.ContainsFunc(own, func(a net.Addr) bool {
		network, ok := a.(*net.IPNet)
		return ok && network.IP.Equal(addr.AsSlice())
	})
}
