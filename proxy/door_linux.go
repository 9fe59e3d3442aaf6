//go:build linux && !portable

package proxy

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"

	"golang.org/x/sys/unix"

	"wstunnel/internal/config"
	"wstunnel/internal/http1"
	"wstunnel/internal/reactor"
	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

// maxEarly bounds what a client may send before its handshake is answered; the rest waits in the kernel.
const maxEarly = 64 << 10

// door is one client connection on a loop, from the accept until its first request is whole and, if that asks for a
// tunnel, until the tunnel is open.
type door struct {
	*doors
	client    *reactor.Conn
	from      origin
	timer     reactor.Timer // for the request head, later for the backend's answer
	head      []byte        // of the request, as far as it has come; whole once there is an opening
	opening   *opening      // nil while the head is awaited
	beforeTLS bool
	left      bool // the connection is counted out, or will be by whoever has it now
}

// Readable takes what the client sent.
func (o *door) Readable(c *reactor.Conn) {
	if o.beforeTLS {
		o.shakeHands()
		return
	}
	p, err := c.Read()
	switch {
	case errors.Is(err, io.EOF) && o.opening != nil && len(o.opening.early) > 0:
		c.Pause() // all that it has to say is here; the tunnel will come upon the end of the stream
	case err != nil:
		o.clientGone(err)
	case len(p) > 0 && o.opening != nil:
		o.opening.keepEarly(p)
	case len(p) > 0:
		o.takeHead(p)
	}
}

// Drained is of no interest: nothing is written before the 101.
func (o *door) Drained(*reactor.Conn) {}

// Failed ends the connection.
func (o *door) Failed(_ *reactor.Conn, err error) { o.clientGone(err) }

// Expired ends the wait for a head, or for the backend's answer.
func (o *door) Expired() {
	o.client.Do(func() {
		if o.opening != nil {
			o.opening.expired()
			return
		}
		o.close()
	})
}

// close closes the connection, unless somebody else has it now.
func (o *door) close() {
	o.depart()
	if !o.left {
		o.left = true
		o.client.Close()
		o.from.leave()
	}
}

// depart ends the door's part in the connection.
func (o *door) depart() {
	o.client.Loop().Stop(&o.timer)
	delete(o.waiting[o.client.Loop()], o)
}

// release takes the connection off the loop for somebody else, who counts it out. It reports false, and closes it, where that can't be done.
func (o *door) release() (net.Conn, bool) {
	o.depart()
	conn, err := o.client.Release()
	if err != nil {
		o.server.admission.refuse("handing over: "+err.Error(), o.from.remote.Addr())
		o.close()
		return nil, false
	}
	o.left = true
	return conn, true
}

func (o *door) clientGone(err error) {
	if o.opening != nil {
		o.opening.abandoned(err)
	}
	o.close()
}

// shakeHands gives the connection to a goroutine for its TLS handshake.
func (o *door) shakeHands() {
	if conn, ok := o.release(); ok {
		go o.from.listener.serveTLS(conn, o.from)
	}
}

// takeHead takes the next bytes of the request head.
func (o *door) takeHead(p []byte) {
	before := len(o.head)
	if before > 0 {
		o.head = append(o.head, p...)
		p = o.head
	}
	n := headEnd(p, before)
	switch {
	case n == 0 && len(p) <= maxRequestHead && mayBeginHead(p, before):
		if before == 0 {
			o.head = bytes.Clone(p)
		}
	case n == 0 || n > maxRequestHead || !o.open(p[:n], p[n:]):
		o.handOver(bytes.Clone(p), nil)
	}
}

// mayBeginHead reports whether p is the beginning of a head, or of the empty line that may come before it (RFC 9112, section 2.2). Of p the
// first before bytes were so already.
func mayBeginHead(p []byte, before int) bool {
	head, empty := bytes.CutPrefix(p, []byte("\r\n"))
	if empty {
		before = max(0, before-2)
	}
	return string(p) == "\r" || checkBeginning(head, before) == nil
}

// open begins to open a tunnel, if that is what the request is for and can be done on the loop.
func (o *door) open(head, early []byte) bool {
	var decoder http1.RequestDecoder
	_, event, err := decoder.Next(head)
	if err != nil || event != http1.Head || decoder.Request.Protocol == "" || decoder.Request.Expect {
		return false
	}
	x := o.server.newExchange(o.server.ctx, decoder.Request, o.from)
	if d := x.decide(); d.action != openTunnel || x.location.Mode != config.ModeTunnel || x.location.websocket.target.TLS {
		return false
	}
	o.client.Loop().Stop(&o.timer)
	delete(o.waiting[o.client.Loop()], o)
	o.head = bytes.Clone(head)
	o.opening = newOpening(o, x)
	o.server.tunnels.hold()
	o.opening.keepEarly(early)
	if o.server.backendsFull() {
		o.opening.handOver(nil, errBackendsFull)
	} else {
		o.opening.dialNext()
	}
	return true
}

// handOver gives the connection to net/http, with what was read from it and what is known of its backend already.
func (o *door) handOver(read []byte, known *preparedHandshake) {
	conn, ok := o.release()
	if !ok {
		known.drop()
		return
	}
	client := newClientConn(conn, o.from)
	client.ahead, client.prepared = read, known
	own, before := o.order.take(o.from.remote.Addr())
	client.onItsWay = own.leave
	there := o.server.tunnels.holdHandover()
	go func() {
		defer there()
		before.await()
		o.server.web.http1.give(client)
	}()
}

// opening is the handshake with the backend, for a client that waits at its door.
type opening struct {
	door     *door
	x        *exchange
	servers  *attempt
	withdraw func()             // leaves the queue of max_connections; nil where there is none
	lookUp   context.CancelFunc // ends the resolving of a name under way, or nil
	dialing  *reactor.Dialing   // nil before there is an address
	backend  *reactor.Conn      // nil before it is connected
	pool     *pool              // of the server that is tried now
	wait     *list.Element      // in that pool
	reply    []byte             // the backend's, as far as it has come
	early    []byte             // what the client sent behind its request
	over     bool
}

func newOpening(o *door, x *exchange) *opening {
	return &opening{door: o, x: x, servers: x.location.websocket.attempt()}
}

func (g *opening) keepEarly(p []byte) {
	g.early = append(g.early, p...)
	if len(g.early) >= maxEarly {
		g.door.client.Pause()
	}
}

// dialNext connects to the next server, when there is a turn for it.
func (g *opening) dialNext() {
	if len(g.servers.left) == 0 {
		g.handOver(nil, g.servers.err())
		return
	}
	client := g.door.client
	p, s, withdraw := g.servers.reserve(func(p *pool, s *slot, err error) {
		client.Loop().Post(func() { client.Do(func() { g.turn(p, s, err) }) })
	})
	if g.withdraw = withdraw; p != nil {
		g.turn(p, s, nil)
	}
}

// turn connects to a server.
func (g *opening) turn(p *pool, s *slot, err error) {
	switch {
	case g.over:
		s.free()
		return
	case err != nil:
		g.handOver(nil, err)
		return
	}
	g.pool, g.x.slot, g.x.backend = p, s, p.address
	if s != nil {
		p.keepAtMost(s.spare())
	}
	g.wait = p.await()
	client := g.door.client
	loop := client.Loop()
	deadline := loop.Now() + g.x.location.Timeouts.Connect
	g.lookUp = g.pool.sockaddrs(loop, g.x.location.Timeouts.Connect, func(addresses []unix.Sockaddr, err error) {
		client.Do(func() {
			switch {
			case g.over:
			case err != nil:
				g.dialFailed(err)
			default:
				g.dialing = loop.Dial(addresses, deadline-loop.Now(), func(c *reactor.Conn, err error) {
					client.Do(func() { g.dialled(c, err) })
				})
			}
		})
	})
}

func (g *opening) dialFailed(err error) {
	if isSilence(err) {
		g.pool.delay()
	}
	g.tryNext(fmt.Errorf("connecting to %s: %w", g.pool.address, err))
}

// tryNext goes on to the next server.
func (g *opening) tryNext(err error) {
	g.leaveServer()
	g.servers.failed(g.pool, err)
	g.dialNext()
}

// leaveServer ends what the server was asked for; it may be called more than once.
func (g *opening) leaveServer() {
	if g.withdraw != nil {
		g.withdraw()
	}
	if g.lookUp != nil {
		g.lookUp()
	}
	g.dialing.Cancel()
	if g.backend != nil {
		g.backend.Close()
	}
	if g.wait != nil {
		g.pool.leave(g.wait)
	}
	g.withdraw, g.lookUp, g.dialing, g.backend, g.wait = nil, nil, nil, nil, nil
	g.x.slot.free()
	g.x.slot = nil
}

// dialled sends the request to the backend, in one write.
func (g *opening) dialled(c *reactor.Conn, err error) {
	if err != nil {
		g.dialFailed(err)
		return
	}
	g.backend = c
	c.Handle(g)
	if err := c.Write(http1.AppendRequest(make([]byte, 0, 1024), g.x.upgradeRequest())); err != nil {
		g.failed(err)
		return
	}
	c.Loop().Set(&g.door.timer, g.x.location.Timeouts.Handshake)
	c.Resume()
}

// Readable takes the backend's answer. A 101 opens the tunnel; whatever else it is, net/http reads it again and deals with it.
func (g *opening) Readable(c *reactor.Conn) {
	p, err := c.Read()
	if err != nil && !errors.Is(err, io.EOF) {
		g.failed(err)
		return
	}
	before := len(g.reply)
	g.reply = append(g.reply, p...)
	switch {
	case before == 0 && len(p) > 0:
		g.pool.answered(g.wait)
	case len(g.reply) == 0 && err != nil:
		g.failed(err)
		return
	}
	n := headEnd(g.reply, before)
	switch {
	case n == 0 && err == nil && len(g.reply) <= maxResponseHead && mayBeginStatusLine(g.reply):
	case n == 0 || !bytes.HasPrefix(g.reply, []byte("HTTP/1.1 101")):
		g.fallBack()
	default:
		g.switched(g.reply[:n], g.reply[n:])
	}
}

// switched checks a 101 and opens the tunnel.
func (g *opening) switched(head, early []byte) {
	resp, err := parseResponseHead(head, http.MethodGet)
	if err != nil || ws.CheckResponse(resp, g.x.keys()) != nil {
		g.fallBack()
		return
	}
	if !g.finish() {
		return
	}
	defer g.x.server.tunnels.release()
	defer g.closeUnjoined()
	g.door.depart()
	x, client := g.x, g.door.client
	x.rewriteSwitching(resp)
	if err := client.Write(switchingHead(resp.Header)); err != nil {
		x.err = err
		g.logGone()
		return
	}
	x.server.tunnels.start(x.tunnelInfo(resp.Header), func(done func(tunnel.Result)) *tunnel.Tunnel {
		g.door.left = true
		return tunnel.Join(client, g.backend, g.early, early, x.tunnelOptions(resp.Header), done)
	})
}

// closeUnjoined closes both connections where no tunnel came of them.
func (g *opening) closeUnjoined() {
	if !g.door.left {
		g.leaveServer()
		g.door.close()
	}
}

// Drained is of no interest: the request is small, and the backend's answer says that it was taken.
func (g *opening) Drained(*reactor.Conn) {}

// Failed says that the backend broke.
func (g *opening) Failed(_ *reactor.Conn, err error) { g.failed(err) }

// failed tells of a backend that broke off. Where it had not answered a byte the next server is asked.
func (g *opening) failed(err error) {
	err = fmt.Errorf("handshake with %s: %w", g.pool.address, err)
	g.door.client.Loop().Stop(&g.door.timer)
	if len(g.reply) == 0 {
		g.pool.delay()
		g.tryNext(err)
		return
	}
	g.leaveServer()
	g.handOver(nil, err)
}

func (g *opening) expired() { g.failed(os.ErrDeadlineExceeded) }

// fallBack lets net/http read the backend's answer and make the client's of it.
func (g *opening) fallBack() {
	conn, err := g.backend.Release()
	if err != nil {
		g.leaveServer()
		g.handOver(nil, err)
		return
	}
	g.backend = nil
	c := g.pool.takeOver(conn, io.MultiReader(bytes.NewReader(g.reply), conn))
	c.slot, g.x.slot = g.x.slot, nil
	g.handOver(c, nil)
}

// takeOver counts in a connection that was dialled elsewhere, and that has answered already. What r reads comes from it.
func (p *pool) takeOver(conn net.Conn, r io.Reader) *backendConn {
	p.among.count.Add(1)
	c := newBackendConn(conn, r, p)
	c.answered = true
	return c
}

// handOver lets net/http answer the client, with what became of the handshake so far.
func (g *opening) handOver(conn *backendConn, err error) {
	known := &preparedHandshake{conn: conn, err: err, exchange: g.x}
	if !g.finish() {
		known.drop()
		return
	}
	defer g.x.server.tunnels.release()
	g.door.handOver(append(g.door.head, g.early...), known)
}

// abandoned deals with a client that did not wait.
func (g *opening) abandoned(err error) {
	if !g.finish() {
		return
	}
	defer g.x.server.tunnels.release()
	g.leaveServer()
	if !errors.Is(err, io.EOF) {
		g.x.err = err
	}
	g.logGone()
}

func (g *opening) logGone() {
	g.x.clientGone = true
	g.x.log(&responseWriter{})
}

// finish ends the opening; it reports false where it has ended already.
func (g *opening) finish() bool {
	if g.over {
		return false
	}
	g.over = true
	return true
}
