package proxy

import (
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"wstunnel/internal/proxyproto"
)

// admission counts the client connections, and refuses those above the limits of the configuration or of the process. It belongs
// to the process.
type admission struct {
	server   *Server
	capacity int64 // what the descriptors allow, at two a connection
	total    atomic.Int64
	tidier   tidier

	mu       sync.Mutex
	byClient map[netip.Addr]int // those that came while max_connections_per_client was set
	refused  int                // since the last line in the log
	logged   time.Time          // when that was, on the clock
}

func newAdmission(s *Server, limit int64) *admission {
	return &admission{
		server: s, tidier: tidier{clock: s.clock}, byClient: map[netip.Addr]int{},
		capacity: (limit - spared(limit)) / 2,
	}
}

// warn says what of a configuration the process cannot keep.
func (a *admission) warn(maxConnections int) {
	if want := int64(maxConnections); want > a.capacity {
		a.server.log.Warn("limits.max_connections is more than the limit on open files allows; raise LimitNOFILE of the service, or ulimit -n",
			"max_connections", want, "files_needed", 2*want+spared(descriptorLimit()), "files_allowed", descriptorLimit(), "connections_possible", a.capacity)
	}
}

// admit counts a connection, which is to leave again, or refuses it.
func (a *admission) admit(from *clientInfo) bool {
	addr := from.remote.Addr()
	gen := a.server.gen.Load()
	limits := &gen.cfg.Limits
	a.tidier.note()
	allowed := a.capacity
	if limits.MaxConnections > 0 {
		allowed = min(allowed, int64(limits.MaxConnections))
	}
	a.server.counts.accepted.Add(1)
	if a.total.Add(1) > allowed {
		a.total.Add(-1)
		a.refuse(fmt.Sprintf("%d connections are open", allowed), addr)
		return false
	}
	if limits.MaxConnectionsPerClient == 0 || gen.trusts(addr) {
		return true
	}
	client := clientNetwork(addr)
	a.mu.Lock()
	from.counted = a.byClient[client] < limits.MaxConnectionsPerClient
	if from.counted {
		a.byClient[client]++
	}
	a.mu.Unlock()
	if !from.counted {
		a.total.Add(-1)
		a.refuse(fmt.Sprintf("%d connections are open from this client", limits.MaxConnectionsPerClient), addr)
	}
	return from.counted
}

// adopt counts in a connection of another process, be it one more than there may be.
func (a *admission) adopt(addr netip.Addr, counted bool) {
	a.total.Add(1)
	a.tidier.note()
	if counted {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.byClient[clientNetwork(addr)]++
	}
}

// believes counts in a connection whose PROXY header is to say who the client is, or refuses it.
func (a *admission) believes(from *clientInfo) bool {
	if addr := from.remote.Addr(); !a.server.gen.Load().trusts(addr) {
		a.refuse("proxy_protocol, and the peer is not one of trusted_proxies", addr)
		return false
	}
	return a.admit(from)
}

// introduce makes a connection that was counted in as its trusted peer's one of the client's that a PROXY header names, or refuses it.
func (a *admission) introduce(from *clientInfo, h proxyproto.Header) bool {
	if !h.Source.IsValid() {
		return true
	}
	a.leave(from.remote.Addr(), from.counted)
	from.remote, from.public = h.Source, h.Destination
	return a.admit(from)
}

// clientNetwork is what counts as one client: an IPv4 address, or an IPv6 network of 64 bits, which is what one customer gets.
func clientNetwork(addr netip.Addr) netip.Addr {
	if addr.Is4() {
		return addr
	}
	network, err := addr.WithZone("").Prefix(64)
	if err != nil {
		return addr
	}
	return network.Addr()
}

// leave counts a connection out.
func (a *admission) leave(addr netip.Addr, counted bool) {
	a.total.Add(-1)
	a.tidier.note()
	if !counted {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	client := clientNetwork(addr)
	if a.byClient[client]--; a.byClient[client] == 0 {
		delete(a.byClient, client)
	}
}

// refuse logs, once a second at most, that connections are refused.
func (a *admission) refuse(why string, addr netip.Addr) {
	a.server.counts.refused.Add(1)
	a.mu.Lock()
	a.refused++
	n := a.refused
	now := a.server.clock.Now()
	due := now.Sub(a.logged) >= time.Second
	if due {
		a.logged, a.refused = now, 0
	}
	a.mu.Unlock()
	if due {
		a.server.log.Warn("connections refused", "why", why, "client", addr.String(), "refused", n)
	}
}
