package proxy

import (
	"net"
	"sync/atomic"
	"time"

	"wstunnel/internal/config"
)

// tlsHandshakeTimeout bounds a client's TLS handshake.
const tlsHandshakeTimeout = 10 * time.Second

// listener accepts on one address. It belongs to the process; reloads that keep its address keep it.
type listener struct {
	net.Listener
	server *Server
	port   string
	secure atomic.Bool
	// proxied says that connections start with a PROXY header.
	proxied atomic.Bool
	acceptor
}

// acceptor takes connections in for a listener.
type acceptor interface {
	// Start begins to accept.
	Start()
	// Stop ends that, or prevents it.
	Stop()
}

func newListener(l net.Listener, s *Server, c config.Listener) *listener {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	nl := &listener{Listener: l, server: s, port: port}
	nl.secure.Store(c.TLS)
	nl.proxied.Store(c.ProxyProtocol)
	return nl
}

// Close ends the accepting.
func (l *listener) Close() error {
	l.Stop()
	return l.Listener.Close()
}

func looksLikeHTTP(begin [5]byte) bool {
	switch string(begin[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH":
		return true
	}
	return false
}
