package proxy

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wstunnel/internal/tunnel"
)

// EventKind is what has happened.
type EventKind string

// What happens to tunnels, and to the server.
const (
	EventOpened  EventKind = "opened"
	EventClosed  EventKind = "closed"
	EventJoined  EventKind = "joined"  // a group
	EventLeft    EventKind = "left"    // a group
	EventArrived EventKind = "arrived" // from the process before, alive
	EventMoved   EventKind = "moved"   // to the process that comes next, alive

	EventReloaded      EventKind = "reloaded"
	EventReloadFailed  EventKind = "reload_failed"
	EventDrain         EventKind = "drain"
	EventDrainEnded    EventKind = "drain_ended"
	EventUpgrade       EventKind = "upgrade"
	EventUpgradeFailed EventKind = "upgrade_failed"
	EventStopping      EventKind = "stopping"
	EventServerUp      EventKind = "server_up"
	EventServerDown    EventKind = "server_down"
)

// Event is one thing that has happened. It is not modified.
type Event struct {
	Kind EventKind
	Time time.Time
	// Tunnel is the one that it has happened to, as it was then; nil for what has happened to the server.
	Tunnel *TunnelStatus
	Group  string         // that was joined or left
	Result *tunnel.Result // how it has ended; nil for one that has not

	Scope            DrainScope
	Upstream, Server string
	Reason           string   // of an upgrade: the version
	Errors           []string // of what has failed
}

// concerns reports whether an event is about one of some sites. What is about the whole server is so about none.
func (e *Event) concerns(sites []string) bool {
	if e.Tunnel != nil {
		return slices.Contains(sites, e.Tunnel.Site)
	}
	return e.Scope.Site != "" && slices.Contains(sites, e.Scope.Site)
}

const (
	// eventsKept is how many events wait for those who have not taken them yet.
	eventsKept = 4096
	// eventsAtOnce is how many of them are taken at a time.
	eventsAtOnce = 256
)

// events hands out what happens to whoever has subscribed. What is kept of it they all share, so that many of them need no more memory than one, and nobody waits for
// any of them: who has not taken an event when another one needs its place has missed it.
type events struct {
	subscribers atomic.Int32

	mu   sync.Mutex
	kept []*Event // a ring; nil while nobody has subscribed
	next uint64   // the number of the next event
	all  []*Subscription
}

// Subscription is somebody who wants to know what happens.
type Subscription struct {
	events *events
	sites  []string      // nil for all, and the server
	wake   chan struct{} // has something when there is something to take
	next   uint64        // the number of the first event that is not taken
	missed int
}

// Subscribe returns what happens from now on: to the tunnels of some sites, by their first hosts, or, where there are none, to all and to the server. It has to be closed.
func (s *Server) Subscribe(sites []string) *Subscription {
	h := &s.tunnels.events
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.kept == nil {
		h.kept = make([]*Event, eventsKept)
	}
	sub := &Subscription{events: h, sites: sites, wake: make(chan struct{}, 1), next: h.next}
	h.all = append(h.all, sub)
	h.subscribers.Add(1)
	return sub
}

// Close ends it.
func (s *Subscription) Close() {
	h := s.events
	h.mu.Lock()
	defer h.mu.Unlock()
	i := slices.Index(h.all, s)
	if i < 0 {
		return
	}
	h.all = slices.Delete(h.all, i, i+1)
	h.subscribers.Add(-1)
	if len(h.all) == 0 {
		h.kept = nil
	}
}

// Next waits until something has happened, and returns it: some events, and how many were missed before them. It fails when ctx is done. One goroutine may call it.
func (s *Subscription) Next(ctx context.Context) (missed int, some []*Event, err error) {
	for {
		if missed, some = s.take(); missed > 0 || len(some) > 0 {
			return missed, some, nil
		}
		select {
		case <-s.wake:
		case <-ctx.Done():
			if missed, some = s.take(); missed > 0 || len(some) > 0 {
				return missed, some, nil
			}
			return 0, nil, ctx.Err()
		}
	}
}

// take returns what there is.
func (s *Subscription) take() (missed int, some []*Event) {
	h := s.events
	h.mu.Lock()
	defer h.mu.Unlock()
	missed, s.missed = s.missed, 0
	for s.next < h.next && len(some) < eventsAtOnce {
		if e := h.kept[s.next%eventsKept]; s.wants(e) {
			some = append(some, e)
		}
		s.next++
	}
	return missed, some
}

func (s *Subscription) wants(e *Event) bool { return s.sites == nil || e.concerns(s.sites) }

// wanted reports whether anybody wants to know what happens: all that an event costs where nobody does.
func (h *events) wanted() bool { return h.subscribers.Load() > 0 }

// publish hands an event out. It waits for nobody.
func (h *events) publish(e *Event) {
	e.Time = time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.kept == nil {
		return
	}
	place := &h.kept[h.next%eventsKept]
	for _, s := range h.all {
		if h.next-s.next == eventsKept { // it has yet to take the one whose place this is
			s.next++
			if s.wants(*place) {
				s.missed++
			}
		}
		if s.wants(e) {
			select {
			case s.wake <- struct{}{}:
			default:
			}
		}
	}
	*place = e
	h.next++
}

// Publish tells those who have subscribed of something that has happened to the server.
func (s *Server) Publish(e Event) {
	if s.tunnels.events.wanted() {
		kept := e // so that nothing is allocated where nobody wants it
		s.tunnels.events.publish(&kept)
	}
}

// tell publishes what has happened to a tunnel. It is called with mu held.
func (t *liveTunnel) tell(e Event) {
	status := t.status()
	if r := e.Result; r != nil {
		status.ToBackend, status.ToClient = r.ToBackend, r.ToClient
	}
	e.Tunnel = &status
	t.tunnels.events.publish(&e)
}

// tellEnd publishes that a tunnel has ended. It is called with mu held.
func (t *liveTunnel) tellEnd(r *tunnel.Result) {
	switch moved := r.Cause == tunnel.CauseMoved; {
	case moved && t.conn == nil: // it was never here
	case moved:
		t.tell(Event{Kind: EventMoved})
	default:
		if t.conn == nil { // so quick that its opening is still to be told
			t.tell(Event{Kind: EventOpened})
		}
		t.tell(Event{Kind: EventClosed, Result: r})
	}
}
