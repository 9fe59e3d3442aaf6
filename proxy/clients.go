package proxy

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync/atomic"
	"syscall"

	"wstunnel/internal/http2"
	"wstunnel/internal/reactor"
	"wstunnel/internal/session"
	"wstunnel/internal/static"
	"wstunnel/internal/tunnel"
)

// clients take connections in on the event loops.
type clients struct {
	server *Server
	loops  *reactor.Group
	rooms  map[*reactor.Loop]*room
	// uploads is what the windows of all clients over HTTP/2 grow out of.
	uploads *http2.Budget
	// closing: no more are taken in.
	closing atomic.Bool
	// windingDown: another process takes them in.
	windingDown atomic.Bool
}

// room is what the connections of one loop share. It belongs to that loop.
type room struct {
	worker  *session.Worker
	recent  *static.Recent
	conns   []closable
	emptied chan struct{} // closed when the last has gone after the closing has begun; nil before
}

// closable is a connection that serves no tunnel.
type closable interface {
	// close ends it, behind the answer that is given now if there is one.
	close()
	// windDown has it end behind what its client still asks for; lastCalled says that the client has had time for that.
	windDown(lastCalled bool)
	// at is its place among those of its loop.
	at() *place
}

// place is a connection's place among those of its loop, counted from 1; 0 for none.
type place int32

func (p *place) at() *place { return p }

// note takes a connection in.
func (r *room) note(c closable) {
	r.conns = append(r.conns, c)
	*c.at() = place(len(r.conns))
}

// drop takes it out again; it may be called more than once.
func (r *room) drop(c closable) {
	i := *c.at()
	if i == 0 {
		return
	}
	*c.at() = 0
	n := len(r.conns) - 1
	if last := r.conns[n]; last != c {
		r.conns[i-1] = last
		*last.at() = i
	}
	r.conns[n] = nil
	r.conns = r.conns[:n]
}

func newClients(s *Server) (*clients, error) {
	loops, err := reactor.NewGroup(s.log, s.clock)
	if err != nil {
		return nil, err
	}
	loops.SetPipes(s.spare.loopPipes)
	loops.SetOffloads(s.spare.openings)
	d := &clients{server: s, loops: loops, rooms: map[*reactor.Loop]*room{}, uploads: http2.NewBudget(uploadWindows)}
	for _, loop := range loops.Loops {
		d.rooms[loop] = &room{
			worker: session.NewWorker(loop, &s.slow),
			recent: static.NewRecent(loop, s.spare.recentFiles),
		}
	}
	return d, nil
}

// listen makes ready to accept.
func (d *clients) listen(l *listener) (acceptor, error) {
	conn, ok := l.Listener.(syscall.Conn)
	if !ok {
		return nil, errors.New("not a socket of the system")
	}
	return d.loops.Listen(conn, tunnel.KeepAlive, func(c *reactor.Conn, peer netip.AddrPort) {
		d.enter(c, clientInfo{listener: l, remote: peer, secure: l.secure.Load()})
	})
}

// enter takes in a connection that was just accepted, on its loop.
func (d *clients) enter(c *reactor.Conn, from clientInfo) {
	proxied := from.listener.proxied.Load()
	switch {
	case d.closing.Load(), proxied && !d.server.admission.believes(&from), !proxied && !d.server.admission.admit(&from):
		c.Reset()
	case proxied:
		d.awaitIntroduction(c, from)
	default:
		d.open(c, from, from.secure)
	}
}

// open awaits a request head on a connection, or the first byte of a TLS handshake.
func (d *clients) open(c *reactor.Conn, from clientInfo, handshake bool) {
	if d.closing.Load() {
		c.Close()
		from.leave()
		return
	}
	room := d.rooms[c.Loop()]
	if !handshake {
		conn := &connection{served: served{clients: d, from: from}}
		room.note(conn)
		conn.client = session.Serve(c, room.worker, conn)
		return
	}
	a := &arrival{clients: d, conn: c, from: from}
	a.timer.On = a
	c.Handle(a)
	room.note(a)
	c.Loop().Set(&a.timer, d.server.gen.Load().cfg.Timeouts.RequestHead)
	c.Resume()
}

// forget takes a connection out of its loop's room.
func (d *clients) forget(loop *reactor.Loop, c closable) {
	room := d.rooms[loop]
	room.drop(c)
	if room.emptied != nil && len(room.conns) == 0 {
		close(room.emptied)
		room.emptied = nil
	}
}

// shutdown closes the connections that nobody has asked for anything on, lets the others have their answers, and waits for these and for the
// handshakes under way, until ctx is done.
func (d *clients) shutdown(ctx context.Context) error {
	d.closing.Store(true)
	for loop, room := range d.rooms {
		emptied := make(chan struct{})
		loop.Post(func() {
			if len(room.conns) == 0 {
				close(emptied)
				return
			}
			room.emptied = emptied
			for _, c := range slices.Clone(room.conns) {
				c.close()
			}
		})
		defer func() {
			select {
			case <-emptied:
			case <-ctx.Done():
			}
		}()
	}
	return d.server.tunnels.awaitOpening(ctx)
}

// awaitOpening waits until no tunnel is being opened, or until ctx is done.
func (ts *tunnels) awaitOpening(ctx context.Context) error {
	return ts.awaitThat(ctx, func() bool { return ts.opening == 0 })
}

// end stops the loops.
func (d *clients) end() {
	for loop, room := range d.rooms {
		loop.Post(room.recent.End)
	}
	d.loops.Close()
}
