package upstream

import (
	"crypto/x509"
	"sync/atomic"

	"wstunnel/internal/config"
	"wstunnel/internal/health"
)

// balancer is what the process keeps of an upstream while configurations come and go: its servers with their health and what they have to do, whose turn it is, who
// waits for a server to come back, and how many requests are being repeated.
type balancer struct {
	key      balancerKey
	turn     atomic.Uint32
	health   *health.Group
	room     *room
	retrying atomic.Int64

	// What follows is guarded by the Upstreams' mu.
	target  *config.Target // the last one
	servers []*Server      // of the last one, in its order
}

// balancerKey is what makes two targets have the same servers.
type balancerKey struct {
	upstream       string // its name, or the server that the target names itself
	applications   bool
	secure, verify bool
	serverName     string // where the target names its server itself
	roots          *x509.CertPool
}

// balancer returns that of a target, with the servers that the target has. It is called with mu held.
func (p *Upstreams) balancer(target *config.Target, keys []poolKey) *balancer {
	first := keys[0]
	key := balancerKey{upstream: target.Upstream, applications: first.applications, secure: first.secure, verify: first.verify, roots: first.roots}
	if target.Upstream == "" {
		key.upstream, key.serverName = first.network+":"+first.address, first.serverName
	}
	b := p.balancers[key]
	if b == nil {
		b = &balancer{key: key, room: newRoom(p.clock)}
		b.health = health.NewGroup(p.clock, p.log, b.name(), func(m *health.Member, up bool) { p.changed(b, m, up) })
		p.balancers[key] = b
	}
	b.set(target, keys)
	return b
}

// name is the upstream's, or its server's.
func (b *balancer) name() string { return b.key.upstream }

// set says which servers there are. Those that stay stay what they are.
func (b *balancer) set(target *config.Target, keys []poolKey) {
	checked := make([]health.Server, len(target.Servers))
	for i, s := range target.Servers {
		checked[i] = health.Server{Network: s.Network, Address: s.Address, Host: target.Host, Unused: s.Down}
		if keys[i].secure {
			checked[i].TLS = keys[i].tlsConfig()
		}
	}
	members := b.health.Set(health.Options{Check: target.Check, SlowStart: target.SlowStart}, checked)
	servers := make([]*Server, len(members))
	for i, s := range target.Servers {
		servers[i] = b.server(s)
		if servers[i] == nil {
			servers[i] = &Server{network: s.Network, address: s.Address, health: members[i]}
		}
	}
	b.target, b.servers = target, servers
}

// server returns the server of an address, or nil.
func (b *balancer) server(s config.Server) *Server {
	for _, known := range b.servers {
		if known.network == s.Network && known.address == s.Address {
			return known
		}
	}
	return nil
}

// changed lets those go on who wait for a server, when one comes back, and tells how it is.
func (p *Upstreams) changed(b *balancer, m *health.Member, up bool) {
	if up {
		b.room.open()
	}
	p.told(b.name(), m.Address(), m.Status())
}

// nextTurn returns whose turn it is among n.
func (b *balancer) nextTurn(n int) int { return int((b.turn.Add(1) - 1) % uint32(n)) }

const (
	// leastRetries is how many requests of an upstream may be repeated at a time in any case, and retryShare is one in how many of those under way.
	leastRetries = 3
	retryShare   = 5
)

// mayRetry takes a place among the requests that are being repeated, unless there are too many: what is repeated is more work for servers that may break under it.
func (u *Upstream) mayRetry() bool {
	active := int64(0)
	for _, e := range u.endpoints {
		active += e.active.Load()
	}
	if u.balancer.retrying.Add(1) > max(leastRetries, active/retryShare) {
		u.balancer.retrying.Add(-1)
		return false
	}
	return true
}

// Snapshot is an upstream as it is now.
type Snapshot struct {
	// Name is the upstream's, or the address of the server that a target names itself.
	Name    string
	Servers []ServerSnapshot
	// Held are the requests that wait for a server to come back, Queued those that wait for a connection within max_connections.
	Held, Queued int
	// Retrying are the requests that are being repeated.
	Retrying int
}

// ServerSnapshot is a server of an upstream as it is now.
type ServerSnapshot struct {
	Network, Address string
	Weight           int
	Backup, Down     bool // as configured
	// Active are requests and handshakes under way, Tunnels the WebSockets that are open.
	Active, Tunnels int
	// Waiting are handshakes that wait for their time, within handshakes_per_second.
	Waiting int
	// Retries are requests that went on elsewhere, or here again, since this server failed them.
	Retries uint64
	health.Status
}

// Snapshot returns all upstreams as they are now, in no order.
func (p *Upstreams) Snapshot() []Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Snapshot, 0, len(p.balancers))
	for _, b := range p.balancers {
		s := Snapshot{Name: b.name(), Held: int(b.room.count.Load()), Retrying: int(b.retrying.Load())}
		if l := p.limits[b.target.Upstream]; b.target.Queue > 0 && l != nil {
			s.Queued = l.queued()
		}
		for i, server := range b.servers {
			c := b.target.Servers[i]
			s.Servers = append(s.Servers, ServerSnapshot{
				Network: server.network, Address: server.address, Weight: max(1, c.Weight), Backup: c.Backup, Down: c.Down,
				Active: int(server.active.Load()), Tunnels: int(server.tunnels.Load()), Retries: server.retries.Load(),
				Waiting: server.handshakes.waiting(p.clock.Elapsed(), b.target.HandshakesPerSecond), Status: server.health.Status(),
			})
		}
		all = append(all, s)
	}
	return all
}
