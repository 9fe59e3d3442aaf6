package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"
)

// tlsHandshakeTimeout bounds a client's TLS handshake.
const tlsHandshakeTimeout = 10 * time.Second

// listener accepts on one address. It belongs to the process; reloads that keep its address keep it.
type listener struct {
	net.Listener
	server *Server
	port   string
	secure atomic.Bool
}

func newListener(l net.Listener, s *Server, secure bool) *listener {
	_, port, _ := net.SplitHostPort(l.Addr().String())
	nl := &listener{Listener: l, server: s, port: port}
	nl.secure.Store(secure)
	return nl
}

// accept takes connections until the listener is closed. When descriptors run out it waits, longer each time, instead
// of spinning.
func (l *listener) accept() {
	defer l.server.accepting.Done()
	var wait time.Duration
	for {
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			wait = min(max(2*wait, 5*time.Millisecond), time.Second)
			l.server.log.Error("accepting failed", "address", l.Addr().String(), "error", err, "retry_in", wait)
			time.Sleep(wait)
			continue
		}
		wait = 0
		go l.serve(conn)
	}
}

// serve hands a connection to the HTTP server of the protocol that it speaks.
func (l *listener) serve(conn net.Conn) {
	s := l.server
	if !l.secure.Load() {
		s.web.http1.give(newClientConn(conn, l))
		return
	}
	settings := s.gen.Load().tls
	if settings == nil {
		conn.Close()
		return
	}
	secure := tls.Server(conn, settings)
	ctx, cancel := context.WithTimeout(s.ctx, tlsHandshakeTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		l.handshakeFailed(conn, err)
		return
	}
	client := newClientConn(secure, l)
	if secure.ConnectionState().NegotiatedProtocol == "h2" {
		s.web.http2.give(newH2Conn(client))
		return
	}
	s.web.http1.give(client)
}

// handshakeFailed answers a client that speaks plain HTTP to a TLS port, and closes. Failed handshakes are
// everyday noise of scanners: they are logged for debugging only.
func (l *listener) handshakeFailed(conn net.Conn, err error) {
	defer conn.Close()
	l.server.log.Debug("TLS handshake failed", "client", conn.RemoteAddr().String(), "error", err)
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

func looksLikeHTTP(begin [5]byte) bool {
	switch string(begin[:]) {
	case "GET /", "HEAD ", "POST ", "PUT /", "OPTIO", "DELET", "PATCH":
		return true
	}
	return false
}
