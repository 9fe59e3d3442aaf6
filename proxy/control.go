package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"wstunnel/internal/tunnel"
)

// TunnelStatus is what is known of a live tunnel.
type TunnelStatus struct {
	ID uint64
	// Key is what it is known by outside: the backend has it as X-Wstunnel-Id.
	Key            string
	Site, Location string // the site's first host, the location's path as written
	Host, Path     string // as the client asked for them, 256 bytes of each at most
	// Client is address and port, or the address alone of a client that a trusted proxy names.
	Client      string
	Backend     string
	Subprotocol string
	Mode        string // tunnel or relay
	Secure      bool   // the client is connected over TLS
	Since       time.Time
	User        string // as the backend has said; empty for none
	Groups      []string
	Pushable    bool // messages may be put into it, as far as is known without asking its loop
	tunnel.Stats
}

// TunnelFilter says which tunnels are meant. What is empty, or zero, means all.
type TunnelFilter struct {
	Site, User, Group string
	Client            netip.Addr
	After             uint64 // those with greater numbers only
	Limit             int    // so many at most
	// Among are the sites of which any are meant; nil for all.
	Among []string
}

// ErrNoTunnel is said of a tunnel that is not there.
var ErrNoTunnel = errors.New("no such tunnel")

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

// TunnelsOf returns the number of live tunnels of some sites, by their first hosts.
func (s *Server) TunnelsOf(sites []string) (n int) {
	s.tunnels.mu.Lock()
	defer s.tunnels.mu.Unlock()
	for _, t := range s.tunnels.live {
		if slices.Contains(sites, t.Site) {
			n++
		}
	}
	return n
}

// Tunnels returns all live tunnels, the oldest first. It waits for none of them.
func (s *Server) Tunnels() []TunnelStatus {
	all, _ := s.List(TunnelFilter{})
	return all
}

// listAtOnce is how many tunnels are described before others, who open or end some, have their turn.
const listAtOnce = 256

// List returns the live tunnels that are meant, the oldest first, and whether there are more than the limit. It waits for none of them.
func (s *Server) List(filter TunnelFilter) (page []TunnelStatus, more bool) {
	found := s.tunnels.matching(&filter)
	slices.SortFunc(found, func(a, b *liveTunnel) int { return cmp.Compare(a.id, b.id) })
	if more = filter.Limit > 0 && len(found) > filter.Limit; more {
		found = found[:filter.Limit]
	}
	page = make([]TunnelStatus, 0, len(found))
	for some := range slices.Chunk(found, listAtOnce) {
		s.tunnels.mu.Lock()
		for _, t := range some {
			page = append(page, t.status())
		}
		s.tunnels.mu.Unlock()
	}
	return page, more
}

// matching returns the open tunnels that are meant.
func (ts *tunnels) matching(f *TunnelFilter) (found []*liveTunnel) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	add := func(t *liveTunnel) {
		if t.conn != nil && t.id > f.After && t.isOf(f.Site, f.Among) && (!f.Client.IsValid() || t.address() == f.Client) {
			found = append(found, t)
		}
	}
	switch {
	case f.User != "":
		for m := ts.users[f.User]; m != nil; m = m.next {
			if f.Group == "" || slices.Contains(m.tunnel.tags().Groups, f.Group) {
				add(m.tunnel)
			}
		}
	case f.Group != "":
		for m := ts.groups[f.Group]; m != nil; m = m.next {
			add(m.tunnel)
		}
	default:
		for _, t := range ts.live {
			add(t)
		}
	}
	return found
}

// isOf reports whether the tunnel is of a site, or of any for an empty one, and of one among others, or of any for nil.
func (t *liveTunnel) isOf(site string, among []string) bool {
	return (site == "" || t.Site == site) && (among == nil || slices.Contains(among, t.Site))
}

// Tunnel returns the tunnel that a key names. It fails with [ErrGone] for one that may have been, and with [ErrNoTunnel].
func (s *Server) Tunnel(key string) (TunnelStatus, error) {
	s.tunnels.mu.Lock()
	defer s.tunnels.mu.Unlock()
	t, err := s.tunnels.known(key)
	if err != nil {
		return TunnelStatus{}, err
	}
	return t.status(), nil
}

// status describes a tunnel. It is called with mu held.
func (t *liveTunnel) status() TunnelStatus {
	is := t.tags()
	var stats tunnel.Stats
	if t.conn != nil {
		stats = t.conn.Stats()
	}
	return TunnelStatus{
		ID: t.id, Key: t.key(), Site: t.Site, Location: t.Location, Host: t.Host, Path: t.Path, Client: t.client(), Backend: t.Backend,
		Subprotocol: t.Subprotocol, Mode: t.Mode.String(), Secure: t.secure, Since: t.since, Stats: stats,
		User: is.User, Groups: is.Groups, Pushable: t.unpushable == pushable && !stats.ToClient.Opaque,
	}
}

// address is the client's, or the one that a trusted proxy names.
func (t *liveTunnel) address() netip.Addr {
	if t.Named.IsValid() {
		return t.Named
	}
	return t.remote.Addr()
}

// Kick is [Server.CloseTunnel] for the tunnel that a key names. It fails as [Server.Tunnel] does, too.
func (s *Server) Kick(key string, code uint16, reason string) error {
	t, err := s.Tunnel(key)
	if err != nil {
		return err
	}
	return s.CloseTunnel(t.ID, code, reason)
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

// find returns a live connection, or nil.
func (ts *tunnels) find(id uint64) closer {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if t := ts.live[id]; t != nil {
		return t.conn
	}
	return nil
}
