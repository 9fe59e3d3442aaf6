package proxy

import (
	"crypto/tls"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"wstunnel/internal/http1"
	"wstunnel/internal/reactor"
)

// forward carries the exchange to a backend; with a protocol it asks for an upgrade to that.
func (x *loopExchange) forward(u *upstream, protocol string) {
	x.upstream = u
	if protocol != "" {
		x.opening = true
		x.server.tunnels.hold()
		x.out = x.upgradeRequest()
	} else {
		x.out = rewriteRequest(nil, &x.in, x.location, u.target, "")
		x.out.Fields = announce(x.out.Fields, x.in.request.Fields)
		x.out.Close = x.in.request.HasBody() && !http1.BodyExpected(x.in.request.Method) || u.target.KeepAlive == 0
	}
	x.servers = u.attempt()
	x.dialNext()
}

// dialNext goes to the next server, when there is a turn for it.
func (x *loopExchange) dialNext() {
	if len(x.servers.left) == 0 {
		x.fail(x.servers.err())
		return
	}
	conn := x.client.Conn()
	p, s, withdraw := x.servers.reserve(func(p *pool, s *slot, err error) {
		posted := conn.Loop().Post(func() { conn.Do(func() { x.turn(p, s, err) }) })
		if !posted {
			s.free()
		}
	})
	if x.withdraw = withdraw; p != nil {
		x.turn(p, s, nil)
	}
}

// turn asks a server: on an idle connection if one will do, else on a new one.
func (x *loopExchange) turn(p *pool, s *slot, err error) {
	x.withdraw = nil
	switch {
	case x.over:
		s.free()
		return
	case err != nil:
		x.fail(err)
		return
	}
	x.pool, x.slot, x.exchange.backend = p, s, p.address
	worker := x.client.Worker()
	b := p.takeOnLoop(worker, x.maxIdle())
	switch {
	case b == nil:
		x.dial()
	case b.worker == worker:
		x.ask(b)
	default:
		b.lend(worker, func(b *loopBackend) { x.client.Conn().Do(func() { x.lent(b) }) })
	}
}

// lent goes on with another loop's connection, or with a new one.
func (x *loopExchange) lent(b *loopBackend) {
	switch {
	case b == nil:
		x.dial()
	case x.over:
		b.close()
	default:
		x.ask(b)
	}
}

// counted reports whether a connection to a backend is one of those that are counted. For one that is to be a tunnel's, the client's connection
// stands, unless others share it.
func (x *loopExchange) counted() bool { return x.out.Protocol == "" || x.extended }

// count counts a connection to a backend in or out.
func (x *loopExchange) count(n int64) {
	if x.counted() {
		x.pool.among.count.Add(n)
	}
}

// dial opens a new connection.
func (x *loopExchange) dial() {
	if x.over {
		return
	}
	p := x.pool
	if x.slot != nil {
		p.keepAtMost(x.slot.spare())
	}
	x.count(1)
	if x.server.backendsFull() {
		x.count(-1)
		x.fail(errBackendsFull)
		return
	}
	x.wait = p.await()
	conn := x.client.Conn()
	loop := conn.Loop()
	timeout := x.location.Timeouts.Connect
	x.connectBy = loop.Now() + timeout
	x.lookUp = p.sockaddrs(loop, timeout, func(addresses []unix.Sockaddr, err error) {
		conn.Do(func() {
			switch {
			case x.over:
			case err != nil:
				x.dialFailed(err)
			default:
				x.dialing = loop.Dial(addresses, x.connectBy-loop.Now(), func(c *reactor.Conn, err error) {
					conn.Do(func() { x.dialled(c, err) })
				})
			}
		})
	})
}

func (x *loopExchange) dialled(c *reactor.Conn, err error) {
	x.dialing = nil
	if err != nil {
		x.dialFailed(err)
		return
	}
	if h := x.introduction(); len(h) > 0 {
		c.Write(h) // a failure shows at the next step
	}
	if !x.pool.secure {
		x.ask(x.newBackend(c))
		return
	}
	x.shaking = c
	config := x.pool.tlsConfig()
	c.Handshake(x.server.ctx, func(transport net.Conn) *tls.Conn { return tls.Client(transport, config) }, x.connectBy-c.Loop().Now(), x.shaken)
}

// newBackend is a connection that was just made.
func (x *loopExchange) newBackend(c *reactor.Conn) *loopBackend {
	b := newLoopBackend(c, x.client.Worker(), x.pool, x.wait)
	b.counted = x.counted()
	return b
}

// shaken goes on behind the TLS handshake with a server, which was an answer of its kind.
func (x *loopExchange) shaken(_ tls.ConnectionState, err error) {
	c := x.shaking
	x.shaking = nil
	if err != nil {
		c.Close()
		if isSilence(err) {
			x.pool.delay()
		}
		x.tryNext(fmt.Errorf("TLS handshake with %s: %w", x.pool.address, err))
		return
	}
	x.pool.leave(x.wait)
	x.ask(x.newBackend(c))
}

func (x *loopExchange) dialFailed(err error) {
	if isSilence(err) {
		x.pool.delay()
	}
	x.tryNext(fmt.Errorf("connecting to %s: %w", x.pool.address, err))
}

// tryNext goes on to the next server.
func (x *loopExchange) tryNext(err error) {
	x.leaveServer()
	x.servers.failed(x.pool, err)
	x.dialNext()
}

// leaveServer ends what the server was asked for; it may be called more than once.
func (x *loopExchange) leaveServer() {
	if x.withdraw != nil {
		x.withdraw()
	}
	if x.lookUp != nil {
		x.lookUp()
	}
	x.dialing.Cancel()
	if x.shaking != nil {
		x.shaking.Close()
		x.shaking = nil
	}
	switch {
	case x.backend != nil:
		x.backend.close()
	case x.wait != nil:
		x.pool.leave(x.wait)
		x.count(-1)
	}
	x.withdraw, x.lookUp, x.dialing, x.backend, x.wait = nil, nil, nil, nil, nil
	x.slot.free()
	x.slot = nil
}

// ask sends the request, with what has come of its body.
func (x *loopExchange) ask(b *loopBackend) {
	x.backend, x.wait, x.lookUp = b, nil, nil
	b.slot, x.slot = x.slot, nil
	limit := x.location.Timeouts.ResponseHead
	body := x.held
	if x.out.Protocol != "" {
		limit, body = x.location.Timeouts.Handshake, nil // what came behind the request is for the tunnel
	} else {
		x.held = nil
	}
	b.Limit(x.client.Room())
	b.Ask(x, x.out, body)
	if x.backend != b {
		return // it broke
	}
	if x.out.Protocol != "" {
		b.Await(limit)
		x.slot, b.slot = b.slot, nil
		return
	}
	if !x.uploading() {
		x.endRequest()
		return
	}
	if x.in.request.Expect {
		x.client.SayContinue()
	}
	if b.Pending() > 0 {
		b.Await(limit)
	} else {
		x.client.Resume()
	}
}

// uploading reports whether more of the request's body is to come.
func (x *loopExchange) uploading() bool { return !x.whole && x.in.request.HasBody() }

// endRequest ends the request. The time for the answer's head begins now.
func (x *loopExchange) endRequest() {
	b := x.backend
	b.End(x.trailers)
	if x.backend == b && x.status == 0 {
		b.Await(x.location.Timeouts.ResponseHead)
	}
}

// wrapHandshake says what an error was about.
func (x *loopExchange) wrapHandshake(err error) error {
	return fmt.Errorf("handshake with %s: %w", x.pool.address, err)
}
