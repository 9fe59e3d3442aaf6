package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"syscall"

	"wstunnel/internal/metrics"
	"wstunnel/internal/reactor"
)

// Collect writes what the server has counted. It holds up no loop.
func (s *Server) Collect(w *metrics.Writer) {
	open := s.tunnels.gather()
	sites := s.counts.all()
	collectRequests(w, sites)
	s.collectTunnels(w, slices.DeleteFunc(sites, func(s *siteCounts) bool { return s.name == unknownSite }), open)
	s.collectBackends(w)
	s.collectConnections(w)
	s.collectMemory(w)
}

// Alive returns an error if an event loop does not answer until ctx is done.
func (s *Server) Alive(ctx context.Context) error {
	if lag := s.lag.Load(); lag != nil {
		return lag.clients.alive(ctx)
	}
	return nil
}

// collectRequests writes what became of requests and handshakes.
func collectRequests(w *metrics.Writer, sites []*siteCounts) {
	w.Family("wstunnel_requests_total", metrics.Counter, "Requests by their site and the class of the answer; 101: a WebSocket was opened, gone: the client did not wait.")
	for _, s := range sites {
		for c := range classes {
			w.Count(s.requests[c].Count(), "site", s.name, "class", c.String())
		}
	}
	w.Family("wstunnel_request_duration_seconds", metrics.Histogram, "Time from a request's head to the end of its answer, or to the 101.")
	for _, s := range sites {
		for c := range classes {
			if s.requests[c].Count() > 0 {
				w.Durations(&s.requests[c], "site", s.name, "class", c.String())
			}
		}
	}
	w.Family("wstunnel_handshake_failures_total", metrics.Counter, "WebSocket handshakes that opened no tunnel.")
	for _, s := range sites {
		s.failed.collect(w, "site", s.name)
	}
}

// collect writes what failed, each cause with some labels before it.
func (f *failures) collect(w *metrics.Writer, labels ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for cause, n := range f.byCause {
		w.Count(n, append(slices.Clone(labels), "cause", cause)...)
	}
}

// collectTunnels writes how tunnels open and end, and what goes through them.
func (s *Server) collectTunnels(w *metrics.Writer, sites []*siteCounts, open map[*siteCounts]int) {
	w.Family("wstunnel_tunnels_open", metrics.Gauge, "Tunnels that are open.")
	for _, s := range sites {
		w.Sample(float64(open[s]), "site", s.name)
	}
	w.Family("wstunnel_tunnels_opening", metrics.Gauge, "WebSocket handshakes that wait for their backend.")
	w.Sample(float64(s.tunnels.handshakes()))
	w.Family("wstunnel_tunnels_opened_total", metrics.Counter, "Tunnels that were opened.")
	for _, s := range sites {
		w.Count(s.opened.Load(), "site", s.name)
	}
	w.Family("wstunnel_tunnels_closed_total", metrics.Counter, "Tunnels that have ended: why, who began it, and with which Close code.")
	for _, s := range sites {
		s.mu.Lock()
		for c, n := range s.closed {
			w.Count(n, "site", s.name, "reason", string(c.cause), "by", string(c.by), "code", c.code)
		}
		s.mu.Unlock()
	}
	w.Family("wstunnel_tunnel_bytes_total", metrics.Counter, "Bytes that went through tunnels.")
	for _, s := range sites {
		w.Count(s.toBackend.bytes.Load(), "site", s.name, "direction", "to_backend")
		w.Count(s.toClient.bytes.Load(), "site", s.name, "direction", "to_client")
	}
	w.Family("wstunnel_tunnel_messages_total", metrics.Counter, "Whole messages that went through tunnels.")
	for _, s := range sites {
		w.Count(s.toBackend.messages.Load(), "site", s.name, "direction", "to_backend")
		w.Count(s.toClient.messages.Load(), "site", s.name, "direction", "to_client")
	}
	s.pushes.collect(w)
}

// collectConnections writes of connections, and of the loops that serve them.
func (s *Server) collectConnections(w *metrics.Writer) {
	w.Only("wstunnel_client_connections", metrics.Gauge, "Connections of clients, tunnels included.", float64(s.admission.total.Load()))
	w.Family("wstunnel_client_connections_total", metrics.Counter, "Connections of clients that came.")
	w.Count(s.counts.accepted.Load())
	w.Family("wstunnel_client_connections_refused_total", metrics.Counter, "Connections of clients that were refused, by limits or without a right to a PROXY header.")
	w.Count(s.counts.refused.Load())
	w.Family("wstunnel_backend_connections", metrics.Gauge, "Connections to backends but those of tunnels: active, or idle until their next request.")
	idle := s.upstreams.Idle()
	w.Sample(float64(max(0, s.upstreams.Open()-int64(idle))), "state", "active")
	w.Sample(float64(idle), "state", "idle")
	w.Family("wstunnel_tls_handshake_failures_total", metrics.Counter, "TLS handshakes with clients that failed.")
	s.counts.tls.collect(w)
	lag := s.lag.Load()
	if lag == nil {
		return
	}
	w.Only("wstunnel_tls_handshakes_waiting", metrics.Gauge, "TLS handshakes that wait for a processor.", float64(lag.clients.loops.HandshakesWaiting()))
	w.Family("wstunnel_loop_lag_seconds", metrics.Histogram, "How long what is posted to an event loop waits; measured on each loop every second.")
	w.Durations(&lag.waited)
}

// collectMemory writes what slow clients and relays make the server hold.
func (s *Server) collectMemory(w *metrics.Writer) {
	w.Only("wstunnel_buffer_memory_bytes", metrics.Gauge, "Memory for bodies of slow clients; limits.buffer_memory bounds it.", float64(s.slow.Used()))
	bytes, files := s.spools.Used()
	w.Only("wstunnel_spool_bytes", metrics.Gauge, "Temporary files for bodies of slow clients; limits.spool_space bounds them.", float64(bytes))
	w.Only("wstunnel_spool_files", metrics.Gauge, "How many such files there are.", float64(files))
	w.Only("wstunnel_relay_memory_bytes", metrics.Gauge, "Memory for messages under way in relays; limits.relay_memory bounds it.", float64(s.relays.Used()))
}

// handshakeFault says why a TLS handshake failed, as it is counted: in one of few words, whatever the client has sent.
func handshakeFault(err error) string {
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &record) && looksLikeHTTP(record.RecordHeader):
		return "plain HTTP"
	case errors.As(err, &record):
		return "no TLS"
	case errors.Is(err, reactor.ErrHandshakeTimeout), errors.Is(err, os.ErrDeadlineExceeded):
		return "timeout"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "client gone"
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "remote error" { // an alert
		return "refused by client"
	}
	return "not agreed"
}
