// Package upstream knows the servers that requests go to: whose turn it is, how a connection to one is got, and which connections are kept for the next request.
package upstream

import (
	"context"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"wstunnel/internal/config"
	"wstunnel/internal/host"
	"wstunnel/internal/reactor"
)

// Upstream is where one target's requests go: its servers, each with its pool.
type Upstream struct {
	Target *config.Target
	pools  []*Pool
	limit  *limit // nil where the connections are not bounded
	next   atomic.Uint32
}

// poolKey is what makes two targets share connections to a server.
type poolKey struct {
	network, address string
	keepAlive        int
	applications     bool // over FastCGI
	secure, verify   bool
	serverName       string
	roots            *x509.CertPool
}

// Pools keeps the process's pools by their key, and its limits by their upstream's name.
type Pools struct {
	clock *reactor.Clock
	ctx   context.Context // ends the TLS handshakes under way
	full  func(open int64) bool
	count atomic.Int64 // connections of all pools: idle, in use, and about to be made

	aside atomic.Pointer[map[named]bool] // servers that no request goes to; not modified

	mu     sync.Mutex
	byKey  map[poolKey]*Pool
	limits map[string]*limit
}

// NewPools returns pools without a server. What lasts goes by the clock; the handshakes under way end with ctx. Whether so many connections, with one that is about
// to be made, are too many is for full to say, on any goroutine.
func NewPools(ctx context.Context, clock *reactor.Clock, full func(open int64) bool) *Pools {
	return &Pools{ctx: ctx, clock: clock, full: full, byKey: map[poolKey]*Pool{}, limits: map[string]*limit{}}
}

// Count counts connections to backends in or out that are no pool's.
func (p *Pools) Count(n int64) { p.count.Add(n) }

// Open returns how many connections there are: idle ones of pools, those in use, and those about to be made.
func (p *Pools) Open() int64 { return p.count.Load() }

// Idle returns how many connections wait for their next request.
func (p *Pools) Idle() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pool := range p.byKey {
		pool.mu.Lock()
		n += len(pool.kept)
		pool.mu.Unlock()
	}
	return n
}

// Upstream returns the upstream of a target on shared pools.
func (p *Pools) Upstream(target *config.Target) *Upstream {
	u := &Upstream{Target: target}
	serverName, _ := host.Split(target.Host)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, server := range target.Servers {
		key := poolKey{network: server.Network, address: server.Address, keepAlive: target.KeepAlive, applications: target.Scheme == config.FastCGI}
		if target.TLS {
			key.secure, key.verify, key.roots = true, target.TLSVerify, target.RootCAs
			key.serverName = host.Canonical(serverName)
			if target.Upstream != "" && server.Network == "tcp" {
				name, _ := host.Split(server.Address)
				key.serverName = host.Canonical(name)
			}
		}
		if p.byKey[key] == nil {
			p.byKey[key] = newPool(p, key)
		}
		u.pools = append(u.pools, p.byKey[key])
	}
	if target.MaxConnections > 0 {
		if p.limits[target.Upstream] == nil {
			p.limits[target.Upstream] = newLimit(p.clock, target.Upstream)
		}
		u.limit = p.limits[target.Upstream]
		u.limit.set(target.MaxConnections, target.Queue)
	}
	return u
}

// Retire closes the idle connections of pools that none of the upstreams in use names any more.
func (p *Pools) Retire(inUse []*Upstream) {
	used := map[*Pool]bool{}
	for _, u := range inUse {
		for _, pool := range u.pools {
			used[pool] = true
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, pool := range p.byKey {
		if !used[pool] {
			delete(p.byKey, key)
			pool.retire()
		}
	}
}

// ErrFull says that the process may not open another connection to a backend.
var ErrFull = errors.New("as many connections to backends are open as the limit on open files allows; raise LimitNOFILE of the service, or ulimit -n")

// tooMany reports whether the connections to backends are too many, with one that was counted in already and is about to be made. One that is idle makes room.
func (p *Pools) tooMany() bool { return p.full(p.Open()) && !p.closeIdle() }

// closeIdle closes one idle connection, and reports whether there was one.
func (p *Pools) closeIdle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pool := range p.byKey {
		if pool.closeOldest() {
			return true
		}
	}
	return false
}

// ErrAside says that all servers of an upstream are being drained.
var ErrAside = errors.New("all servers of the upstream are being drained")

// attempt is one request's way from server to server, until one takes it.
type attempt struct {
	upstream *Upstream
	left     []*Pool // still to be tried
	errs     []error // of those that were tried
}

// attempt begins with the next server in turn. Those that did not answer lately come after all others.
func (u *Upstream) attempt() attempt {
	if len(u.pools) == 1 && !u.pools[0].among.isAside(u.Target.Upstream, u.pools[0].address) {
		return attempt{upstream: u, left: u.pools}
	}
	first := int((u.next.Add(1) - 1) % uint32(len(u.pools)))
	order := slices.Concat(u.pools[first:], u.pools[:first])
	order = slices.DeleteFunc(order, func(p *Pool) bool { return p.among.isAside(u.Target.Upstream, p.address) })
	slices.SortStableFunc(order, func(a, b *Pool) int { return int(a.putOff() - b.putOff()) })
	return attempt{upstream: u, left: order}
}

// failed notes that a server could not be used; the next one's turn comes.
func (a *attempt) failed(p *Pool, err error) {
	a.errs = append(a.errs, err)
	a.left = slices.DeleteFunc(slices.Clone(a.left), func(other *Pool) bool { return other == p })
}

// err says what went wrong with each server that was tried. What the last one did decides how the client is answered.
func (a *attempt) err() error { return &dialError{a.errs} }

// dialError is an upstream that can't be reached.
type dialError struct {
	errs []error
}

func (e *dialError) Error() string {
	if len(e.errs) == 0 {
		return ErrAside.Error()
	}
	texts := make([]string, len(e.errs))
	for i, err := range e.errs {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (e *dialError) Unwrap() error {
	if len(e.errs) == 0 {
		return ErrAside
	}
	return e.errs[len(e.errs)-1]
}

// reserve returns, of an upstream with a limit, the server whose turn it is, and the right to have one of its connections, which is to be freed. Where all have as
// many as they may, it returns no server, and calls then once, from elsewhere, with one or with an error; unless withdraw is called first.
func (a *attempt) reserve(then func(*Pool, *Slot, error)) (p *Pool, s *Slot, withdraw func()) {
	ready := a.left
	if i := slices.IndexFunc(ready, func(p *Pool) bool { return p.putOff() > 0 }); i > 0 {
		ready = ready[:i]
	}
	return a.upstream.limit.reserve(ready, then)
}

// Has reports whether a server of the upstream has an address.
func (u *Upstream) Has(address string) bool {
	return slices.ContainsFunc(u.pools, func(p *Pool) bool { return p.address == address })
}
