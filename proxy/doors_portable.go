//go:build !linux || portable

package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// doors take connections in on goroutines and hand them all to net/http.
type doors struct {
	server *Server
	web    *webServers

	mu       sync.Mutex // guards what follows
	failures int        // to accept, since the last line about them
	logged   time.Time  // when that was
}

func newDoors(s *Server) (*doors, error) { return &doors{server: s, web: newWebServers(s)}, nil }

func (d *doors) listen(l *listener) (acceptor, error) {
	return &accepting{doors: d, listener: l, ended: make(chan struct{})}, nil
}

// accepting is done on a goroutine.
type accepting struct {
	doors    *doors
	listener *listener
	started  bool
	ended    chan struct{}
}

func (a *accepting) Start() {
	a.started = true
	go a.accept()
}

// accept goes on until the listener is closed. When descriptors run out it waits, longer each time, instead of spinning.
func (a *accepting) accept() {
	defer close(a.ended)
	l := a.listener
	var wait time.Duration
	for {
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			a.doors.acceptFailed(l, err, wait)
			time.Sleep(wait)
			continue
		}
		wait = 0
		go a.doors.enter(conn, l)
	}
}

// acceptFailed logs, once a second at most for all listeners, that connections can't be accepted.
func (d *doors) acceptFailed(l *listener, err error, wait time.Duration) {
	d.mu.Lock()
	d.failures++
	n, due := d.failures, time.Since(d.logged) >= time.Second
	if due {
		d.logged, d.failures = time.Now(), 0
	}
	d.mu.Unlock()
	if due {
		d.server.log.Error("accepting failed", "address", l.Addr().String(), "error", err, "failures", n, "retry_in_ms", wait.Milliseconds())
	}
}

func (a *accepting) Stop() {
	a.listener.Listener.Close()
	if a.started {
		<-a.ended
	}
}

func (d *doors) enter(conn net.Conn, l *listener) {
	from := origin{listener: l, secure: l.secure.Load()}
	if addr, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		from.remote = netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), addr.AddrPort().Port())
	}
	switch {
	case !d.server.admission.admit(&from):
		resetOnClose(conn)
		conn.Close()
	case from.secure:
		l.serveTLS(conn, from)
	default:
		d.web.http1.give(newClientConn(conn, from))
	}
}

func (d *doors) takeHTTP1(conn net.Conn, from origin) {
	d.web.http1.give(newClientConn(conn, from))
}

// shutdown waits until all requests are answered, or ctx is done, and closes the connections.
func (d *doors) shutdown(ctx context.Context) error { return d.web.shutdown(ctx) }

func (d *doors) end() {}
