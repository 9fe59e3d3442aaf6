package upstream

import (
	"container/list"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"wstunnel/internal/reactor"
)

// ErrNoTurn says that a request has waited for a connection as long as the upstream's queue lets it.
var ErrNoTurn = errors.New("no connection became free")

// limit keeps the connections to each server of an upstream to max_connections. Requests beyond it wait for their turn. It belongs to
// the process, so that a reload does not forget the connections that are open. Idle ones are not counted: they make room.
type limit struct {
	clock    *reactor.Clock
	upstream string
	mu       sync.Mutex
	max      int
	patience time.Duration
	used     map[string]int // by the server's address
	queue    list.List      // of *ticket, the oldest first
}

// ticket is a request in the queue.
type ticket struct {
	servers []*Pool // any of them will do
	then    func(*Pool, *Slot, error)
	timer   *reactor.Alarm
}

// Slot is the right to have one connection to a server; nil where there is no limit.
type Slot struct {
	limit  *limit
	server string
	freed  atomic.Bool
}

func newLimit(clock *reactor.Clock, upstream string) *limit {
	return &limit{clock: clock, upstream: upstream, used: map[string]int{}}
}

// set changes the limit; requests that wait go on as far as it lets them.
func (l *limit) set(most int, patience time.Duration) {
	l.mu.Lock()
	l.max, l.patience = most, patience
	var granted []func()
	for {
		next := l.grant()
		if next == nil {
			break
		}
		granted = append(granted, next)
	}
	l.mu.Unlock()
	for _, tell := range granted {
		tell()
	}
}

// reserve is what [attempt.reserve] says.
func (l *limit) reserve(servers []*Pool, then func(*Pool, *Slot, error)) (p *Pool, s *Slot, withdraw func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p, s := l.take(servers); p != nil {
		return p, s, nil
	}
	t := &ticket{servers: servers, then: then}
	place := l.queue.PushBack(t)
	wait, most := l.patience, l.max
	t.timer = l.clock.AfterFunc(wait, func() {
		if l.withdraw(place) {
			then(nil, nil, fmt.Errorf("%w within %s: %d to each server of the upstream %s", ErrNoTurn, wait, most, l.upstream))
		}
	})
	return nil, nil, func() { l.withdraw(place) }
}

// withdraw takes a ticket out of the queue, and reports whether it was still there.
func (l *limit) withdraw(place *list.Element) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := place.Value.(*ticket)
	t.timer.Stop()
	waiting := t.then != nil
	if waiting {
		t.then = nil
		l.queue.Remove(place)
	}
	return waiting
}

// take takes a slot of the first server that has one.
func (l *limit) take(servers []*Pool) (*Pool, *Slot) {
	for _, p := range servers {
		if l.used[p.address] < l.max {
			l.used[p.address]++
			return p, &Slot{limit: l, server: p.address}
		}
	}
	return nil, nil
}

// grant gives a slot to the first in the queue for whom there is one. It returns what tells him, for when mu is not held any more.
func (l *limit) grant() (tell func()) {
	for place := l.queue.Front(); place != nil; place = place.Next() {
		t := place.Value.(*ticket)
		if p, s := l.take(t.servers); p != nil {
			then := t.then
			t.then = nil
			t.timer.Stop()
			l.queue.Remove(place)
			return func() { then(p, s, nil) }
		}
	}
	return nil
}

// Free gives the slot to whoever waits for it.
func (s *Slot) Free() {
	if s == nil || s.freed.Swap(true) {
		return
	}
	l := s.limit
	l.mu.Lock()
	if l.used[s.server]--; l.used[s.server] == 0 {
		delete(l.used, s.server)
	}
	tell := l.grant()
	l.mu.Unlock()
	if tell != nil {
		tell()
	}
}

// spare returns how many connections to the server may be idle beside those in use.
func (s *Slot) spare() int {
	s.limit.mu.Lock()
	defer s.limit.mu.Unlock()
	return max(0, s.limit.max-s.limit.used[s.server])
}
