package upstream

import (
	"container/list"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"wstunnel/internal/reactor"
	"wstunnel/internal/session"
)

// Times of the idle connections to a server.
const (
	// idleConnLife is how long a connection waits for its next request, unless the backend says that it waits less.
	idleConnLife = 60 * time.Second
	// nearIdleLife is the same for a backend on this machine, without TLS. A new connection costs next to nothing there; a kept one holds
	// a worker of the backend's, or holds up its stop, since many servers wait for the end of their connections.
	nearIdleLife = time.Second
	// keepAliveMargin is how long before the end of the backend's own patience a connection is closed.
	keepAliveMargin = time.Second
	// surplusLife is how long a connection is kept beyond the configured number.
	surplusLife = 50 * time.Millisecond
	// longestPatience is how long a request waits for a new connection's first byte at most before idle ones are in its way.
	longestPatience = 50 * time.Millisecond
	// mostIdle is how many connections are kept at a moment, of which those above the configured number are closed after surplusLife: a
	// busy server's come and go.
	mostIdle = 128
	// delayFor is how long a server that did not answer is tried after the others.
	delayFor = 10 * time.Second
)

// Pool holds the connections to one server that wait for their next request. It belongs to the process and outlives
// configurations that keep naming its server.
//
// A server may serve one connection at a time with each of a few workers, as Apache's prefork does; one that we keep
// idle holds a worker, while requests of ours wait on new connections that nobody accepts. So each request that has waited for the first byte of
// a new connection for notably longer than kept ones take to answer has one closed in its favour, and another one when it has waited as
// long again.
type Pool struct {
	poolKey
	among        *Upstreams
	clock        *reactor.Clock
	static       netip.AddrPort           // where the server is; not valid where a name has to be looked up, or at a Unix socket
	delayedUntil atomic.Int64             // nanoseconds on the clock, or 0
	language     atomic.Pointer[Language] // what the server said when it was asked; nil before
	asked        atomic.Int64             // when that was, on the clock, or 0

	mu      sync.Mutex
	kept    []*Conn        // oldest first
	waiting list.List      // of time.Time: since when requests wait for a new connection's first byte, or for one more to be closed; the longest first
	pace    time.Duration  // from a request on a kept connection to its first byte, smoothed
	timer   *reactor.Alarm // for tend
	due     time.Time      // when it comes; zero if it does not
	retired bool
}

func newPool(among *Upstreams, key poolKey) *Pool {
	p := &Pool{poolKey: key, among: among, clock: among.clock}
	if key.network == "tcp" {
		p.static, _ = netip.ParseAddrPort(key.address) // which fails for a name
	}
	p.timer = p.clock.Alarm(p.tend)
	return p
}

// delay has the server tried after the others for a while.
func (p *Pool) delay() { p.delayedUntil.Store(int64(p.clock.Elapsed() + delayFor)) }

// putOff returns 1 if the server is to be tried after the others, or 0.
func (p *Pool) putOff() int {
	if until := p.delayedUntil.Load(); until == 0 || int64(p.clock.Elapsed()) > until {
		return 0
	}
	return 1
}

// await notes that a request is about to wait for the first byte of a new connection.
func (p *Pool) await() *list.Element {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.Now()
	if len(p.kept) > 0 {
		p.tendAt(now.Add(p.patience()))
	}
	return p.waiting.PushBack(now)
}

// leave notes that a request does not wait any more. It may be called more than once.
func (p *Pool) leave(place *list.Element) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.waiting.Remove(place)
}

// answered is leave for a request whose server has sent its first byte.
func (p *Pool) answered(place *list.Element) {
	p.leave(place)
	if p.delayedUntil.Load() != 0 {
		p.delayedUntil.Store(0)
	}
}

// patience is how long a request may wait for a new connection's first byte before idle ones are in its way.
func (p *Pool) patience() time.Duration {
	if p.pace == 0 {
		return 5 * time.Millisecond
	}
	return min(2*p.pace+time.Millisecond, longestPatience)
}

// owesRoom reports whether a request has waited for so long that a connection is to be closed in its favour. Its waiting begins anew.
func (p *Pool) owesRoom(now time.Time) bool {
	longest := p.waiting.Front()
	if longest == nil || now.Sub(longest.Value.(time.Time)) < p.patience() {
		return false
	}
	longest.Value = now
	p.waiting.MoveToBack(longest)
	return true
}

// evict closes those that a condition holds for, and returns how many. It is called with mu held.
func (p *Pool) evict(which func(*Conn) bool) int {
	n := len(p.kept)
	p.kept = slices.DeleteFunc(p.kept, func(b *Conn) bool {
		if !which(b) {
			return false
		}
		b.evict()
		return true
	})
	return n - len(p.kept)
}

// evictOldest closes the n oldest ones, and returns how many there were. It is called with mu held.
func (p *Pool) evictOldest(n int) int {
	return p.evict(func(*Conn) bool { n--; return n >= 0 })
}

// take takes out the connection that came last, of those that have been idle for no longer than maxIdle: one of the worker's own if there is one. Another's
// is to be lent.
func (p *Pool) take(worker *session.Worker, maxIdle time.Duration) *Conn {
	if maxIdle <= 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.kept) == 0 {
		return nil
	}
	now, best := p.clock.Now(), -1
	for i, b := range slices.Backward(p.kept) {
		if now.Sub(b.since) > maxIdle || now.After(b.expires) {
			continue
		}
		if b.worker == worker {
			best = i
			break
		}
		if best < 0 {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	b := p.kept[best]
	p.kept = slices.Delete(p.kept, best, best+1)
	b.asked, b.answered, b.firstByteAfter = now, false, 0
	return b
}

// keep keeps a connection, and reports whether it did. The oldest goes where there would be too many.
func (p *Pool) keep(b *Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	b.since = p.clock.Now()
	b.expires = b.since.Add(b.life)
	if b.Reused() {
		p.pace += (min(b.firstByteAfter, longestPatience) - p.pace) / 8
	}
	if p.retired || p.keepAlive == 0 || p.owesRoom(b.since) {
		return false
	}
	if len(p.kept) >= max(p.keepAlive, mostIdle) {
		p.evictOldest(1)
	}
	p.kept = append(p.kept, b)
	next := b.expires
	if len(p.kept) > p.keepAlive {
		next = b.since.Add(surplusLife)
	}
	if longest := p.waiting.Front(); longest != nil {
		next = longest.Value.(time.Time).Add(p.patience())
	}
	p.tendAt(next)
	return true
}

// forget takes out a connection that has ended.
func (p *Pool) forget(b *Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.kept, b); i >= 0 {
		p.kept = slices.Delete(p.kept, i, i+1)
	}
}

// closeOldest closes the connection that has been idle the longest, and reports whether there was one.
func (p *Pool) closeOldest() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.evictOldest(1) > 0
}

// keepAtMost closes the oldest connections beyond n.
func (p *Pool) keepAtMost(n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.evictOldest(len(p.kept) - n)
}

// tendAt makes tend come at a time, if it does not come earlier. It is called with mu held.
func (p *Pool) tendAt(at time.Time) {
	if !p.due.IsZero() && !at.Before(p.due) {
		return
	}
	p.due = at
	p.timer.Set(at.Sub(p.clock.Now()))
}

// tend closes idle connections whose time is up, that are too many or in the way, and comes again when there is more of this to do.
func (p *Pool) tend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.clock.Now()
	p.due = time.Time{}
	surplus := len(p.kept) - p.keepAlive
	p.evict(func(b *Conn) bool {
		if tooMany := surplus > 0 && now.Sub(b.since) >= surplusLife; now.Before(b.expires) && !tooMany && !p.owesRoom(now) {
			return false
		}
		surplus--
		return true
	})
	for _, b := range p.kept {
		if surplus > 0 {
			p.tendAt(b.since.Add(surplusLife))
		} else {
			p.tendAt(b.expires)
		}
	}
	if longest := p.waiting.Front(); longest != nil && len(p.kept) > 0 {
		p.tendAt(longest.Value.(time.Time).Add(p.patience()))
	}
}

func (p *Pool) retire() {
	p.mu.Lock()
	p.retired = true
	p.timer.Stop()
	p.mu.Unlock()
	p.keepAtMost(0)
}

// tlsConfig is that of the handshake with the server.
func (k poolKey) tlsConfig() *tls.Config {
	return &tls.Config{
		ServerName:         k.serverName,
		RootCAs:            k.roots,
		InsecureSkipVerify: !k.verify, // `tls_verify: false`
		MinVersion:         tls.VersionTLS12,
		NextProtos:         []string{"http/1.1"},
	}
}

// IsSilence reports an error of a server that said nothing: it let the time go by, or closed the connection before a byte came.
func IsSilence(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout() ||
		errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
