package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/host"
	"wstunnel/internal/tunnel"
)

// Limits of the pool of idle connections to one server.
const (
	maxIdleConns = 128
	idleConnLife = 60 * time.Second
	// freshConn is how long a connection may have been idle to carry a request that can't be sent twice: the
	// backend may be closing it at this moment.
	freshConn = 2 * time.Second
)

// upstream is where one target's requests go: its servers, each with its pool.
type upstream struct {
	target *config.Target
	pools  []*pool
	next   atomic.Uint32
}

// poolKey is what makes two targets share connections to a server.
type poolKey struct {
	network, address string
	secure, verify   bool
	serverName       string
	roots            *x509.CertPool
}

// pool holds the connections to one server that wait for their next request. It belongs to the process and outlives
// configurations that keep naming its server.
type pool struct {
	poolKey
	among   *pools
	mu      sync.Mutex
	idle    []*backendConn // oldest first
	sweeper *time.Timer    // closes what was idle too long; nil while nothing is idle
	retired bool
}

// backendConn is one connection to a backend.
type backendConn struct {
	net.Conn
	br        *bufio.Reader
	pool      *pool
	reused    bool
	idleSince time.Time
	uncounted atomic.Bool // closed, or part of a tunnel
}

// pools keeps the process's pools by their key.
type pools struct {
	server *Server
	count  atomic.Int64 // connections of all pools: idle, in use, and about to be made
	mu     sync.Mutex
	byKey  map[poolKey]*pool
}

// open returns the upstream of a target on shared pools.
func (p *pools) open(target *config.Target) *upstream {
	u := &upstream{target: target}
	serverName, _ := host.Split(target.Host)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byKey == nil {
		p.byKey = map[poolKey]*pool{}
	}
	for _, server := range target.Servers {
		key := poolKey{network: server.Network, address: server.Address}
		if target.TLS {
			key.secure, key.verify, key.roots = true, target.TLSVerify, target.RootCAs
			key.serverName = host.Canonical(serverName)
			if target.Upstream != "" && server.Network == "tcp" {
				name, _ := host.Split(server.Address)
				key.serverName = host.Canonical(name)
			}
		}
		if p.byKey[key] == nil {
			p.byKey[key] = &pool{poolKey: key, among: p}
		}
		u.pools = append(u.pools, p.byKey[key])
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

// dialError is an upstream that can't be reached, with every server that was tried. What the last one did decides how
// the client is answered.
type dialError struct {
	errs []error
}

func (e *dialError) Error() string { return errors.Join(e.errs...).Error() }

func (e *dialError) Unwrap() error { return e.errs[len(e.errs)-1] }

// turn returns the number of the server whose turn it is.
func (u *upstream) turn() int { return int((u.next.Add(1) - 1) % uint32(len(u.pools))) }

// conn returns a connection to one of the servers, beginning with the next in turn: an idle one, if
// it has been idle for no longer than maxIdle, or a new one. It tries each server once. The caller closes the
// connection or gives it back with [backendConn.release].
func (u *upstream) conn(ctx context.Context, timeout, maxIdle time.Duration) (*backendConn, error) {
	first := u.turn()
	failed := &dialError{}
	for i := range u.pools {
		p := u.pools[(first+i)%len(u.pools)]
		if maxIdle > 0 {
			if c := p.take(maxIdle); c != nil {
				return c, nil
			}
		}
		c, err := p.dial(ctx, timeout)
		if err == nil {
			return c, nil
		}
		failed.errs = append(failed.errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

// dial opens a new connection; timeout bounds the connect and the TLS handshake together.
func (p *pool) dial(ctx context.Context, timeout time.Duration) (*backendConn, error) {
	p.among.count.Add(1)
	conn, err := p.connect(ctx, timeout)
	if err != nil {
		p.among.count.Add(-1)
		return nil, err
	}
	return &backendConn{Conn: conn, br: bufio.NewReader(conn), pool: p}, nil
}

func (p *pool) connect(ctx context.Context, timeout time.Duration) (net.Conn, error) {
	if p.among.server.backendsFull() {
		return nil, errBackendsFull
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, p.network, p.address)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", p.address, err)
	}
	if p.secure {
		secure := tls.Client(tunnel.Transport(conn), &tls.Config{
			ServerName:         p.serverName,
			RootCAs:            p.roots,
			InsecureSkipVerify: !p.verify, // `tls_verify: false`
			MinVersion:         tls.VersionTLS12,
			NextProtos:         []string{"http/1.1"},
		})
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, fmt.Errorf("TLS handshake with %s: %w", p.address, err)
		}
		return secure, nil
	}
	return conn, nil
}

// Close closes the connection.
func (c *backendConn) Close() error {
	c.uncount()
	return c.Conn.Close()
}

func (c *backendConn) uncount() {
	if !c.uncounted.Swap(true) {
		c.pool.among.count.Add(-1)
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

func (p *pool) closeOldest() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return false
	}
	p.idle[0].Close()
	p.idle = p.idle[1:]
	return true
}

// take returns an idle connection that the backend has not closed, or nil.
func (p *pool) take(maxIdle time.Duration) *backendConn {
	for {
		p.mu.Lock()
		n := len(p.idle)
		if n == 0 || time.Since(p.idle[n-1].idleSince) > maxIdle {
			p.mu.Unlock()
			return nil
		}
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		if c.quiet() {
			c.reused = true
			return c
		}
		c.Close()
	}
}

// quiet reports whether an idle connection is still open and has nothing to read: a backend that
// closed it, or that sent what nobody asked for, has spoilt it.
func (c *backendConn) quiet() bool {
	conn := c.Conn
	if secure, ok := conn.(*tls.Conn); ok {
		// What is decrypted already the socket does not show.
		c.SetReadDeadline(time.Unix(1, 0))
		_, err := c.br.Peek(1)
		c.SetReadDeadline(time.Time{})
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
		conn = socketUnder(secure)
	}
	return nothingToRead(conn)
}

// release gives a connection back whose exchange was clean: request and response complete, nothing left over.
func (c *backendConn) release() {
	p := c.pool
	c.SetDeadline(time.Time{})
	c.idleSince = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.retired || len(p.idle) == maxIdleConns || c.br.Buffered() > 0 {
		c.Close()
		return
	}
	p.idle = append(p.idle, c)
	if p.sweeper == nil {
		p.sweeper = time.AfterFunc(idleConnLife, p.sweep)
	}
}

// sweep closes the connections that were idle too long, and comes again while any are left.
func (p *pool) sweep() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.idle) > 0 && time.Since(p.idle[0].idleSince) >= idleConnLife {
		p.idle[0].Close()
		p.idle = p.idle[1:]
	}
	p.sweeper = nil
	if len(p.idle) > 0 {
		p.sweeper = time.AfterFunc(idleConnLife-time.Since(p.idle[0].idleSince), p.sweep)
	}
}

func (p *pool) retire() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.retired = true
	for _, c := range p.idle {
		c.Close()
	}
	p.idle = nil
	if p.sweeper != nil {
		p.sweeper.Stop()
	}
}
