package upstream

import (
	"container/list"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"wstunnel/internal/reactor"
	"wstunnel/internal/session"
)

// Asker is who a connection to a server is for. It is told on its loop.
type Asker interface {
	// Introduction returns what a new connection begins with, before any handshake.
	Introduction() []byte
	// Connected brings a connection, which is the asker's to release or to close.
	Connected(c *Conn)
	// Unreachable says that no server could be connected with.
	Unreachable(err error)
}

// Needs says what a connection is to be like.
type Needs struct {
	// MaxIdle is how long one that was kept may have been idle; zero: a new one is to be made.
	MaxIdle time.Duration
	// Connect bounds the making of a new one, its TLS handshake included.
	Connect time.Duration
	// Upgrade: it is to become a tunnel's. It is counted as that, and its slot stays with the way.
	Upgrade bool
	// Patience is how long an Upgrade may wait for its time, within handshakes_per_second.
	Patience time.Duration
	// Choice decides which server is asked.
	Choice
}

// MaxIdle of [Needs].
const (
	// Fresh is how long a connection may have been idle to carry a request that can't be sent twice: the backend may be closing it at this moment.
	Fresh = 2 * time.Second
	// Any lets a request that can be sent again have any connection.
	Any = idleConnLife
)

// Way is how a request gets to a server of an upstream, from one to the next until one can be connected with. It belongs to the loop of its client. The zero Way
// leads nowhere.
type Way struct {
	asker  Asker
	client *reactor.Conn
	worker *session.Worker
	needs  Needs
	left   bool // for good

	servers   attempt
	withdraw  func()             // leaves the queue of max_connections; nil where there is none
	lookUp    context.CancelFunc // ends the wait for a name's addresses, or nil
	dialing   *reactor.Dialing   // nil before there is an address
	shaking   *reactor.Conn      // in its TLS handshake
	connectBy time.Duration      // on the loop's clock
	at        *endpoint          // the server whose turn it is, or was last
	pool      *Pool              // its pool
	active    bool               // it is counted as active there, and no connection is
	wait      *list.Element      // in that pool
	// Slot is the right to one of that server's connections, while no connection has it; nil where there is no limit.
	Slot *Slot

	timer    reactor.Timer // of a wait for a handshake's time, or for a server to come back
	due      time.Duration // when its handshake may go, on the process's clock; zero while it does not wait for that
	held     *list.Element // in the upstream's room; nil while it does not wait there
	heldTill time.Duration // on the loop's clock; zero before it waited there
	repeats  bool          // it is counted among the requests that are repeated
}

// Begin begins with the server of the upstream whose turn it is, on behalf of a client. It may tell at once. It can be begun again.
func (w *Way) Begin(u *Upstream, asker Asker, client *reactor.Conn, worker *session.Worker, needs Needs) {
	w.Leave()
	w.asker, w.client, w.worker, w.needs, w.left = asker, client, worker, needs, false
	w.servers, w.heldTill = attempt{upstream: u, choice: needs.Choice}, 0
	w.timer.On = w
	w.next()
}

// Server returns the address of the server that was tried last, or an empty one.
func (w *Way) Server() string {
	if w.at == nil {
		return ""
	}
	return w.at.address
}

// Token returns what names the server that was tried last in sticky cookies; nothing where there are none, or where the client has it already.
func (w *Way) Token() string {
	if w.at == nil || w.at.token == w.needs.Sticky {
		return ""
	}
	return w.at.token
}

// Leave ends what is under way. It may be called more than once.
func (w *Way) Leave() {
	w.left = true
	w.leaveServer()
	if w.repeats {
		w.repeats = false
		w.servers.upstream.balancer.retrying.Add(-1)
	}
}

func (w *Way) leaveServer() {
	if w.withdraw != nil {
		w.withdraw()
	}
	if w.lookUp != nil {
		w.lookUp()
	}
	w.dialing.Cancel()
	if w.shaking != nil {
		w.shaking.Close()
	}
	if w.wait != nil {
		w.pool.leave(w.wait)
		w.count(-1)
	}
	if w.held != nil {
		w.room().leave(w.held)
	}
	if w.timer.On != nil {
		w.client.Loop().Stop(&w.timer)
	}
	if w.due > 0 {
		w.at.handshakes.giveBack(w.due)
		w.due = 0
	}
	w.withdraw, w.lookUp, w.dialing, w.shaking, w.wait, w.held = nil, nil, nil, nil, nil, nil
	w.countOut()
	w.Slot.Free()
	w.Slot = nil
}

// countOut has the server no longer count the request.
func (w *Way) countOut() {
	if w.active {
		w.active = false
		w.at.active.Add(-1)
	}
}

// Place returns the place at the server that the tunnel has which the connection becomes. From now on it is the tunnel's to leave.
func (w *Way) Place() Place {
	p := Place{w.at.Server, w.Slot}
	w.at.tunnels.Add(1)
	w.Slot = nil
	w.countOut()
	return p
}

// Refused goes on to the next server, since the one that was connected with said nothing.
func (w *Way) Refused(err error) {
	w.Broke(err)
	w.servers.said = true
	w.goOn(err)
}

// Broke notes that the server that was connected with broke off without a word, or before its answer was whole.
func (w *Way) Broke(err error) {
	w.pool.delay()
	w.at.health.Failed(err)
}

// MayRepeat reports whether a request that was sent to the server, which broke off, may be repeated: there is another one, or one is waited for, and not too many are being
// repeated. If so, [Way.Repeat] has to follow.
func (w *Way) MayRepeat() bool {
	u := w.servers.upstream
	others := w.servers
	others.failed(w.at, nil)
	if _, none := others.choose(nil); none && u.Target.Hold == 0 {
		return false
	}
	if !w.repeats {
		w.repeats = u.mayRetry()
	}
	return w.repeats
}

// Repeat is Refused for a request that was sent. It goes on a new connection.
func (w *Way) Repeat(err error) {
	w.at.retries.Add(1)
	w.needs.MaxIdle = 0
	w.Refused(err)
}

// Diagnose adds to the error of the server, which broke off without a word, what it looks like. It takes a while.
func (w *Way) Diagnose() func(err error) error {
	p, ctx := w.pool, w.pool.among.ctx
	return func(err error) error { return p.diagnose(ctx, err) }
}

// goOn goes on to the next server.
func (w *Way) goOn(err error) {
	w.leaveServer()
	w.servers.failed(w.at, err)
	w.next()
}

// failed is goOn for a server that can't be connected with.
func (w *Way) failed(what string, err error) {
	if IsSilence(err) {
		w.pool.delay()
	}
	if !isOurs(err) {
		w.at.health.Failed(err)
	}
	w.goOn(fmt.Errorf("%s %s: %w", what, w.at.address, err))
}

// next goes to the next server, when there is a turn for it.
func (w *Way) next() {
	u := w.servers.upstream
	if u.limit == nil {
		if e, _ := w.servers.choose(nil); e != nil {
			w.turn(e, nil, nil)
		} else {
			w.exhausted()
		}
		return
	}
	e, s, withdraw, none := u.limit.reserve(&w.servers, func(e *endpoint, s *Slot, err error) {
		posted := w.client.Loop().Post(func() { w.client.Do(func() { w.turn(e, s, err) }) })
		if !posted {
			s.Free()
		}
	})
	switch w.withdraw = withdraw; {
	case none:
		w.exhausted()
	case e != nil:
		w.turn(e, s, nil)
	}
}

// exhausted ends the way, since no server is left, or waits for one to come back.
func (w *Way) exhausted() {
	u, now := w.servers.upstream, w.client.Loop().Now()
	if hold := u.Target.Hold; hold > 0 && w.servers.mayPass() {
		scout := w.heldTill > 0
		if !scout {
			w.heldTill = now + hold
		}
		if now < w.heldTill {
			w.held = w.room().enter(w.tryAgain, scout)
			w.client.Loop().Set(&w.timer, w.heldTill-now)
			return
		}
	}
	w.asker.Unreachable(w.servers.err())
}

func (w *Way) room() *room { return w.servers.upstream.balancer.room }

// tryAgain has all servers tried again. It is called on any goroutine.
func (w *Way) tryAgain() {
	w.client.Loop().Post(func() {
		w.client.Do(func() {
			if w.left || w.held == nil {
				return
			}
			w.room().leave(w.held)
			w.held = nil
			w.client.Loop().Stop(&w.timer)
			w.servers.again()
			w.next()
		})
	})
}

// Expired ends a wait.
func (w *Way) Expired() {
	w.client.Do(func() {
		switch {
		case w.left:
		case w.held != nil:
			w.room().leave(w.held)
			w.held = nil
			w.asker.Unreachable(w.servers.err())
		default:
			w.due = 0
			w.connect()
		}
	})
}

// turn gets a connection to a server, when it is time for it.
func (w *Way) turn(e *endpoint, s *Slot, err error) {
	w.withdraw = nil
	switch {
	case w.left:
		s.Free()
		return
	case err != nil:
		w.asker.Unreachable(err)
		return
	}
	w.at, w.pool, w.Slot = e, e.pool, s
	w.active = true
	e.active.Add(1)
	if perSecond := w.servers.upstream.Target.HandshakesPerSecond; perSecond > 0 && w.needs.Upgrade {
		now := w.pool.clock.Elapsed()
		due, ok := e.handshakes.reserve(now, perSecond, w.needs.Patience)
		switch {
		case !ok:
			w.leaveServer()
			w.asker.Unreachable(fmt.Errorf("%w %s: %d in a second", ErrTooManyHandshakes, e.address, perSecond))
			return
		case due > now:
			w.due = due
			w.client.Loop().Set(&w.timer, due-now)
			return
		}
	}
	w.connect()
}

// connect gets a connection to the server: an idle one if one will do, else a new one.
func (w *Way) connect() {
	b := w.pool.take(w.worker, w.needs.MaxIdle)
	switch {
	case b == nil:
		w.dial()
	case b.worker == w.worker:
		w.connected(b)
	default:
		b.lend(w.worker, func(b *Conn) { w.client.Do(func() { w.lent(b) }) })
	}
}

// lent goes on with another loop's connection, or with a new one.
func (w *Way) lent(b *Conn) {
	switch {
	case b == nil:
		w.dial()
	case w.left:
		b.Close()
	default:
		w.connected(b)
	}
}

// connected hands the connection over.
func (w *Way) connected(b *Conn) {
	w.wait, w.lookUp = nil, nil
	b.server = w.at.Server
	if !w.needs.Upgrade {
		b.slot, w.Slot = w.Slot, nil
		b.active, w.active = w.active, false
	}
	w.room().open()
	w.asker.Connected(b)
}

// portsPerSource is how many connections to a server on this machine come from one address: the system has some 28,000 ports for them, and finds a free one ever more slowly.
const portsPerSource = 16_000

// count counts a connection in or out.
func (w *Way) count(n int64) {
	if !w.needs.Upgrade {
		w.pool.among.Count(n)
	}
}

// dial makes a new connection.
func (w *Way) dial() {
	if w.left {
		return
	}
	p := w.pool
	if w.Slot != nil {
		p.keepAtMost(w.Slot.spare())
	}
	w.count(1)
	if p.among.tooMany() {
		w.count(-1)
		w.asker.Unreachable(ErrFull)
		return
	}
	w.wait = p.await()
	loop := w.client.Loop()
	w.connectBy = loop.Now() + w.needs.Connect
	if known := p.sockaddrs(); known != nil {
		w.located(known, nil)
		return
	}
	u := w.servers.upstream
	addresses, cancel := u.names.find(loop, p.address, u.Target.Resolve, w.needs.Connect, func(addresses []unix.Sockaddr, err error) {
		w.client.Do(func() { w.located(addresses, err) })
	})
	if w.lookUp = cancel; addresses != nil {
		w.located(addresses, nil)
	}
}

// located goes on when the server's addresses are known.
func (w *Way) located(addresses []unix.Sockaddr, err error) {
	switch loop := w.client.Loop(); {
	case w.left:
	case err != nil:
		w.failed("connecting to", err)
	default:
		w.lookUp = nil
		spread := int(w.at.load() / portsPerSource)
		w.dialing = loop.Dial(addresses, spread, w.connectBy-loop.Now(), func(c *reactor.Conn, err error) {
			w.client.Do(func() { w.dialled(c, err) })
		})
	}
}

func (w *Way) dialled(c *reactor.Conn, err error) {
	w.dialing = nil
	if err != nil {
		w.failed("connecting to", err)
		return
	}
	if p := w.asker.Introduction(); len(p) > 0 {
		c.Write(p) // a failure shows at the next step
	}
	if !w.pool.secure {
		w.connected(w.made(c))
		return
	}
	w.shaking = c
	config := w.pool.tlsConfig()
	c.Handshake(w.pool.among.ctx, func(transport net.Conn) *tls.Conn { return tls.Client(transport, config) }, w.connectBy-c.Loop().Now(), w.shaken)
}

// made is a connection that was just made.
func (w *Way) made(c *reactor.Conn) *Conn {
	b := newConn(c, w.worker, w.pool, w.wait)
	b.counted = !w.needs.Upgrade
	return b
}

// shaken goes on behind the TLS handshake with a server, which was an answer of its kind.
func (w *Way) shaken(_ tls.ConnectionState, err error) {
	if err != nil {
		w.failed("TLS handshake with", err)
		return
	}
	c := w.shaking
	w.shaking = nil
	w.pool.leave(w.wait)
	w.connected(w.made(c))
}
