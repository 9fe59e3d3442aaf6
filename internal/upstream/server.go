package upstream

import (
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"wstunnel/internal/health"
)

// Server is what the process knows of one server of an upstream. It outlives configurations that keep naming it.
type Server struct {
	network, address string
	health           *health.Member
	active           atomic.Int64 // requests under way, and handshakes, those that wait for their turn too
	tunnels          atomic.Int64
	retries          atomic.Uint64 // requests that went on elsewhere, or here again, since this server failed them
	handshakes       meter
}

// load is what the server has to do now.
func (s *Server) load() int64 { return s.active.Load() + s.tunnels.Load() }

// endpoint is a server as one generation's target uses it.
type endpoint struct {
	*Server
	pool   *Pool
	weight int
	backup bool
	down   bool
	token  string // of the server in sticky cookies; empty where there are none
}

// share is the endpoint's weight, less while it comes back.
func (e *endpoint) share() float64 { return float64(e.weight) * e.health.Share() }

// Place is a tunnel's place at a server. The zero Place is at none.
type Place struct {
	server *Server
	slot   *Slot
}

// Leave gives the place up, once the tunnel has ended.
func (p *Place) Leave() {
	if p.server != nil {
		p.server.tunnels.Add(-1)
	}
	p.slot.Free()
}

// meter spaces out what a server is sent. Its times are nanoseconds on the clock.
type meter struct {
	mu   sync.Mutex
	next int64   // when the next one may go
	free []int64 // times before that whose owners have left, the earliest first
}

// burst is what part of a second's worth may go at once.
const burst = 10

// reserve returns the time at which one more may go, at so many per second: the earliest that nobody has. One that would have to wait for longer than most gets none,
// and false.
func (m *meter) reserve(now time.Duration, perSecond int, most time.Duration) (at time.Duration, ok bool) {
	pace := int64(time.Second) / int64(perSecond)
	ahead := pace * int64(perSecond/burst)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(now)
	fromFree := len(m.free) > 0
	t := max(m.next, int64(now)-ahead)
	if fromFree {
		t = m.free[0]
	}
	switch {
	case t-int64(now) > int64(most):
		return 0, false
	case fromFree:
		m.free = m.free[1:]
	default:
		m.next = t + pace
	}
	return time.Duration(t), true
}

// giveBack lets another one have a time, since its owner does not wait any more.
func (m *meter) giveBack(at time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	i, _ := slices.BinarySearch(m.free, int64(at))
	m.free = slices.Insert(m.free, i, int64(at))
}

// forget drops times that have passed. It is called with mu held.
func (m *meter) forget(now time.Duration) {
	passed, _ := slices.BinarySearch(m.free, int64(now))
	m.free = m.free[passed:]
}

// waiting returns how many have reserved, and wait for their time.
func (m *meter) waiting(now time.Duration, perSecond int) int {
	if perSecond <= 0 {
		return 0
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.forget(now)
	times := int(math.Ceil(max(0, float64(m.next-int64(now))*float64(perSecond)/float64(time.Second)-1)))
	return max(0, times-len(m.free))
}
