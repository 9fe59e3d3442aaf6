package upstream

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"wstunnel/internal/config"
	"wstunnel/internal/reactor"
)

const (
	// shortestTTL is how long addresses count at least, whatever the DNS says, and a name whose look-up failed is not looked up again.
	shortestTTL = time.Second
	// lookUpPatience bounds a look-up.
	lookUpPatience = 5 * time.Second
	// longestUnused is after how long a name is forgotten that nobody asks for.
	longestUnused = 10 * time.Minute
)

// names knows the addresses of servers' names. A name is looked up once for all who ask, off the loops; while that goes on, or where it fails, the addresses known before count.
type names struct {
	clock *reactor.Clock
	ctx   context.Context
	dial  func(ctx context.Context, network, address string) (net.Conn, error) // to a name server

	mu    sync.Mutex
	known map[string]*name // by host:port
}

// name is what is known of one. It is guarded by the names' mu.
type name struct {
	addresses []netip.AddrPort // nil before the first look-up
	expires   time.Duration    // on the clock
	asked     time.Duration    // when somebody wanted it last
	next      int              // whose turn it is among the addresses
	looking   bool             // a look-up is under way
	waiting   []func([]unix.Sockaddr, error)
}

func (n *names) init(ctx context.Context, clock *reactor.Clock) {
	n.ctx, n.clock, n.known = ctx, clock, map[string]*name{}
	n.dial = new(net.Dialer).DialContext
}

// find returns the addresses of a server's name, another one first each time. Where they are not known, or have not been looked at for twice as long as they count, it returns
// none, and calls done on the loop, once, unless cancel is called before.
func (n *names) find(loop *reactor.Loop, address string, resolve, timeout time.Duration, done func([]unix.Sockaddr, error)) (at []unix.Sockaddr, cancel context.CancelFunc) {
	if resolve == 0 {
		resolve = config.DefaultResolve
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := n.clock.Elapsed()
	known := n.known[address]
	if known == nil {
		known = &name{}
		n.known[address] = known
		n.forget(now)
	}
	known.asked = now
	if now >= known.expires && !known.looking {
		known.looking = true
		go n.lookUp(address, known, resolve)
	}
	if known.addresses != nil && now < known.expires+resolve {
		return known.inTurn(), nil
	}
	waits := &waiter{loop: loop, done: done}
	waits.alarm = n.clock.AfterFunc(timeout, func() {
		waits.tell(nil, fmt.Errorf("resolving %s: %w", address, os.ErrDeadlineExceeded))
	})
	known.waiting = append(known.waiting, waits.tell)
	return nil, func() { waits.told.Store(true); waits.alarm.Stop() }
}

// waiter is who waits for a look-up.
type waiter struct {
	loop  *reactor.Loop
	done  func([]unix.Sockaddr, error)
	alarm *reactor.Alarm
	told  atomic.Bool
}

// tell tells who waits, once.
func (w *waiter) tell(addresses []unix.Sockaddr, err error) {
	w.loop.Post(func() {
		if !w.told.Swap(true) {
			w.alarm.Stop()
			w.done(addresses, err)
		}
	})
}

// forget forgets names that nobody has asked for in a while. It is called with mu held.
func (n *names) forget(now time.Duration) {
	for address, known := range n.known {
		if !known.looking && now-known.asked > longestUnused {
			delete(n.known, address)
		}
	}
}

// inTurn returns the addresses, another one first each time. It is called with mu held.
func (k *name) inTurn() []unix.Sockaddr {
	at := make([]unix.Sockaddr, len(k.addresses))
	for i := range at {
		at[i] = reactor.Sockaddr(k.addresses[(k.next+i)%len(at)])
	}
	k.next = (k.next + 1) % len(at)
	return at
}

// lookUp looks a name up, and tells those who wait for that.
func (n *names) lookUp(address string, known *name, resolve time.Duration) {
	ctx, cancel := within(n.ctx, n.clock, lookUpPatience)
	defer cancel()
	addresses, ttl, err := n.resolve(ctx, address)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("resolving %s: %w", address, context.Cause(ctx))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	known.looking = false
	if err != nil {
		ttl = shortestTTL
	} else {
		known.addresses = addresses
	}
	known.expires = n.clock.Elapsed() + max(shortestTTL, min(ttl, resolve))
	for _, tell := range known.waiting {
		if known.addresses != nil {
			tell(known.inTurn(), nil)
		} else {
			tell(nil, err)
		}
	}
	known.waiting = nil
}

// resolve asks the system's resolver. The TTL is the shortest that the DNS tells, or a very long one where the addresses come from elsewhere.
func (n *names) resolve(ctx context.Context, address string) (addresses []netip.AddrPort, ttl time.Duration, err error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, 0, err
	}
	seen := &seenTTL{}
	seen.shortest.Store(int64(longestTTL))
	// Elsewhere the system's own resolver knows of more than the DNS, and tells no TTL.
	resolver := net.Resolver{PreferGo: runtime.GOOS == "linux", Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := n.dial(ctx, network, address)
		if packets, ok := conn.(*net.UDPConn); ok {
			return &listeningConn{packets, seen}, err
		}
		return conn, err
	}}
	port, err := resolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return nil, 0, err
	}
	ips, err := resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, 0, err
	}
	for _, ip := range ips {
		addresses = append(addresses, netip.AddrPortFrom(ip.Unmap(), uint16(port)))
	}
	return addresses, time.Duration(seen.shortest.Load()), nil
}

// longestTTL is longer than any that counts.
const longestTTL = 24 * time.Hour

// seenTTL is the shortest TTL of a look-up's answers.
type seenTTL struct{ shortest atomic.Int64 }

func (s *seenTTL) note(ttl time.Duration) {
	for {
		least := s.shortest.Load()
		if int64(ttl) >= least || s.shortest.CompareAndSwap(least, int64(ttl)) {
			return
		}
	}
}

// listeningConn is a connection to a name server whose answers are looked at on their way to the resolver, which does not tell their TTL.
type listeningConn struct {
	*net.UDPConn
	seen *seenTTL
}

// Read reads an answer.
func (c *listeningConn) Read(p []byte) (int, error) {
	n, err := c.UDPConn.Read(p)
	if err == nil {
		if ttl, ok := shortestIn(p[:n]); ok {
			c.seen.note(ttl)
		}
	}
	return n, err
}

// shortestIn returns the shortest TTL of the addresses, and of the aliases that lead to them, in an answer of the DNS (RFC 1035, section 4.1).
func shortestIn(message []byte) (ttl time.Duration, ok bool) {
	var p dnsmessage.Parser
	if _, err := p.Start(message); err != nil || p.SkipAllQuestions() != nil {
		return 0, false
	}
	for {
		h, err := p.AnswerHeader()
		if err != nil {
			return ttl, ok
		}
		switch h.Type {
		case dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeCNAME:
			if one := time.Duration(h.TTL) * time.Second; !ok || one < ttl {
				ttl, ok = one, true
			}
		}
		if p.SkipAnswer() != nil {
			return ttl, ok
		}
	}
}
