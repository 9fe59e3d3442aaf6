//go:build !linux || portable

package proxy

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
)

// webServers are the two net/http servers that connections are handed to. They live as long as the process: what
// changes with the configuration is asked for when it is needed.
type webServers struct {
	http1, http2 *handoff
	servers      [2]*http.Server

	mu    sync.Mutex
	fresh map[net.Conn]struct{} // those that have not sent anything yet
}

func newWebServers(s *Server) *webServers {
	web := &webServers{http1: newHandoff(), http2: newHandoff(), fresh: map[net.Conn]struct{}{}}
	for i, h := range []*handoff{web.http1, web.http2} {
		var protocols http.Protocols
		protocols.SetHTTP1(h == web.http1)
		protocols.SetUnencryptedHTTP2(h == web.http2) // TLS is done by the listener
		server := &http.Server{
			Handler:                      s,
			Protocols:                    &protocols,
			HTTP2:                        &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
			MaxHeaderBytes:               maxRequestHead,
			DisableGeneralOptionsHandler: true,
			ConnContext:                  withClientConn,
			ConnState:                    web.noteState,
			ErrorLog:                     slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		}
		web.servers[i] = server
		go server.Serve(h)
	}
	return web
}

func (web *webServers) noteState(conn net.Conn, state http.ConnState) {
	web.mu.Lock()
	defer web.mu.Unlock()
	if state == http.StateNew && !hasSent(conn) {
		web.fresh[conn] = struct{}{}
	} else {
		delete(web.fresh, conn)
	}
}

// hasSent reports whether a new connection comes with something that was read from it already.
func hasSent(conn net.Conn) bool {
	c, ok := conn.(*clientConn)
	return ok && len(c.ahead) > 0
}

// shutdown waits until all requests are answered, or ctx is done, and closes the connections. Those that have asked
// for nothing yet are closed at once; net/http would give them 5 seconds.
func (web *webServers) shutdown(ctx context.Context) error {
	errs := make(chan error, len(web.servers))
	for _, server := range web.servers {
		go func() { errs <- server.Shutdown(ctx) }()
	}
	web.http1.Close()
	web.http2.Close()
	web.mu.Lock()
	for conn := range web.fresh {
		conn.Close()
	}
	web.mu.Unlock()
	err := errors.Join(<-errs, <-errs)
	if err != nil {
		for _, server := range web.servers {
			server.Close()
		}
	}
	return err
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
