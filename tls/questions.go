package tls

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"wstunnel/internal/config"
)

// How many questions clients may cause: so many at once, and so many a minute after that.
var (
	questionsOfAClient = rate{burst: 20, perMinute: 10}
	questionsInAll     = rate{burst: 200, perMinute: 1200}
)

// maxAskers bounds the clients that are remembered. When there are more, those go that have been quiet, and if that does not help, all.
const maxAskers = 10000

var (
	errClientAsks = errors.New("this client has had too many names asked about")
	errAllAsk     = errors.New("too many names have been asked about")
)

// questions bounds what clients may have the operator's URL asked. It belongs to the process.
type questions struct {
	mu      sync.Mutex
	inAll   bucket
	clients map[netip.Addr]*bucket
}

// permit takes a question from what a client may cause, and from what all may; one whose address is not valid counts among all only.
func (q *questions) permit(now time.Time, client netip.Addr) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	var own *bucket
	if client.IsValid() {
		if own = q.clients[client]; own == nil {
			own = &bucket{}
			q.remember(now, client, own)
		}
		if !own.has(now, questionsOfAClient) {
			return errClientAsks
		}
	}
	if !q.inAll.has(now, questionsInAll) {
		return errAllAsk
	}
	q.inAll.spent++
	if own != nil {
		own.spent++
	}
	return nil
}

func (q *questions) remember(now time.Time, client netip.Addr, b *bucket) {
	if q.clients == nil {
		q.clients = map[netip.Addr]*bucket{}
	}
	if len(q.clients) >= maxAskers {
		for other, b := range q.clients {
			if b.refill(now, questionsOfAClient); b.spent == 0 {
				delete(q.clients, other)
			}
		}
		if len(q.clients) >= maxAskers {
			clear(q.clients)
		}
	}
	q.clients[client] = b
}

// rate is how many of something are allowed at once, and after that.
type rate struct{ burst, perMinute float64 }

// bucket is how much of a rate is used up.
type bucket struct {
	spent float64
	at    time.Time
}

// has reports whether there is one left.
func (b *bucket) has(now time.Time, r rate) bool {
	b.refill(now, r)
	return b.spent+1 <= r.burst
}

func (b *bucket) refill(now time.Time, r rate) {
	b.spent = max(0, b.spent-max(0, now.Sub(b.at).Minutes())*r.perMinute)
	b.at = now
}

// clientOf returns the address that counts as one client, an IPv4 address or an IPv6 network of 64 bits; none for a trusted proxy, which
// stands for many.
func clientOf(conn net.Conn, cfg *config.Config) netip.Addr {
	peer, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	addr := peer.AddrPort().Addr().Unmap().WithZone("")
	for _, proxy := range cfg.TrustedProxies {
		if proxy.Contains(addr) {
			return netip.Addr{}
		}
	}
	if network, err := addr.Prefix(64); err == nil && addr.Is6() {
		return network.Addr()
	}
	return addr
}
