// Package health knows which servers of an upstream can be used: by what becomes of the requests that go to them, and by checks of its own.
//
// Passive: three failures in a row eject a server for 5 seconds, and each time that it fails again soon for twice as long, up to 5 minutes. Never the last one that
// is up, and never more than half of them. Active: a server is down after some failed checks in a row, and up again after some good ones. One that comes back is
// given its share little by little.
//
// Nothing is ejected before anything of an upstream has answered after the start: at a machine's boot all its servers may come later than this process, and
// the first that is there is to serve at once.
package health

import (
	"context"
	"crypto/tls"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/reactor"
)

// Server says where a server is, and how it is spoken to.
type Server struct {
	Network string // tcp or unix
	Address string // host:port or a socket's path
	// TLS is what checks are made with of a server that speaks TLS; nil for one that does not.
	TLS *tls.Config
	// Host is the Host header of checks whose configuration has none.
	Host string
	// Unused: it is sent nothing (`down: true`). It is not checked, and is none of those that others can be done without for.
	Unused bool
}

// Options say how an upstream's servers are judged.
type Options struct {
	// Check is what asks them in the background; nil for nothing, so that only requests tell.
	Check *config.Check
	// SlowStart is how long a server that comes back is given less than its share; zero: it has all of it at once.
	SlowStart time.Duration
}

// Group is the health of one upstream's servers. It belongs to the process: reloads call [Group.Set] again, and what stays keeps its state. Its methods are safe for
// concurrent use.
type Group struct {
	clock    *reactor.Clock
	log      *slog.Logger
	upstream string
	changed  func(m *Member, up bool)
	ctx      context.Context // ends the checks under way
	cancel   context.CancelFunc
	checks   sync.WaitGroup // under way

	answered atomic.Bool // something has, since the start

	mu      sync.Mutex // guards what follows, and the state of the members
	options Options
	members []*Member
	closed  bool
}

// NewGroup returns the health of an upstream that has no servers yet. What changes is told to changed, on any goroutine or loop, and without a lock held; of two
// changes in one moment the one told last need not be the later one, [Member.Up] is.
func NewGroup(clock *reactor.Clock, log *slog.Logger, upstream string, changed func(m *Member, up bool)) *Group {
	ctx, cancel := context.WithCancel(context.Background())
	return &Group{clock: clock, log: log, upstream: upstream, changed: changed, ctx: ctx, cancel: cancel}
}

// Set says which servers there are and how they are judged. It returns their members in the same order: a server of the same network and address keeps its own.
func (g *Group) Set(o Options, servers []Server) []*Member {
	var changes changes
	defer changes.tell()
	g.mu.Lock()
	defer g.mu.Unlock()
	staying := map[[2]string]*Member{}
	for _, m := range g.members {
		staying[[2]string{m.server.Network, m.server.Address}] = m
	}
	g.options, g.members = o, make([]*Member, 0, len(servers))
	for _, s := range servers {
		key := [2]string{s.Network, s.Address}
		m := staying[key]
		if m == nil {
			m = newMember(g, s.Address)
		}
		delete(staying, key)
		m.server = s
		g.members = append(g.members, m)
	}
	for _, m := range staying {
		m.leave()
	}
	if !g.closed {
		for _, m := range g.members {
			changes.add(m.obey(o))
		}
		changes.add(g.readmit()...)
	}
	return slices.Clone(g.members)
}

// Close ends all checks, and waits for those under way. Nothing changes from now on.
func (g *Group) Close() {
	g.mu.Lock()
	g.closed = true
	for _, m := range g.members {
		m.leave()
	}
	g.mu.Unlock()
	g.cancel()
	g.checks.Wait()
}

// used returns how many servers requests may be sent to. It is called with mu held.
func (g *Group) used() (n int) {
	for _, m := range g.members {
		if !m.server.Unused {
			n++
		}
	}
	return n
}

// up returns how many of those are up. It is called with mu held.
func (g *Group) up() (n int) {
	for _, m := range g.members {
		if m.Up() && !m.server.Unused {
			n++
		}
	}
	return n
}

// ejected returns how many servers are ejected. It is called with mu held.
func (g *Group) ejected() (n int) {
	for _, m := range g.members {
		if m.state.Load()&ejected != 0 && !m.server.Unused {
			n++
		}
	}
	return n
}

// readmit takes ejected servers back if no other is left. It is called with mu held.
func (g *Group) readmit() (all []change) {
	if g.up() > 0 {
		return nil
	}
	for _, m := range g.members {
		if m.state.Load() == ejected {
			all = append(all, m.takeBack("no other server is left"))
		}
	}
	return all
}

// change is a server that went up or down, or nothing.
type change struct {
	m      *Member
	up     bool
	reason string
	unseen bool // it is as it was, and fails its checks
}

// changes are what is to be told once no lock is held.
type changes []change

func (c *changes) add(more ...change) {
	for _, one := range more {
		if one.m != nil {
			*c = append(*c, one)
		}
	}
}

func (c *changes) tell() {
	for _, one := range *c {
		g := one.m.group
		level, text := slog.LevelWarn, "server is down"
		switch {
		case one.unseen:
			text = "server has not answered since the start"
		case one.up:
			level, text = slog.LevelInfo, "server is up"
		}
		g.log.Log(context.Background(), level, text, "upstream", g.upstream, "server", one.m.address, "reason", one.reason)
		if g.changed != nil && !one.unseen {
			g.changed(one.m, one.up)
		}
	}
}
