package proxy

import (
	"context"
	"slices"
	"time"

	"wstunnel/internal/config"
)

// A process that another one has taken over from looks each windDownPause what is left. Connections over HTTP/1.x that are idle are closed when they have had
// lastCalls of those pauses to ask once more: that they are the last is told with an answer, rather than with an end that a request may cross.
const (
	windDownPause = time.Second
	lastCalls     = 5
)

// Left is what is left in a process that has handed over.
type Left struct {
	Tunnels     int // all of them
	Secure      int // those with TLS at an end
	Streams     int // those over HTTP/2
	Relayed     int // those of the mode relay
	Connections int // that serve requests, or may
}

// WindDown lets what is left end by itself, when another process has taken over: requests and handshakes are served, idle connections are closed in good order, tunnels
// that could not be handed over go on, and those that open meanwhile are handed over if they can be. It returns when nothing is left, or with an error when ctx is done; what
// then is left Shutdown ends. report is told what is left, whenever that has changed.
func (s *Server) WindDown(ctx context.Context, to giver, report func(Left)) error {
	s.closeListeners()
	s.clients.windingDown.Store(true)
	var told Left
	for pauses := 0; ; pauses++ {
		left := s.tunnels.left()
		left.Connections += s.clients.windDownAll(ctx, pauses >= lastCalls)
		if left == (Left{}) {
			return nil
		}
		if left != told {
			report(left)
			told = left
		}
		s.HandOver(to)
		if pause(ctx, s.clock, windDownPause); ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// closeListeners closes the listening sockets, which are another process's too.
func (s *Server) closeListeners() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for address, l := range s.listeners {
		l.Close()
		delete(s.listeners, address)
	}
}

// windDownAll has all connections that serve no tunnel end in good order, and returns how many there are.
func (d *clients) windDownAll(ctx context.Context, lastCalled bool) (n int) {
	counts := make(chan int, len(d.rooms))
	for loop, room := range d.rooms {
		posted := loop.Post(func() {
			for _, c := range slices.Clone(room.conns) {
				c.windDown(lastCalled)
			}
			counts <- len(room.conns)
		})
		if !posted {
			counts <- 0
		}
	}
	for range d.rooms {
		select {
		case one := <-counts:
			n += one
		case <-ctx.Done():
			return n
		}
	}
	return n
}

// windDown waits for the end of the handshake.
func (a *arrival) windDown(bool) {}

// windDown waits for the PROXY header.
func (i *introduction) windDown(bool) {}

// windDown closes the connection if it has had its last call, and waits for a request that it was not asked yet.
func (c *connection) windDown(lastCalled bool) {
	if lastCalled {
		c.client.CloseKept()
	}
}

// windDown tells the client that the connection ends, once it carries no tunnel.
func (m *multiplexed) windDown(bool) { m.client.Drain() }

// left counts the tunnels that are left, and the handshakes for more.
func (ts *tunnels) left() (l Left) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, t := range ts.live {
		l.Tunnels++
		switch {
		case t.Mode == config.ModeRelay:
			l.Relayed++
		case t.shared:
			l.Streams++
		default:
			l.Secure++
		}
	}
	l.Connections = ts.opening
	return l
}
