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
	lookUp    context.CancelFunc // ends the resolving of a name under way, or nil
	dialing   *reactor.Dialing   // nil before there is an address
	shaking   *reactor.Conn      // in its TLS handshake
	connectBy time.Duration      // on the loop's clock
	pool      *Pool              // of the server whose turn it is
	wait      *list.Element      // in that pool
	// Slot is the right to one of that server's connections, while no connection has it; nil where there is no limit.
	Slot *Slot
}

// Begin begins with the server of the upstream whose turn it is, on behalf of a client. It may tell at once. It can be begun again.
func (w *Way) Begin(u *Upstream, asker Asker, client *reactor.Conn, worker *session.Worker, needs Needs) {
	w.Leave()
	w.asker, w.client, w.worker, w.needs, w.left = asker, client, worker, needs, false
	w.servers = u.attempt()
	w.next()
}

// Server returns the address of the server that was tried last, or an empty one.
func (w *Way) Server() string {
	if w.pool == nil {
		return ""
	}
	return w.pool.address
}

// Leave ends what is under way. It may be called more than once.
func (w *Way) Leave() {
	w.left = true
	w.leaveServer()
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
	w.withdraw, w.lookUp, w.dialing, w.shaking, w.wait = nil, nil, nil, nil, nil
	w.Slot.Free()
	w.Slot = nil
}

// Refused goes on to the next server, since the one that was connected with said nothing.
func (w *Way) Refused(err error) {
	w.pool.delay()
	w.goOn(err)
}

// Diagnose adds to the error of the server, which broke off without a word, what it looks like. It takes a while.
func (w *Way) Diagnose() func(err error) error {
	p, ctx := w.pool, w.pool.among.ctx
	return func(err error) error { return p.diagnose(ctx, err) }
}

// goOn goes on to the next server.
func (w *Way) goOn(err error) {
	w.leaveServer()
	w.servers.failed(w.pool, err)
	w.next()
}

// failed is goOn for a server that can't be connected with.
func (w *Way) failed(what string, err error) {
	if IsSilence(err) {
		w.pool.delay()
	}
	w.goOn(fmt.Errorf("%s %s: %w", what, w.pool.address, err))
}

// next goes to the next server, when there is a turn for it.
func (w *Way) next() {
	if len(w.servers.left) == 0 {
		w.asker.Unreachable(w.servers.err())
		return
	}
	if w.servers.upstream.limit == nil {
		w.turn(w.servers.left[0], nil, nil)
		return
	}
	p, s, withdraw := w.servers.reserve(func(p *Pool, s *Slot, err error) {
		posted := w.client.Loop().Post(func() { w.client.Do(func() { w.turn(p, s, err) }) })
		if !posted {
			s.Free()
		}
	})
	if w.withdraw = withdraw; p != nil {
		w.turn(p, s, nil)
	}
}

// turn gets a connection to a server: an idle one if one will do, else a new one.
func (w *Way) turn(p *Pool, s *Slot, err error) {
	w.withdraw = nil
	switch {
	case w.left:
		s.Free()
		return
	case err != nil:
		w.asker.Unreachable(err)
		return
	}
	w.pool, w.Slot = p, s
	b := p.take(w.worker, w.needs.MaxIdle)
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
	if !w.needs.Upgrade {
		b.slot, w.Slot = w.Slot, nil
	}
	w.asker.Connected(b)
}

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
	w.lookUp = p.sockaddrs(loop, w.needs.Connect, func(addresses []unix.Sockaddr, err error) {
		w.client.Do(func() { w.located(addresses, err) })
	})
}

// located goes on when the server's addresses are known.
func (w *Way) located(addresses []unix.Sockaddr, err error) {
	switch loop := w.client.Loop(); {
	case w.left:
	case err != nil:
		w.failed("connecting to", err)
	default:
		w.dialing = loop.Dial(addresses, w.connectBy-loop.Now(), func(c *reactor.Conn, err error) {
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
