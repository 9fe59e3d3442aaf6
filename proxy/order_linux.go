//go:build linux && !portable

package proxy

import (
	"net/netip"
	"sync"
	"time"
)

// The order of first requests. A client that sends requests on several connections at the same time may mean them in that order: a page that
// polls, and posts what it has to say. On a loop they are read in it; but goroutines that become ready together run in any
// order, the last one first as a rule. So the next one is handed over when the one before it is on its way to its backend.
const (
	// orderPatience is how long a request waits for the one before it.
	orderPatience = time.Millisecond
	// orderLength is how many wait for each other at most. More of them at a time are nobody's sequence.
	orderLength = 8
)

// order knows the last request of each client that is on its way. The zero value is ready.
type order struct {
	mu   sync.Mutex
	last map[netip.Addr]*place
}

// place is a request's in the order.
type place struct {
	order  *order
	client netip.Addr
	depth  int
	until  time.Time     // nobody waits for it any longer
	gone   chan struct{} // closed when the request is on its way, or answered
	once   sync.Once
}

// take gives a request its place, and returns the one before it, or nil.
func (o *order) take(client netip.Addr) (own, before *place) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.last == nil {
		o.last = map[netip.Addr]*place{}
	}
	own = &place{order: o, client: client, gone: make(chan struct{})}
	if before = o.last[client]; before != nil && time.Now().After(before.until) {
		before = nil
	}
	if before != nil {
		own.depth = before.depth + 1
	}
	if own.depth == orderLength {
		own.depth, before = 0, nil
	}
	own.until = time.Now().Add(time.Duration(own.depth+1) * orderPatience)
	o.last[client] = own
	return own, before
}

// await waits for the departure of a request, for a while.
func (p *place) await() {
	if p == nil {
		return
	}
	patience := time.NewTimer(time.Until(p.until))
	defer patience.Stop()
	select {
	case <-p.gone:
	case <-patience.C:
	}
}

// leave lets the next one go. It may be called more than once.
func (p *place) leave() {
	p.once.Do(func() {
		close(p.gone)
		p.order.mu.Lock()
		defer p.order.mu.Unlock()
		if p.order.last[p.client] == p {
			delete(p.order.last, p.client)
		}
	})
}
