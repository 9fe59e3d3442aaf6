package proxy

import (
	"context"
	"time"

	"wstunnel/internal/tunnel"
)

// SiteCounts are what was counted of a site since the start.
type SiteCounts struct {
	Tunnels int // that are open
	Opened  uint64
	// Closed are tunnels that have ended, by their cause.
	Closed map[tunnel.Cause]uint64
	// Requests are all of them; those for WebSockets that opened none are Failed.
	Requests, Failed    uint64
	ToBackend, ToClient tunnel.Traffic
}

// SiteCounts returns what was counted of each site, by its first host. It holds up no loop.
func (s *Server) SiteCounts() map[string]SiteCounts {
	open := s.tunnels.gather()
	all := map[string]SiteCounts{}
	for _, site := range s.counts.all() {
		if site.name == unknownSite {
			continue
		}
		c := SiteCounts{
			Tunnels: open[site], Opened: site.opened.Load(), Closed: map[tunnel.Cause]uint64{},
			ToBackend: tunnel.Traffic{Bytes: site.toBackend.bytes.Load(), Messages: site.toBackend.messages.Load()},
			ToClient:  tunnel.Traffic{Bytes: site.toClient.bytes.Load(), Messages: site.toClient.messages.Load()},
		}
		for i := range site.requests {
			c.Requests += site.requests[i].Count()
		}
		site.mu.Lock()
		for ending, n := range site.closed {
			c.Closed[ending.cause] += n
		}
		site.mu.Unlock()
		site.failed.mu.Lock()
		for _, n := range site.failed.byCause {
			c.Failed += n
		}
		site.failed.mu.Unlock()
		all[site.name] = c
	}
	return all
}

// Every calls f each time that a while has passed on the server's clock, until ctx is done.
func (s *Server) Every(ctx context.Context, while time.Duration, f func()) {
	due := make(chan struct{}, 1)
	alarm := s.clock.Alarm(func() { due <- struct{}{} })
	defer alarm.Stop()
	for {
		alarm.Set(while)
		select {
		case <-due:
			f()
		case <-ctx.Done():
			return
		}
	}
}
