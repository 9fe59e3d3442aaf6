//go:build !linux || portable

package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"time"

	"wstunnel/internal/tunnel"
)

// serveTLS does the TLS handshake and hands the connection to whoever speaks the protocol that was chosen.
func (l *listener) serveTLS(conn net.Conn, from origin) {
	s := l.server
	settings := s.gen.Load().tls
	if settings == nil {
		conn.Close()
		from.leave()
		return
	}
	secure := tls.Server(tunnel.Transport(conn), settings)
	if err := s.handshake(secure); err != nil {
		l.handshakeFailed(conn, from, err)
		return
	}
	state := secure.ConnectionState()
	if state.NegotiatedProtocol == acmeTLS {
		conn.Close() // the handshake was all that the authority wanted (RFC 8737, section 3)
		from.leave()
		return
	}
	from.handshake = handshakeInfoOf(state)
	if state.NegotiatedProtocol == "h2" {
		s.doors.web.http2.give(newH2Conn(newClientConn(secure, from)))
		return
	}
	s.doors.takeHTTP1(secure, from)
}

// handshake does the TLS handshake of a connection. A panic in it, in a certificate's source perhaps, is the end of that connection only.
func (s *Server) handshake(conn *tls.Conn) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			s.log.Error("internal fault", "fault", fault, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal fault: %v", fault)
		}
	}()
	ctx, cancel := context.WithTimeout(s.ctx, tlsHandshakeTimeout)
	defer cancel()
	return conn.HandshakeContext(ctx)
}

// handshakeFailed answers a client that speaks plain HTTP to a TLS port, and closes. Failed handshakes are
// everyday noise of scanners: they are logged for debugging only.
func (l *listener) handshakeFailed(conn net.Conn, from origin, err error) {
	defer from.leave()
	defer conn.Close()
	l.server.log.Debug("TLS handshake failed", "client", from.remote.String(), "error", err)
	var record tls.RecordHeaderError
	if !errors.As(err, &record) || record.Conn == nil || !looksLikeHTTP(record.RecordHeader) {
		return
	}
	const text = "400 Bad Request: plain HTTP was sent to a port that speaks HTTPS\n"
	conn.SetWriteDeadline(time.Now().Add(time.Second))
	fmt.Fprintf(conn, "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\n"+
		"Connection: close\r\n\r\n%s", len(text), text)
	// The rest of the request is taken, or the reset that closing over it sends would overtake the answer.
	conn.SetReadDeadline(time.Now().Add(time.Second))
	io.CopyN(io.Discard, conn, maxRequestHead)
}

func newH2Conn(c *clientConn) *h2Conn {
	h := &h2Conn{clientConn: c, guard: newH2Guard(), in: h2Follower{left: h2PrefaceLen}}
	h.idleForLong()
	return h
}
