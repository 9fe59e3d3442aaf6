package upstream

import (
	"cmp"
	"container/list"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"wstunnel/internal/config"
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
	target   *config.Target // the last one
	most     map[string]int // by the server's address; none or zero: no bound
	used     map[string]int // likewise
	queue    list.List      // of *ticket, the oldest first
}

// ticket is a request in the queue.
type ticket struct {
	attempt attempt // as it was; it does not change meanwhile
	then    func(*endpoint, *Slot, error)
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

// set changes the limit to that of a target; requests that wait go on as far as it lets them.
func (l *limit) set(target *config.Target) {
	most := map[string]int{}
	for _, s := range target.Servers {
		most[s.Address] = cmp.Or(s.MaxConnections, target.MaxConnections)
	}
	l.mu.Lock()
	l.target, l.most = target, most
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

// reserve takes a slot of the server that an attempt chooses. Where all that it may choose have as many connections as they may, it returns no server, and calls then
// once, from elsewhere, with one or with an error; unless withdraw is called first. With none set there is no server to choose.
func (l *limit) reserve(a *attempt, then func(*endpoint, *Slot, error)) (e *endpoint, s *Slot, withdraw func(), none bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e, s, none = l.take(a)
	if e != nil || none {
		return e, s, nil, none
	}
	t := &ticket{attempt: *a, then: then}
	place := l.queue.PushBack(t)
	wait, bound := l.target.Queue, "as many as max_connections lets be"
	if l.target.MaxConnections > 0 {
		bound = strconv.Itoa(l.target.MaxConnections)
	}
	t.timer = l.clock.AfterFunc(wait, func() {
		if l.withdraw(place) {
			then(nil, nil, fmt.Errorf("%w within %s: %s to each server of the upstream %s", ErrNoTurn, wait, bound, l.upstream))
		}
	})
	return nil, nil, func() { l.withdraw(place) }, false
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

// take takes a slot of the server that an attempt chooses, if one has room. It is called with mu held.
func (l *limit) take(a *attempt) (e *endpoint, s *Slot, none bool) {
	if e, none = a.choose(l.hasRoom); e == nil {
		return nil, nil, none
	}
	l.used[e.address]++
	return e, &Slot{limit: l, server: e.address}, false
}

// hasRoom reports whether a server may have one connection more. It is called with mu held.
func (l *limit) hasRoom(e *endpoint) bool {
	most := l.most[e.address]
	return most == 0 || l.used[e.address] < most
}

// queued returns how many wait.
func (l *limit) queued() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.queue.Len()
}

// grant gives a slot to the first in the queue for whom there is one, or tells him that no server is left. It returns what tells him, for when mu is not held any more.
func (l *limit) grant() (tell func()) {
	for place := l.queue.Front(); place != nil; place = place.Next() {
		t := place.Value.(*ticket)
		e, s, none := l.take(&t.attempt)
		if e == nil && !none {
			continue
		}
		then := t.then
		t.then = nil
		t.timer.Stop()
		l.queue.Remove(place)
		if none {
			return func() { then(nil, nil, t.attempt.err()) }
		}
		return func() { then(e, s, nil) }
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
	most := s.limit.most[s.server]
	if most == 0 {
		return mostIdle
	}
	return max(0, most-s.limit.used[s.server])
}
