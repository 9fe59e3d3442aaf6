package proxy

import (
	"fmt"
	"strings"

	"wstunnel/internal/config"
)

// explainServers tells which servers of an upstream there are to choose from, and how one is chosen for this request. Which of them are up is not asked.
func (e *Explanation) explainServers(x *exchange, t *config.Target, socket bool) {
	if t.Upstream == "" {
		return
	}
	for _, s := range t.Servers {
		e.Servers = append(e.Servers, Line{s.String(), toldServer(s)})
	}
	tell := func(format string, args ...any) { e.Choice = append(e.Choice, fmt.Sprintf(format, args...)) }
	if t.Sticky != nil {
		if _, found := x.in.Cookie(t.Sticky.Cookie); found {
			tell("sticky: the server that the cookie %s names, while it can be used", t.Sticky.Cookie)
		} else {
			tell("sticky: the answer sets the cookie %s, since the request has none", t.Sticky.Cookie)
		}
	}
	if len(t.Servers) > 1 {
		tell("balance: %s", x.toldBalance(t))
	}
	if socket && t.HandshakesPerSecond > 0 {
		tell("handshakes_per_second: each server is sent %d in a second; those beyond it wait in order", t.HandshakesPerSecond)
	}
	if t.Hold > 0 {
		tell("hold: where no server can be connected with, the request waits %v; 503 then", t.Hold)
	}
}

// toldServer is what the configuration says of a server.
func toldServer(s config.Server) string {
	said := []string{"used"}
	switch {
	case s.Down:
		return "down: not used"
	case s.Backup:
		said = []string{"backup: used while no other can be"}
	}
	if s.Weight > 1 {
		said = append(said, fmt.Sprintf("weight %d", s.Weight))
	}
	if s.MaxConnections > 0 {
		said = append(said, fmt.Sprintf("no more than %d connections", s.MaxConnections))
	}
	return strings.Join(said, ", ")
}

// toldBalance is how an upstream's server is chosen for a request.
func (x *exchange) toldBalance(t *config.Target) string {
	word := t.Balance.String()
	switch t.Balance {
	case config.BalanceLeastConn:
		return word + ", the one with the fewest requests and tunnels for its weight"
	case config.BalanceRandomTwo:
		return word + ", the less busy one of two that are drawn"
	case config.BalanceIPHash:
		return word + ", always the same one for " + neighbourhood(x.in.Client).String()
	case config.BalanceHash:
		if text, found := x.in.Hashed(t.Hash); found {
			return fmt.Sprintf("%s, always the same one for %s %s", word, t.Hash, text)
		}
		return fmt.Sprintf("%s, but the request has no %s: each in turn", word, t.Hash)
	}
	return config.BalanceRoundRobin.String() + ", each in turn, by its weight"
}
