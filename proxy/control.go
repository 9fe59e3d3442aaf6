package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

// TunnelStatus is what is known of a live tunnel.
type TunnelStatus struct {
	ID             uint64
	Site, Location string // the site's first host, the location's path as written
	Host, Path     string // as the client asked for them, 256 bytes of each at most
	// Client is address and port, or the address alone of a client that a trusted proxy names.
	Client      string
	Backend     string
	Subprotocol string
	Mode        string // tunnel or relay
	Secure      bool   // the client is connected over TLS
	Since       time.Time
	tunnel.Stats
}

// Errors of the calls that are for one tunnel.
var (
	ErrNoTunnel = errors.New("no such tunnel")
	ErrRelayed  = errors.New("frames can't be put into a relayed connection")
)

// Ready reports whether new clients are to be sent here: from the first configuration on, until a drain of everything or a stop begins. It is safe for
// concurrent use.
func (s *Server) Ready() bool {
	return s.gen.Load() != nil && s.opening.Err() == nil && !(*s.drained.Load())[DrainScope{}]
}

// TunnelCount returns the number of live tunnels.
func (s *Server) TunnelCount() int {
	s.tunnels.mu.Lock()
	defer s.tunnels.mu.Unlock()
	return len(s.tunnels.live)
}

// Tunnels returns all live tunnels, the oldest first. It waits for none of them.
func (s *Server) Tunnels() []TunnelStatus {
	s.tunnels.mu.Lock()
	all := make([]TunnelStatus, 0, len(s.tunnels.live))
	for _, t := range s.tunnels.live {
		if t.conn == nil {
			continue
		}
		all = append(all, TunnelStatus{
			ID: t.id, Site: t.Site, Location: t.Location, Host: t.Host, Path: t.Path, Client: t.client(), Backend: t.Backend,
			Subprotocol: t.Subprotocol, Mode: t.Mode.String(), Secure: t.secure, Since: t.since, Stats: t.conn.Stats(),
		})
	}
	s.tunnels.mu.Unlock()
	slices.SortFunc(all, func(a, b TunnelStatus) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

// CloseTunnel starts a closing handshake with both ends of a tunnel, with a code that RFC 6455, section 7.4, lets stand in a frame, and a
// reason. It returns at once; ends that do not answer are closed after 5 seconds.
func (s *Server) CloseTunnel(id uint64, code uint16, reason string) error {
	if !sendable(code) {
		return fmt.Errorf("close code %d may not stand in a frame; 1000 to 1003, 1007 to 1014 and 3000 to 4999 may", code)
	}
	conn := s.tunnels.find(id)
	if conn == nil {
		return ErrNoTunnel
	}
	conn.Close(code, reason, tunnel.CauseOrder, closeTimeout)
	return nil
}

func sendable(code uint16) bool {
	return 1000 <= code && code <= 1003 || 1007 <= code && code <= 1014 || 3000 <= code && code < 5000
}

// Inject puts a frame into the stream to one side of a tunnel, at the next place where RFC 6455 allows it: a ping or pong between two
// frames, a text or binary message between two messages. It fails as [tunnel.Tunnel.Inject] does, and returns at once.
func (s *Server) Inject(id uint64, to tunnel.Side, op ws.Opcode, payload []byte) error {
	switch conn := s.tunnels.find(id).(type) {
	case nil:
		return ErrNoTunnel
	case *tunnel.Tunnel:
		return conn.Inject(to, op, payload)
	default:
		return ErrRelayed
	}
}

// find returns a live connection, or nil.
func (ts *tunnels) find(id uint64) closer {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.live[id]; t != nil {
		return t.conn
	}
	return nil
}
