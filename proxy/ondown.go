package proxy

import (
	"wstunnel/internal/health"
	"wstunnel/internal/ws"
)

// downReason is the text of the Close frames to the clients of a server that went down.
const downReason = "backend is down"

// serverChanged tells of a server that went down, or came back. It closes the tunnels of one whose checks fail, if its upstream is configured so (`on_down: close`):
// the client is asked to come back (1012), and gets to another server; not of one that is ejected, which clients can bring about. It is told on any goroutine or loop.
func (s *Server) serverChanged(upstream, server string, is health.Status) {
	kind := EventServerDown
	if is.State == health.Up {
		kind = EventServerUp
	}
	s.Publish(Event{Kind: kind, Upstream: upstream, Server: server, Reason: is.Reason})
	gen := s.gen.Load()
	if gen == nil || is.State != health.Down {
		return
	}
	for i := range gen.cfg.Upstreams {
		if u := &gen.cfg.Upstreams[i]; u.Name == upstream && u.CloseOnDown {
			go s.closeTunnelsOf(upstream, server)
			return
		}
	}
}

// closeTunnelsOf closes the tunnels of a server, spread out as a drain's are.
func (s *Server) closeTunnelsOf(upstream, server string) {
	scope := DrainScope{Upstream: upstream, Server: server}
	found := s.tunnels.where(scope.holds)
	if len(found) == 0 {
		return
	}
	s.log.Info("closing tunnels", "what", scope.String(), "tunnels", len(found))
	how := s.closing(len(found))
	how.code, how.reason = ws.CloseServiceRestart, downReason
	s.tunnels.closeOver(s.ctx, s.clock, found, how)
}
