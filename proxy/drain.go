package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/host"
	"wstunnel/internal/reactor"
)

// Times of a drain.
const (
	// drainPace is the time for each tunnel where the configuration has no spread, and longestSpread the time for all of them.
	drainPace     = 100 * time.Millisecond
	longestSpread = 60 * time.Second
	// drainStep is the shortest time between two tunnels that are closed.
	drainStep = 10 * time.Millisecond
	// retryUpgradeAfter is when a client whose upgrade is refused by a drain may ask again, in seconds.
	retryUpgradeAfter = "5"
	// hurriedClose bounds a closing handshake that is in a hurry.
	hurriedClose = time.Second
)

// drainReason is the text of the Close frames of a drain.
const drainReason = "server is going away"

// DrainScope says what is drained: a site, a server of an upstream, or where it is empty all that there is.
type DrainScope struct {
	// Site is one of the site's hosts as the configuration has them.
	Site string
	// Upstream is a name of the configuration and Server one of its addresses; both or none are set.
	Upstream, Server string
}

func (d DrainScope) String() string {
	switch {
	case d.Site != "":
		return "site " + d.Site
	case d.Upstream != "":
		return "server " + d.Server + " of upstream " + d.Upstream
	}
	return "everything"
}

// holds reports whether a tunnel is in the scope.
func (d DrainScope) holds(t *tunnelInfo) bool {
	return (d.Site == "" || d.Site == t.Site) && (d.Upstream == "" || d.Upstream == t.Upstream && d.Server == t.Backend)
}

// Drain opens no tunnel any more in a scope, and closes those that there are, in random order over the time that the configuration says. It returns how many
// these are, at once. Requests are served on. No reload ends it: EndDrain does.
func (s *Server) Drain(scope DrainScope) (tunnels int, err error) {
	if scope, err = s.known(scope); err != nil {
		return 0, err
	}
	s.setDraining(scope, true)
	found := s.tunnels.where(scope.holds)
	s.log.Info("draining", "what", scope.String(), "tunnels", len(found))
	s.Publish(Event{Kind: EventDrain, Scope: scope})
	go s.tunnels.closeOver(s.ctx, s.clock, found, s.closing(len(found)))
	return len(found), nil
}

// EndDrain takes a drain of the same scope back.
func (s *Server) EndDrain(scope DrainScope) error {
	scope, err := s.known(scope)
	if err != nil {
		return err
	}
	if !s.setDraining(scope, false) {
		return fmt.Errorf("%s is not being drained", scope)
	}
	s.log.Info("drain taken back", "what", scope.String())
	s.Publish(Event{Kind: EventDrainEnded, Scope: scope})
	return nil
}

// Draining returns the scopes that are being drained.
func (s *Server) Draining() []DrainScope {
	return slices.SortedFunc(maps.Keys(*s.drained.Load()), func(a, b DrainScope) int { return cmp.Compare(a.String(), b.String()) })
}

// known returns a scope as tunnels are compared with it: a site by its first host. It fails for what the configuration does not have.
func (s *Server) known(scope DrainScope) (DrainScope, error) {
	gen := s.gen.Load()
	if gen == nil {
		return scope, errors.New("the server has not begun to serve")
	}
	if scope.Site != "" {
		for i := range gen.cfg.Sites {
			if site := &gen.cfg.Sites[i]; slices.Contains(site.Hosts, host.Canonical(scope.Site)) {
				scope.Site = site.Hosts[0]
				return scope, nil
			}
		}
		return scope, fmt.Errorf("no site has the host %q", scope.Site)
	}
	if scope.Upstream == "" && scope.Server == "" {
		return scope, nil
	}
	for i := range gen.cfg.Upstreams {
		u := &gen.cfg.Upstreams[i]
		if u.Name != scope.Upstream {
			continue
		}
		if slices.ContainsFunc(u.Servers, func(server config.Server) bool { return server.Address == scope.Server }) {
			return scope, nil
		}
		return scope, fmt.Errorf("the upstream %q has no server %q", scope.Upstream, scope.Server)
	}
	return scope, fmt.Errorf("there is no upstream %q", scope.Upstream)
}

// setDraining begins or ends a drain, and reports whether that changed anything. It does not when the server stops.
func (s *Server) setDraining(scope DrainScope, draining bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := maps.Clone(*s.drained.Load())
	if s.stopped || next[scope] == draining {
		return false
	}
	if draining {
		next[scope] = true
	} else {
		delete(next, scope)
	}
	s.drained.Store(&next)
	if scope.Upstream != "" {
		s.upstreams.SetAside(scope.Upstream, scope.Server, draining)
	}
	return true
}

// opensNone reports whether no tunnel is to be opened at a site, or at any.
func (s *Server) opensNone(site string) bool {
	drained := *s.drained.Load()
	return len(drained) > 0 && (drained[DrainScope{}] || drained[DrainScope{Site: site}])
}

// closing says how tunnels are closed.
type closing struct {
	code   uint16
	reason string        // the text of the Close frames
	over   time.Duration // the time between the first and the last
	within time.Duration // the time that each has to answer
}

// closing is how the configuration wants a number of tunnels closed.
func (s *Server) closing(tunnels int) closing {
	drain := s.gen.Load().cfg.Drain
	return closing{code: drain.Code, reason: drainReason, over: cmp.Or(drain.Spread, min(longestSpread, time.Duration(tunnels)*drainPace)), within: closeTimeout}
}

// until is how they are closed where all is to be over in a time.
func (c closing) until(left time.Duration) closing {
	c.within = min(c.within, left/2)
	c.over = max(0, min(c.over, left-c.within-min(2*time.Second, left/4)))
	return c
}

// where returns the open tunnels that a condition holds for.
func (ts *tunnels) where(wanted func(*tunnelInfo) bool) (found []closer) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, t := range ts.live {
		if t.conn != nil && wanted(&t.tunnelInfo) {
			found = append(found, t.conn)
		}
	}
	return found
}

// closeOver closes tunnels in random order. When ctx ends, the rest is closed at once.
func (ts *tunnels) closeOver(ctx context.Context, clock *reactor.Clock, all []closer, how closing) {
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	began := clock.Elapsed()
	for i, c := range all {
		due := began + time.Duration(float64(how.over)*float64(i)/float64(len(all)))
		if wait := due - clock.Elapsed(); wait > 0 && ctx.Err() == nil {
			pause(ctx, clock, max(wait, drainStep))
		}
		c.Drain(how.code, how.reason, how.within)
	}
}

// pause waits until a time on the clock has passed, or ctx is done.
func pause(ctx context.Context, clock *reactor.Clock, d time.Duration) {
	passed := make(chan struct{})
	alarm := clock.AfterFunc(d, func() { close(passed) })
	defer alarm.Stop()
	select {
	case <-passed:
	case <-ctx.Done():
	}
}

// drainForGood closes all tunnels, but for movable ones where these are kept, and from now on every new one too, such that all is over when ctx is done.
func (s *Server) drainForGood(ctx context.Context, kept bool) {
	ts := &s.tunnels
	ts.mu.Lock()
	ts.draining = true
	ts.mu.Unlock()
	all := ts.where(func(*tunnelInfo) bool { return true })
	if kept {
		all = slices.DeleteFunc(all, isMovable)
	}
	how := s.closing(len(all))
	if deadline, ok := ctx.Deadline(); ok {
		how = how.until(time.Until(deadline))
	}
	ts.closeOver(s.unhurried, s.clock, all, how)
}

// Hurry has a Shutdown that is under way close the tunnels that are left at once.
func (s *Server) Hurry() {
	s.hurry()
	for _, c := range s.tunnels.where(func(*tunnelInfo) bool { return true }) {
		c.Drain(s.closing(1).code, drainReason, hurriedClose)
	}
}

// drainRemoved closes the tunnels whose route a new configuration does not have any more, if it wants that.
func (s *Server) drainRemoved(next *generation) {
	if !next.cfg.DrainRemoved {
		return
	}
	removed := s.tunnels.where(func(t *tunnelInfo) bool { return !next.table.leadsTo(t) })
	if len(removed) > 0 {
		s.log.Info("draining", "what", "tunnels whose route is gone", "tunnels", len(removed))
		go s.tunnels.closeOver(s.ctx, s.clock, removed, s.closing(len(removed)))
	}
}

// leadsTo reports whether the route of a tunnel is still there: a WebSocket location for its path, with its server. What conditions its request met beside the path
// is not known any more: a location with conditions counts as one that it may have met.
func (t *table) leadsTo(tunnel *tunnelInfo) bool {
	site := t.site(tunnel.Host)
	if site == nil {
		return false
	}
	if len(tunnel.Path) >= maxKept { // which may be its beginning only
		return true
	}
	for _, wanted := range []func(*location) bool{
		func(l *location) bool { return l.When == nil },
		func(l *location) bool { return l.When == nil || l.websocket != nil },
	} {
		l, _, err := site.locations.Find(tunnel.Path, wanted)
		if err == nil && l != nil && l.websocket != nil && l.websocket.Has(tunnel.Backend) {
			return true
		}
	}
	return false
}

// refuseUpgrade refuses a tunnel that is not to be opened now.
func refuseUpgrade() decision {
	return decision{action: refuseRequest, status: http.StatusServiceUnavailable, reason: "no WebSocket is opened here for now", retryAfter: retryUpgradeAfter}
}
