//go:build !linux || portable

package proxy

import (
	"bufio"
	"container/list"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/tunnel"
)

// backendConn is one connection to a backend.
type backendConn struct {
	net.Conn
	br   *bufio.Reader
	pool *pool
	slot *slot         // while it is in use
	wait *list.Element // of a new one, its place among those that wait for their first byte

	answered       bool // a byte has come
	reused         bool // an exchange was carried before
	asked          time.Time
	firstByteAfter time.Duration
	life           time.Duration // how long it may be idle

	watched chan struct{} // of an idle one, closed when nobody watches it any more
	spoilt  bool          // what its watcher found

	// detach undoes [exchange.attach], and reports whether the connection was left alone.
	detach func() bool

	uncounted atomic.Bool // closed, or part of a tunnel
}

func newBackendConn(conn net.Conn, r io.Reader, p *pool) *backendConn {
	c := &backendConn{Conn: conn, br: bufio.NewReaderSize(r, smallAnswer), pool: p, life: idleConnLife}
	if !p.secure && isNear(conn.RemoteAddr()) {
		c.life = nearIdleLife
	}
	return c
}

// isNear reports whether an address is one of this machine's for itself.
func isNear(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}

// conn returns an idle connection or a new one, as [attempt.conn] says. The slot is its own from then on.
func (p *pool) conn(ctx context.Context, timeout, maxIdle time.Duration, s *slot) (*backendConn, error) {
	c := p.take(maxIdle)
	if c == nil {
		if s != nil {
			p.keepAtMost(s.spare())
		}
		var err error
		if c, err = p.dial(ctx, timeout); err != nil {
			return nil, err
		}
	}
	c.slot = s
	return c, nil
}

// dial opens a new connection; timeout bounds the connect and the TLS handshake together.
func (p *pool) dial(ctx context.Context, timeout time.Duration) (*backendConn, error) {
	p.among.count.Add(1)
	wait := p.await()
	conn, err := p.connect(ctx, timeout)
	if err != nil {
		p.among.count.Add(-1)
		p.leave(wait)
		return nil, err
	}
	c := newBackendConn(conn, conn, p)
	c.wait = wait
	if p.secure {
		p.leave(wait) // its handshake was an answer
	}
	return c, nil
}

func (p *pool) connect(ctx context.Context, timeout time.Duration) (net.Conn, error) {
	if p.among.server.backendsFull() {
		return nil, errBackendsFull
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	conn, err := dialPatiently(ctx, p.network, p.address)
	if err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", p.address, err)
	}
	if !p.secure {
		return conn, nil
	}
	secure := tls.Client(tunnel.Transport(conn), p.tlsConfig())
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS handshake with %s: %w", p.address, err)
	}
	return secure, nil
}

// queuePause is the time between two attempts at a Unix socket whose queue is full, which the kernel does not announce the end of.
const queuePause = 10 * time.Millisecond

// dialPatiently connects, and waits for a place in the queue of a Unix socket.
func dialPatiently(ctx context.Context, network, address string) (net.Conn, error) {
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, network, address)
		if network != "unix" || !errors.Is(err, syscall.EAGAIN) {
			return conn, err
		}
		select {
		case <-time.After(queuePause):
		case <-ctx.Done():
			return nil, fmt.Errorf("its queue is full: %w", ctx.Err())
		}
	}
}

// Close closes the connection.
func (c *backendConn) Close() error {
	c.uncount()
	c.slot.free()
	return c.Conn.Close()
}

func (c *backendConn) uncount() {
	if c.uncounted.Swap(true) {
		return
	}
	c.pool.among.count.Add(-1)
	if c.wait != nil {
		c.pool.leave(c.wait)
	}
}

// awaitStatusLine waits for the beginning of a response, as far as it says that it is one. What can be none is refused at once:
// the rest of it may never come.
func (c *backendConn) awaitStatusLine() error {
	if err := c.awaitFirstByte(); err != nil {
		return err
	}
	for {
		begin, _ := c.br.Peek(min(c.br.Buffered(), statusLineBegin))
		if !mayBeginStatusLine(begin) {
			return fmt.Errorf("the answer begins with %s, which is no status line of HTTP/1", head.Quoted(string(begin)))
		}
		if len(begin) == statusLineBegin {
			return nil
		}
		if _, err := c.br.Peek(len(begin) + 1); err != nil {
			return nil // whoever reads the head will meet it again
		}
	}
}

// statusLineBegin is the length of a status line that is looked at before there is more of it.
const statusLineBegin = len("HTTP/1.1 200")

// mayBeginStatusLine reports whether p is the beginning of a status line (RFC 9112, section 4), as far as statusLineBegin.
func mayBeginStatusLine(p []byte) bool {
	for i, c := range p[:min(len(p), statusLineBegin)] {
		switch form := "HTTP/1.d ddd"[i]; {
		case form == 'd' && (c < '0' || c > '9'), form != 'd' && c != form:
			return false
		}
	}
	return true
}

// awaitFirstByte waits until the backend says something.
func (c *backendConn) awaitFirstByte() error {
	if _, err := c.br.Peek(1); err != nil {
		return err
	}
	if c.reused {
		c.firstByteAfter = time.Since(c.asked)
	}
	if !c.answered {
		c.answered = true
		if c.wait != nil {
			c.pool.answered(c.wait)
		}
	}
	return nil
}

// heedKeepAlive takes note of how long the backend leaves the connection open, as its Keep-Alive header has it: timeout=5, max=100.
func (c *backendConn) heedKeepAlive(header []string) {
	c.life = lifeOf(header, c.life)
}

// release gives a connection back whose exchange was clean: request and response complete, nothing left over.
func (c *backendConn) release() {
	c.SetDeadline(time.Time{})
	s := c.slot
	c.slot = nil
	if c.br.Buffered() > 0 || c.life <= 0 || !c.keep() {
		c.Close()
	}
	s.free()
}

// keep has the connection wait for its next request, watched, and reports whether it does.
func (c *backendConn) keep() bool {
	c.watched = make(chan struct{})
	go c.watch()
	now := time.Now()
	return c.pool.keep(&kept{conn: c, since: now, expires: now.Add(c.life)}, c.reused, c.firstByteAfter)
}

// watch waits for the end of an idle connection, or for what nobody asked for.
func (c *backendConn) watch() {
	defer close(c.watched)
	_, err := c.br.Peek(1)
	c.spoilt = !errors.Is(err, os.ErrDeadlineExceeded)
	if c.spoilt && c.pool.dropKept(c) {
		c.Close()
	}
}

// evict closes a connection that was taken out of its pool.
func (c *backendConn) evict() { go c.Close() }

// take returns the connection that has been idle for the shortest time, which is no longer than maxIdle, and that the backend has not closed; or nil.
func (p *pool) take(maxIdle time.Duration) *backendConn {
	for {
		now := time.Now()
		k := p.popKept(nil, now, maxIdle)
		if k == nil {
			return nil
		}
		c := k.conn.(*backendConn)
		c.reused, c.asked = true, now
		if c.awake() {
			return c
		}
		c.Close()
	}
}

// awake makes a connection ready that was idle; it reports whether it is still open and has nothing to read: a backend that
// closed it, or that sent what nobody asked for, has spoilt it.
func (c *backendConn) awake() bool {
	c.SetReadDeadline(time.Unix(1, 0))
	<-c.watched
	c.SetReadDeadline(time.Time{})
	return !c.spoilt
}

// end hands the connection over to a tunnel with what was read of it beyond the response head. The slot stays taken.
func (c *backendConn) end() tunnel.End {
	c.uncount()
	early, _ := c.br.Peek(c.br.Buffered())
	c.br = nil // a tunnel may live for days
	return tunnel.End{Conn: c.Conn, Early: append([]byte(nil), early...)}
}

// awaitTurn is reserve for those who can wait.
func (a *attempt) awaitTurn(ctx context.Context) (*pool, *slot, error) {
	type turn struct {
		pool *pool
		slot *slot
		err  error
	}
	turns := make(chan turn, 1)
	p, s, withdraw := a.reserve(func(p *pool, s *slot, err error) { turns <- turn{p, s, err} })
	if p != nil {
		return p, s, nil
	}
	select {
	case t := <-turns:
		return t.pool, t.slot, t.err
	case <-ctx.Done():
	}
	withdraw()
	select {
	case t := <-turns:
		t.slot.free()
	default:
	}
	return nil, nil, context.Cause(ctx)
}

// conn returns a connection to one of the servers that are left: an idle one, if it has been idle for no longer than maxIdle, or a
// new one. The caller closes the connection or gives it back with [backendConn.release].
func (a *attempt) conn(ctx context.Context, timeout, maxIdle time.Duration) (*backendConn, error) {
	for len(a.left) > 0 && ctx.Err() == nil {
		p, s, err := a.awaitTurn(ctx)
		if err != nil {
			a.errs = append(a.errs, err)
			break
		}
		c, err := p.conn(ctx, timeout, maxIdle, s)
		if err == nil {
			return c, nil
		}
		s.free()
		if ctx.Err() == nil && isSilence(err) {
			p.delay()
		}
		a.failed(p, err)
	}
	if len(a.errs) == 0 {
		return nil, context.Cause(ctx)
	}
	return nil, a.err()
}
