package proxy

import (
	"container/list"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/reactor"
)

// forward carries an exchange to a server of an upstream, and its answer back.
type forward struct {
	*exchange
	upstream *upstream
	protocol string // that an upgrade is asked for; empty where none is

	// What the server is sent.
	out          head.Request
	upload       upload
	answer       backlog
	answerFields head.Fields // of the backend's answer, as they came

	// The way to a server.
	servers   attempt
	fresh     bool               // no idle connection will do
	withdraw  func()             // leaves the queue of max_connections; nil where there is none
	lookUp    context.CancelFunc // ends the resolving of a name under way, or nil
	dialing   *reactor.Dialing   // nil before there is an address
	shaking   *reactor.Conn      // in its TLS handshake
	connectBy time.Duration      // on the loop's clock
	pool      *pool              // of the server that is tried now
	slot      *slot              // the right to one of its connections; nil where there is no limit
	wait      *list.Element      // in that pool
	backend   *backendConn       // nil before it is connected
}

// serve begins; with a request whose body is collected, when that has come.
func (x *forward) serve() {
	x.upload.x, x.answer.x = x, x
	if x.protocol != "" {
		x.server.tunnels.hold()
	} else if x.in.request.HasBody() {
		x.upload.begin()
	}
	if !x.upload.collecting {
		x.start()
	}
}

// start begins with the server whose turn it is.
func (x *forward) start() {
	x.upload.collecting = false
	x.makeRequest(x.client.Worker().Fields[:0])
	x.servers = x.upstream.attempt()
	x.dialNext()
	if x.backend == nil { // it goes later, when the place of its fields is another's
		x.out.Fields = slices.Clone(x.out.Fields)
	}
}

// makeRequest makes the head that a server is sent, with its fields in dst.
func (x *forward) makeRequest(dst head.Fields) {
	if x.protocol != "" {
		x.out = x.upgradeRequest()
		return
	}
	target := x.upstream.target
	x.out = rewriteRequest(dst, &x.in, x.location, target, "")
	if x.out.Length = x.upload.knownLength(); x.out.Length == head.Unknown {
		x.out.Fields = announce(x.out.Fields, x.in.request.Fields)
	}
	if dst != nil {
		x.client.Worker().Fields = x.out.Fields[:0]
	}
	x.out.Close = x.in.request.HasBody() && !http1.BodyExpected(x.in.request.Method) || target.KeepAlive == 0
}

// leave lets go of the server and of all that leads there.
func (x *forward) leave() {
	x.leaveServer()
	x.upload.leave()
	x.answer.leave()
	if x.protocol != "" {
		x.server.tunnels.release()
	}
}

// dialNext goes to the next server, when there is a turn for it.
func (x *forward) dialNext() {
	if len(x.servers.left) == 0 {
		x.fail(x.servers.err())
		return
	}
	if x.upstream.limit == nil {
		x.turn(x.servers.left[0], nil, nil)
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
func (x *forward) turn(p *pool, s *slot, err error) {
	x.withdraw = nil
	switch {
	case x.over:
		s.free()
		return
	case err != nil:
		x.fail(err)
		return
	}
	x.pool, x.slot, x.address = p, s, p.address
	worker := x.client.Worker()
	b := p.take(worker, x.maxIdle())
	switch {
	case b == nil:
		x.dial()
	case b.worker == worker:
		x.ask(b)
	default:
		b.lend(worker, func(b *backendConn) { x.client.Conn().Do(func() { x.lent(b) }) })
	}
}

// maxIdle is how long a connection may have been idle to carry the request.
func (x *forward) maxIdle() time.Duration {
	switch {
	case x.protocol != "" || x.out.Close || x.fresh:
		return 0
	case !x.repeatable():
		return freshConn
	}
	return idleConnLife
}

// lent goes on with another loop's connection, or with a new one.
func (x *forward) lent(b *backendConn) {
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
func (x *forward) counted() bool { return x.protocol == "" || x.extended }

// count counts a connection to a backend in or out.
func (x *forward) count(n int64) {
	if x.counted() {
		x.pool.among.count.Add(n)
	}
}

// dial opens a new connection.
func (x *forward) dial() {
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

func (x *forward) dialled(c *reactor.Conn, err error) {
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
func (x *forward) newBackend(c *reactor.Conn) *backendConn {
	b := newBackendConn(c, x.client.Worker(), x.pool, x.wait)
	b.counted = x.counted()
	return b
}

// shaken goes on behind the TLS handshake with a server, which was an answer of its kind.
func (x *forward) shaken(_ tls.ConnectionState, err error) {
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

func (x *forward) dialFailed(err error) {
	if isSilence(err) {
		x.pool.delay()
	}
	x.tryNext(fmt.Errorf("connecting to %s: %w", x.pool.address, err))
}

// tryNext goes on to the next server.
func (x *forward) tryNext(err error) {
	x.leaveServer()
	x.servers.failed(x.pool, err)
	x.askAgain()
}

// askAgain asks the next server, with a head of its own.
func (x *forward) askAgain() {
	x.makeRequest(nil)
	x.dialNext()
}

// leaveServer ends what the server was asked for; it may be called more than once.
func (x *forward) leaveServer() {
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
func (x *forward) ask(b *backendConn) {
	x.backend, x.wait, x.lookUp = b, nil, nil
	b.slot, x.slot = x.slot, nil
	var body []byte
	if x.protocol == "" { // else what came behind the request is for the tunnel
		body = x.upload.first()
	}
	b.Limit(x.client.Room())
	b.Ask(x, &x.out, body)
	if x.backend != b {
		return // it broke
	}
	if x.protocol != "" {
		b.Await(x.location.Timeouts.Handshake)
		x.slot, b.slot = b.slot, nil
		return
	}
	x.upload.goOn()
}

// wrapHandshake says what an error was about.
func (x *forward) wrapHandshake(err error) error {
	return fmt.Errorf("handshake with %s: %w", x.pool.address, err)
}

// data takes a piece of the request's body, or what the client says behind an upgrade request.
func (x *forward) data(p []byte) { x.upload.data(p) }

// whole takes the end of the request.
func (x *forward) whole(trailers head.Fields) { x.upload.whole(trailers) }

// idempotent reports whether a request can be sent again after a connection broke under it (RFC 9110, section 9.2.2).
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}
