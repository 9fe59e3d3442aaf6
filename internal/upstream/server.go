package upstream

import (
	"math"
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

// meter spaces out what a server is sent.
type meter struct {
	next atomic.Int64 // when the next one may go, in nanoseconds on the clock
}

// burst is what part of a second's worth may go at once.
const burst = 10

// reserve returns how long one more has to wait, at so many per second, after all that have reserved before. One that would wait for longer than most gets no
// place, and false.
func (m *meter) reserve(now time.Duration, perSecond int, most time.Duration) (wait time.Duration, ok bool) {
	pace := int64(time.Second) / int64(perSecond)
	ahead := pace * int64(perSecond/burst)
	for {
		next := m.next.Load()
		at := max(next, int64(now)-ahead)
		wait = max(0, time.Duration(at)-now)
		if wait > most {
			return wait, false
		}
		if m.next.CompareAndSwap(next, at+pace) {
			return wait, true
		}
	}
}

// waiting returns how many have reserved, and wait for their time.
func (m *meter) waiting(now time.Duration, perSecond int) int {
	if perSecond <= 0 {
		return 0
	}
	return int(math.Ceil(max(0, float64(m.next.Load()-int64(now))*float64(perSecond)/float64(time.Second)-1)))
}
