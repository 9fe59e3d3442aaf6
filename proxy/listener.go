package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
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
	gen := s.gen.Load()
	if !l.secure.Load() {
		gen.web.http1.give(newClientConn(conn, l, s.logRefused))
		return
	}
	if gen.tls == nil {
		conn.Close()
		return
	}
	secure := tls.Server(conn, gen.tls)
	ctx, cancel := context.WithTimeout(s.ctx, tlsHandshakeTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		l.handshakeFailed(conn, err)
		return
	}
	state := secure.ConnectionState()
	client := newClientConn(secure, l, s.logRefused)
	client.tls = &state
	if state.NegotiatedProtocol == "h2" {
		gen.web.http2.give(newH2Conn(client))
		return
	}
	gen.web.http1.give(client)
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

// handoff is a net.Listener in memory: connections that were accepted elsewhere.
type handoff struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandoff() *handoff {
	return &handoff{conns: make(chan net.Conn), done: make(chan struct{})}
}

// give hands a connection over, or closes it when nobody accepts any more.
func (h *handoff) give(conn net.Conn) {
	select {
	case h.conns <- conn:
	case <-h.done:
		conn.Close()
	}
}

// Accept returns the next connection.
func (h *handoff) Accept() (net.Conn, error) {
	select {
	case conn := <-h.conns:
		return conn, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

// Close makes Accept fail.
func (h *handoff) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

// Addr is that of no network.
func (h *handoff) Addr() net.Addr { return &net.UnixAddr{Name: "handoff", Net: "unix"} }

// webServers are the two net/http servers that connections are handed to. They belong to the timeouts they were made with.
type webServers struct {
	timeouts     webTimeouts
	http1, http2 *handoff
	servers      [2]*http.Server
}

type webTimeouts struct {
	head, keepAlive time.Duration
}

func newWebServers(s *Server, t webTimeouts) *webServers {
	web := &webServers{timeouts: t, http1: newHandoff(), http2: newHandoff()}
	for i, h := range []*handoff{web.http1, web.http2} {
		var protocols http.Protocols
		protocols.SetHTTP1(h == web.http1)
		protocols.SetUnencryptedHTTP2(h == web.http2) // TLS is done by the listener
		server := &http.Server{
			Handler:           s,
			Protocols:         &protocols,
			ReadHeaderTimeout: t.head,
			IdleTimeout:       t.keepAlive,
			MaxHeaderBytes:    maxRequestHead,
			ConnContext:       withClientConn,
			ErrorLog:          s.httpLog,
		}
		web.servers[i] = server
		go server.Serve(h)
	}
	return web
}

// shutdown waits until all requests are answered, or ctx is done, and closes the connections.
func (web *webServers) shutdown(ctx context.Context) error {
	errs := make(chan error, len(web.servers))
	for _, server := range web.servers {
		go func() { errs <- server.Shutdown(ctx) }()
	}
	err := errors.Join(<-errs, <-errs)
	if err != nil {
		for _, server := range web.servers {
			server.Close()
		}
	}
	return err
}
