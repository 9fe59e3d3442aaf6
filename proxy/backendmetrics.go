package proxy

import (
	"cmp"
	"slices"

	"wstunnel/internal/health"
	"wstunnel/internal/metrics"
	"wstunnel/internal/upstream"
)

// Upstreams returns how upstreams and their servers do, by their names in order. One that a target names itself is called by network and address, such as
// tcp:127.0.0.1:9000.
func (s *Server) Upstreams() []upstream.Snapshot { return merged(s.upstreams.Snapshot()) }

// collectBackends writes how upstreams and their servers do.
func (s *Server) collectBackends(w *metrics.Writer) {
	all := s.Upstreams()
	w.Family("wstunnel_backend_up", metrics.Gauge, "1: requests go to the server; 0: it fails its checks, or is ejected. Servers with down: true are left out.")
	for _, u := range all {
		for i := range u.Servers {
			if server := &u.Servers[i]; !server.Down {
				w.Sample(upValue(server.State), "upstream", u.Name, "server", server.Address)
			}
		}
	}
	each := func(name string, kind metrics.Kind, help string, value func(*upstream.ServerSnapshot) uint64) {
		w.Family(name, kind, help)
		for _, u := range all {
			for i := range u.Servers {
				w.Count(value(&u.Servers[i]), "upstream", u.Name, "server", u.Servers[i].Address)
			}
		}
	}
	each("wstunnel_backend_active", metrics.Gauge, "Requests and handshakes under way at the server.", func(s *upstream.ServerSnapshot) uint64 { return uint64(max(0, s.Active)) })
	each("wstunnel_backend_tunnels", metrics.Gauge, "Tunnels to the server.", func(s *upstream.ServerSnapshot) uint64 { return uint64(max(0, s.Tunnels)) })
	each("wstunnel_backend_failures_total", metrics.Counter, "Requests that the server failed: no connection, no answer, or a status from 500 on.", func(s *upstream.ServerSnapshot) uint64 { return s.Failures })
	each("wstunnel_backend_ejections_total", metrics.Counter, "How often the server was ejected, since too many requests in a row failed.", func(s *upstream.ServerSnapshot) uint64 { return s.Ejections })
	each("wstunnel_backend_retries_total", metrics.Counter, "Requests that had been sent to the server and were repeated, since it broke off; one that could not be connected with counts as a failure only.", func(s *upstream.ServerSnapshot) uint64 { return s.Retries })
	each("wstunnel_backend_checks_total", metrics.Counter, "Checks of the server.", func(s *upstream.ServerSnapshot) uint64 { return s.Checks })
	each("wstunnel_backend_failed_checks_total", metrics.Counter, "Checks of the server that failed.", func(s *upstream.ServerSnapshot) uint64 { return s.FailedChecks })
	w.Family("wstunnel_upstream_waiting", metrics.Gauge, "Requests that wait: for a server to come back (hold), for a connection (max_connections), for their time (handshakes_per_second).")
	for _, u := range all {
		handshakes := 0
		for i := range u.Servers {
			handshakes += u.Servers[i].Waiting
		}
		for _, wait := range []struct {
			what string
			n    int
		}{{"server", u.Held}, {"connection", u.Queued}, {"time", handshakes}} {
			w.Count(uint64(max(0, wait.n)), "upstream", u.Name, "for", wait.what)
		}
	}
	w.Family("wstunnel_upstream_retrying", metrics.Gauge, "Requests that are being repeated.")
	for _, u := range all {
		w.Count(uint64(max(0, u.Retrying)), "upstream", u.Name)
	}
}

func upValue(state health.State) float64 {
	if state == health.Up {
		return 1
	}
	return 0
}

// merged are upstreams by their names in order, each once: targets that speak to the same servers in different ways, with TLS and without, have each their own.
func merged(all []upstream.Snapshot) (once []upstream.Snapshot) {
	slices.SortFunc(all, func(a, b upstream.Snapshot) int { return cmp.Compare(a.Name, b.Name) })
	for _, u := range all {
		last := len(once) - 1
		if last < 0 || once[last].Name != u.Name {
			once = append(once, u)
			continue
		}
		into := &once[last]
		into.Held += u.Held
		into.Queued = max(into.Queued, u.Queued) // which all of a name share
		into.Retrying += u.Retrying
		for _, server := range u.Servers {
			i := slices.IndexFunc(into.Servers, func(s upstream.ServerSnapshot) bool { return s.Address == server.Address })
			if i < 0 {
				into.Servers = append(into.Servers, server)
				continue
			}
			addServer(&into.Servers[i], &server)
		}
	}
	return once
}

// addServer adds what is known of a server in another way. It is up if it is so in both.
func addServer(to, s *upstream.ServerSnapshot) {
	if to.State == health.Up {
		to.State = s.State
	}
	to.Down = to.Down && s.Down
	to.Active += s.Active
	to.Tunnels += s.Tunnels
	to.Waiting += s.Waiting
	to.Retries += s.Retries
	to.Failures += s.Failures
	to.Ejections += s.Ejections
	to.Checks += s.Checks
	to.FailedChecks += s.FailedChecks
}
