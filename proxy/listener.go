package proxy

import (
	"net"
	"net/netip"
	"strconv"
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
	// configured is the address in the configuration.
	configured string
	secure     atomic.Bool
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
	nl := &listener{Listener: l, server: s, port: port, configured: c.Address}
	nl.secure.Store(c.TLS)
	nl.proxied.Store(c.ProxyProtocol)
	return nl
}

// Close ends the accepting.
func (l *listener) Close() error {
	l.Stop()
	return l.Listener.Close()
}

// clientInfo says whose connection it is, and where it came in.
type clientInfo struct {
	listener *listener
	remote   netip.AddrPort // who connected, or on whose behalf a PROXY header says it was
	public   netip.AddrPort // where to, where such a header says so
	secure   bool           // over TLS
	// counted says that the connection is one of its client's, of which there may be so many.
	counted bool
	// handshake is what the client said of itself in its TLS handshake; nil without TLS.
	handshake *handshakeInfo
}

// port is the one that the client connected to.
func (o *clientInfo) port() string {
	if o.public.IsValid() {
		return strconv.Itoa(int(o.public.Port()))
	}
	return o.listener.port
}

// tlsVersion is that of the connection, as in crypto/tls; zero for a plain one.
func (o *clientInfo) tlsVersion() uint16 {
	if o.handshake == nil {
		return 0
	}
	return o.handshake.version
}

// leave counts the connection out when it has ended.
func (o *clientInfo) leave() { o.listener.server.admission.leave(o.remote.Addr(), o.counted) }

func looksLikeHTTP(begin [5]byte) bool {
	switch string(begin[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH":
		return true
	}
	return false
}
