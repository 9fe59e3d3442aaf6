package proxy

import (
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"wstunnel/internal/config"
	"wstunnel/internal/host"
)

// upstream is where one target's requests go: its servers, each with its pool.
type upstream struct {
	target *config.Target
	pools  []*pool
	limit  *limit // nil where the connections are not bounded
	next   atomic.Uint32
}

// poolKey is what makes two targets share connections to a server.
type poolKey struct {
	network, address string
	keepAlive        int
	secure, verify   bool
	serverName       string
	roots            *x509.CertPool
}

// pools keeps the process's pools by their key, and its limits by their upstream's name.
type pools struct {
	server *Server
	count  atomic.Int64 // connections of all pools: idle, in use, and about to be made
	mu     sync.Mutex
	byKey  map[poolKey]*pool
	limits map[string]*limit
}

// open returns the upstream of a target on shared pools.
func (p *pools) open(target *config.Target) *upstream {
	u := &upstream{target: target}
	serverName, _ := host.Split(target.Host)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byKey == nil {
		p.byKey, p.limits = map[poolKey]*pool{}, map[string]*limit{}
	}
	for _, server := range target.Servers {
		key := poolKey{network: server.Network, address: server.Address, keepAlive: target.KeepAlive}
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
			p.limits[target.Upstream] = newLimit(p.server.clock, target.Upstream)
		}
		u.limit = p.limits[target.Upstream]
		u.limit.set(target.MaxConnections, target.Queue)
	}
	return u
}

// retire closes the idle connections of pools that no upstream in use names any more.
func (p *pools) retire(used map[*pool]bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, pool := range p.byKey {
		if !used[pool] {
			delete(p.byKey, key)
			pool.retire()
		}
	}
}

// errBackendsFull says that the process may not open another connection to a backend.
var errBackendsFull = errors.New("as many connections to backends are open as the limit on open files allows; raise LimitNOFILE of the service, or ulimit -n")

// backendsFull reports whether the connections to backends are too many, with one that was counted in already and is about to be made:
// together they get as many descriptors as clients do. One that is idle makes room.
func (s *Server) backendsFull() bool {
	return int64(s.tunnels.count())+s.pools.count.Load() > s.admission.capacity && !s.pools.closeIdle()
}

// closeIdle closes one idle connection, and reports whether there was one.
func (p *pools) closeIdle() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, pool := range p.byKey {
		if pool.closeOldest() {
			return true
		}
	}
	return false
}

// attempt is one request's way from server to server, until one takes it.
type attempt struct {
	upstream *upstream
	left     []*pool // still to be tried
	errs     []error // of those that were tried
}

// attempt begins with the next server in turn. Those that did not answer lately come after all others.
func (u *upstream) attempt() attempt {
	if len(u.pools) == 1 {
		return attempt{upstream: u, left: u.pools}
	}
	first := int((u.next.Add(1) - 1) % uint32(len(u.pools)))
	order := slices.Concat(u.pools[first:], u.pools[:first])
	slices.SortStableFunc(order, func(a, b *pool) int { return int(a.putOff() - b.putOff()) })
	return attempt{upstream: u, left: order}
}

// failed notes that a server could not be used; the next one's turn comes.
func (a *attempt) failed(p *pool, err error) {
	a.errs = append(a.errs, err)
	a.left = slices.DeleteFunc(slices.Clone(a.left), func(other *pool) bool { return other == p })
}

// err says what went wrong with each server that was tried. What the last one did decides how the client is answered.
func (a *attempt) err() error { return &dialError{a.errs} }

// dialError is an upstream that can't be reached.
type dialError struct {
	errs []error
}

func (e *dialError) Error() string {
	texts := make([]string, len(e.errs))
	for i, err := range e.errs {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

func (e *dialError) Unwrap() error { return e.errs[len(e.errs)-1] }

// reserve returns, of an upstream with a limit, the server whose turn it is, and the right to have one of its connections, which is to be freed. Where all have as
// many as they may, it returns no server, and calls then once, from elsewhere, with one or with an error; unless withdraw is called first.
func (a *attempt) reserve(then func(*pool, *slot, error)) (p *pool, s *slot, withdraw func()) {
	ready := a.left
	if i := slices.IndexFunc(ready, func(p *pool) bool { return p.putOff() > 0 }); i > 0 {
		ready = ready[:i]
	}
	return a.upstream.limit.reserve(ready, then)
}
