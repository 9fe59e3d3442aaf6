//go:build linux && !portable

package tunnel

import (
	"net"

	"wstunnel/internal/reactor"
)

// Loops are the event loops that tunnels run on.
type Loops = reactor.Group

// Transport makes conn, a TCP connection or a Unix socket, fit for a TLS connection that is to become an end of a
// tunnel. It is put under tls.Server or tls.Client before the handshake, and owns conn.
func Transport(conn net.Conn) net.Conn { return reactor.NewTransport(conn) }

func newEngine(client, backend End, opts Options) engine {
	if reactor.Adoptable(client.Conn) && reactor.Adoptable(backend.Conn) {
		return newLooped(client, backend, opts)
	}
	return newPumped(client, backend, opts)
}
