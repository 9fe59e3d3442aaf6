// Package upstream knows the servers that requests go to: which one is chosen, how a connection to it is got, and which connections are kept for the next request.
package upstream

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"wstunnel/internal/config"
	"wstunnel/internal/health"
	"wstunnel/internal/host"
	"wstunnel/internal/reactor"
)

// Upstream is where one target's requests go: its servers, as one configuration has them.
type Upstream struct {
	Target    *config.Target
	endpoints []*endpoint
	turns     []uint16 // of a round, for round_robin: indices of endpoints
	ring      ring     // for hashes; nil for none
	balancer  *balancer
	limit     *limit // nil where the connections are not bounded
	names     *names
}

// Several reports whether there is a server to choose.
func (u *Upstream) Several() bool { return len(u.endpoints) > 1 }

// poolKey is what makes two targets share connections to a server.
type poolKey struct {
	network, address string
	keepAlive        int
	applications     bool // over FastCGI
	secure, verify   bool
	serverName       string
	roots            *x509.CertPool
}

// Upstreams keeps what the process knows of upstreams: their balancers, the pools of their servers by their key, and their limits by their name.
type Upstreams struct {
	clock *reactor.Clock
	log   *slog.Logger
	ctx   context.Context // ends the TLS handshakes and the look-ups under way
	full  func(open int64) bool
	told  func(upstream, server string, is health.Status)
	names names
	count atomic.Int64 // connections of all pools: idle, in use, and about to be made

	aside atomic.Pointer[map[named]bool] // servers that no request goes to; not modified

	mu        sync.Mutex
	byKey     map[poolKey]*Pool
	limits    map[string]*limit
	balancers map[balancerKey]*balancer
	roots     []*x509.CertPool // those that pools have: equal ones are one
	stickyKey []byte
}

// New knows no upstream yet. What lasts goes by the clock; the handshakes under way end with ctx. Whether so many connections, with one that is about
// to be made, are too many is for full to say, on any goroutine. Of a server that goes down, is
// ejected or comes back told hears, on any goroutine or loop, with the name of its upstream.
func New(ctx context.Context, clock *reactor.Clock, log *slog.Logger, full func(open int64) bool, told func(upstream, server string, is health.Status)) *Upstreams {
	p := &Upstreams{
		ctx: ctx, clock: clock, log: log, full: full, told: told, byKey: map[poolKey]*Pool{}, limits: map[string]*limit{}, balancers: map[balancerKey]*balancer{},
		stickyKey: []byte(rand.Text()),
	}
	p.names.init(ctx, clock)
	return p
}

// SetStickyKey sets what servers are named with in sticky cookies where the configuration has no secret. Until then it is a random one.
func (p *Upstreams) SetStickyKey(key []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stickyKey = key
}

// Count counts connections to backends in or out that are no pool's.
func (p *Upstreams) Count(n int64) { p.count.Add(n) }

// Open returns how many connections there are: idle ones of pools, those in use, and those about to be made.
func (p *Upstreams) Open() int64 { return p.count.Load() }

// Idle returns how many connections wait for their next request.
func (p *Upstreams) Idle() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pool := range p.byKey {
		pool.mu.Lock()
		n += len(pool.kept)
		pool.mu.Unlock()
	}
	return n
}

// Upstream returns the upstream of a target. What it shares with others of that name, and with those before it, it finds.
func (p *Upstreams) Upstream(target *config.Target) *Upstream {
	u := &Upstream{Target: target, names: &p.names}
	p.mu.Lock()
	defer p.mu.Unlock()
	roots := p.sharedRoots(target)
	keys := make([]poolKey, len(target.Servers))
	for i, server := range target.Servers {
		keys[i] = poolKeyOf(target, server, roots)
	}
	u.balancer = p.balancer(target, keys)
	weights, names := make([]int, len(keys)), make([]string, len(keys))
	for i, server := range target.Servers {
		if p.byKey[keys[i]] == nil {
			p.byKey[keys[i]] = newPool(p, keys[i])
		}
		e := &endpoint{
			Server: u.balancer.server(server), pool: p.byKey[keys[i]], weight: max(1, server.Weight), backup: server.Backup, down: server.Down,
		}
		if target.Sticky != nil {
			e.token = tokenOf(p.secret(target.Sticky), target.Upstream, server.Network, server.Address)
		}
		u.endpoints = append(u.endpoints, e)
		if names[i] = server.Network + " " + server.Address; !e.backup && !e.down {
			weights[i] = e.weight
		}
	}
	if u.Several() {
		u.turns = turnsOf(weights)
		if target.Balance == config.BalanceHash || target.Balance == config.BalanceIPHash {
			u.ring = newRing(names, weights)
		}
	}
	if target.Queue > 0 {
		if p.limits[target.Upstream] == nil {
			p.limits[target.Upstream] = newLimit(p.clock, target.Upstream)
		}
		u.limit = p.limits[target.Upstream]
		u.limit.set(target)
	}
	return u
}

func (p *Upstreams) secret(s *config.Sticky) []byte {
	if s.Secret != "" {
		return []byte(s.Secret)
	}
	return p.stickyKey
}

// sharedRoots returns the roots of a target, which are read anew with each configuration, as the pools know them.
func (p *Upstreams) sharedRoots(target *config.Target) *x509.CertPool {
	if !target.TLS || target.RootCAs == nil {
		return nil
	}
	for _, known := range p.roots {
		if known.Equal(target.RootCAs) {
			return known
		}
	}
	p.roots = append(p.roots, target.RootCAs)
	return target.RootCAs
}

func poolKeyOf(target *config.Target, server config.Server, roots *x509.CertPool) poolKey {
	key := poolKey{network: server.Network, address: server.Address, keepAlive: target.KeepAlive, applications: target.Scheme == config.FastCGI}
	if !target.TLS {
		return key
	}
	name, _ := host.Split(target.Host)
	if target.Upstream != "" && server.Network == "tcp" {
		name, _ = host.Split(server.Address)
	}
	key.secure, key.verify, key.roots, key.serverName = true, target.TLSVerify, roots, host.Canonical(name)
	return key
}

// Retire lets go of what none of the upstreams in use has any more: idle connections are closed, and checks end.
func (p *Upstreams) Retire(inUse []*Upstream) {
	pools, balancers := map[*Pool]bool{}, map[*balancer]bool{}
	for _, u := range inUse {
		balancers[u.balancer] = true
		for _, e := range u.endpoints {
			pools[e.pool] = true
		}
	}
	var closing []*balancer
	p.mu.Lock()
	for key, pool := range p.byKey {
		if !pools[pool] {
			delete(p.byKey, key)
			pool.retire()
		}
	}
	for key, b := range p.balancers {
		if !balancers[b] {
			delete(p.balancers, key)
			closing = append(closing, b)
		}
	}
	p.roots = slices.DeleteFunc(p.roots, func(roots *x509.CertPool) bool {
		for key := range p.byKey {
			if key.roots == roots {
				return false
			}
		}
		return true
	})
	p.mu.Unlock()
	for _, b := range closing {
		b.health.Close()
	}
}

// ErrFull says that the process may not open another connection to a backend.
var ErrFull = errors.New("as many connections to backends are open as the limit on open files allows; raise LimitNOFILE of the service, or ulimit -n")

// tooMany reports whether the connections to backends are too many, with one that was counted in already and is about to be made. One that is idle makes room.
func (p *Upstreams) tooMany() bool { return p.full(p.Open()) && !p.closeIdle() }

// closeIdle closes one idle connection, and reports whether there was one.
func (p *Upstreams) closeIdle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pool := range p.byKey {
		if pool.closeOldest() {
			return true
		}
	}
	return false
}

// Has reports whether a server of the upstream has an address.
func (u *Upstream) Has(address string) bool {
	return slices.ContainsFunc(u.endpoints, func(e *endpoint) bool { return e.address == address })
}
