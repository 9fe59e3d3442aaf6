package proxy

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"wstunnel/internal/reactor"
)

// arrival is a connection over TLS from its accept to the end of its handshake.
type arrival struct {
	*clients
	place
	conn  *reactor.Conn
	from  clientInfo
	timer reactor.Timer
	// turnedAway: the client has been told what is wrong, and is let end.
	turnedAway bool
}

// Readable begins the handshake with the first byte.
func (a *arrival) Readable(c *reactor.Conn) {
	if a.turnedAway {
		if _, err := c.Read(); err != nil {
			a.close()
		}
		return
	}
	c.Loop().Stop(&a.timer)
	settings := a.server.gen.Load().tls
	if settings == nil {
		a.close()
		return
	}
	c.Handshake(a.server.ctx, func(transport net.Conn) *tls.Conn {
		if a.from.public.IsValid() {
			transport = introduced{transport, net.TCPAddrFromAddrPort(a.from.remote)}
		}
		return tls.Server(transport, settings)
	}, tlsHandshakeTimeout, a.shaken)
}

// introduced is a connection whose remote end is who a PROXY header says.
type introduced struct {
	net.Conn
	remote net.Addr
}

// RemoteAddr returns the client's address.
func (c introduced) RemoteAddr() net.Addr { return c.remote }

// Drained is of no interest.
func (a *arrival) Drained(*reactor.Conn) {}

// Failed ends the connection.
func (a *arrival) Failed(*reactor.Conn, error) { a.close() }

// Expired ends a wait.
func (a *arrival) Expired() { a.close() }

// close ends the connection.
func (a *arrival) close() {
	a.conn.Loop().Stop(&a.timer)
	a.conn.Close()
	a.forget(a.conn.Loop(), a)
	a.from.leave()
}

// shaken hands the connection to whoever speaks the protocol that was chosen.
func (a *arrival) shaken(state tls.ConnectionState, err error) {
	switch {
	case err != nil:
		a.failed(err)
		return
	case state.NegotiatedProtocol == acmeTLS: // the handshake was all that the authority wanted (RFC 8737, section 3)
		a.close()
		return
	}
	a.from.handshake = handshakeInfoOf(state)
	a.forget(a.conn.Loop(), a)
	if state.NegotiatedProtocol == "h2" {
		a.openHTTP2(a.conn, a.from)
		return
	}
	a.open(a.conn, a.from, false)
}

// failed answers a client that speaks plain HTTP to a TLS port, and closes. Failed handshakes are
// everyday noise of scanners: they are logged for debugging only.
func (a *arrival) failed(err error) {
	a.server.counts.tls.note(handshakeFault(err))
	a.server.log.Debug("TLS handshake failed", "client", a.from.remote.String(), "error", err)
	var record tls.RecordHeaderError
	if !errors.As(err, &record) || record.Conn == nil || !looksLikeHTTP(record.RecordHeader) {
		a.close()
		return
	}
	const text = "400 Bad Request: plain HTTP was sent to a port that speaks HTTPS\n"
	a.turnedAway = true
	a.conn.Handle(a)
	a.conn.Write(fmt.Appendf(nil, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"+
		"Connection: close\r\n\r\n%s", len(text), text))
	a.conn.CloseWrite()
	// The rest of the request is taken, or the reset that closing over it sends would overtake the answer.
	a.conn.Loop().Set(&a.timer, time.Second)
	a.conn.Resume()
}
