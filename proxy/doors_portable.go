//go:build !linux || portable

package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"wstunnel/internal/tunnel"
)

// doors take connections in on goroutines and hand them all to net/http.
type doors struct {
	server *Server
}

func newDoors(s *Server) (*doors, error) { return &doors{server: s}, nil }

// listen begins to accept, until the listener is closed. When descriptors run out it waits, longer each time, instead
// of spinning.
func (d *doors) listen(l *listener) (stop func(), err error) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		var wait time.Duration
		for {
			conn, err := l.Accept()
			switch {
			case errors.Is(err, net.ErrClosed):
				return
			case err != nil:
				wait = min(max(2*wait, 5*time.Millisecond), time.Second)
				d.server.log.Error("accepting failed", "address", l.Addr().String(), "error", err, "retry_in", wait)
				time.Sleep(wait)
				continue
			}
			wait = 0
			go d.enter(conn, l)
		}
	}()
	return func() {
		l.Listener.Close()
		<-ended
	}, nil
}

func (d *doors) enter(conn net.Conn, l *listener) {
	from := origin{listener: l, secure: l.secure.Load()}
	if addr, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		from.remote = netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), addr.AddrPort().Port())
	}
	switch {
	case !d.server.admission.admit(from.remote.Addr()):
		resetOnClose(conn)
		conn.Close()
	case from.secure:
		l.serveTLS(conn, from)
	default:
		d.server.web.http1.give(newClientConn(conn, from))
	}
}

func (d *doors) takeHTTP1(conn net.Conn, from origin) {
	d.server.web.http1.give(newClientConn(conn, from))
}

func (d *doors) onLoops(*tunnel.Options) {}

func (d *doors) shutdown(context.Context) {}

func (d *doors) end() {}
