package proxy

import (
	"cmp"
	"errors"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"wstunnel/internal/config"
	"wstunnel/internal/handover"
	"wstunnel/internal/logs"
	"wstunnel/internal/reactor"
	"wstunnel/internal/tags"
	"wstunnel/internal/tunnel"
)

// Give returns this process's end of a link to another one that is to take over: see [handover.NewGiver].
func (s *Server) Give(end *os.File, kill func()) (*handover.Giver, error) {
	return handover.NewGiver(end, s.clock, kill)
}

// movers is how many tunnels are on their way to another process at a time.
const movers = 8

// giver is who takes tunnels to another process: a [handover.Giver], or what behaves as one.
type giver interface {
	// Move gives a held tunnel to the other process. Where it returns an error, the tunnel goes on where it was.
	Move(t *handover.Tunnel, held *tunnel.Held) error
}

// HandOver gives the plain tunnels to another process, those that are open now and were not refused before, and returns how many went there. Those that stay go on as if
// nothing had been; an error says that the other process takes none any more. It returns when each has been seen to.
func (s *Server) HandOver(to giver) (moved int, err error) {
	var went atomic.Int64
	var ended atomic.Pointer[error]
	next := make(chan *liveTunnel)
	var work sync.WaitGroup
	for range movers {
		work.Go(func() {
			for t := range next {
				if ended.Load() != nil {
					continue
				}
				switch err := s.move(t, to); {
				case err == nil:
					went.Add(1)
				case errors.Is(err, handover.ErrGone), errors.Is(err, handover.ErrSilent), errors.Is(err, handover.ErrStoreFull):
					ended.Store(&err)
				case !errors.Is(err, tunnel.ErrUnmovable) && !errors.Is(err, tunnel.ErrClosing):
					s.log.Warn("a tunnel was not handed over, and goes on", "tunnel", t.id, "client", t.client(), "error", err)
				}
			}
		})
	}
	for _, t := range s.tunnels.movable() {
		next <- t
	}
	close(next)
	work.Wait()
	if e := ended.Load(); e != nil {
		err = *e
	}
	return int(went.Load()), err
}

// isMovable reports whether another process can go on with a connection.
func isMovable(c closer) bool {
	t, whole := c.(*tunnel.Tunnel)
	return whole && t.Movable()
}

// movable returns the tunnels that nobody has tried to hand over yet, and notes that it was tried.
func (ts *tunnels) movable() (all []*liveTunnel) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, t := range ts.live {
		if isMovable(t.conn) && !t.tried {
			t.tried = true
			all = append(all, t)
		}
	}
	return all
}

// tryAgain has all tunnels tried anew.
func (ts *tunnels) tryAgain() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, t := range ts.live {
		t.tried = false
	}
}

// move gives a tunnel to another process.
func (s *Server) move(t *liveTunnel, to giver) error {
	type outcome struct {
		held *tunnel.Held
		err  error
	}
	done := make(chan outcome, 1)
	t.conn.(*tunnel.Tunnel).Hold(func(h *tunnel.Held, err error) { done <- outcome{h, err} })
	o := <-done
	if o.err != nil {
		return o.err
	}
	err := to.Move(t.record(), o.held)
	if err != nil {
		s.tunnels.mu.Lock()
		t.moving = false
		s.tunnels.mu.Unlock()
	}
	return err
}

// record is what another process is to know of a tunnel.
func (t *liveTunnel) record() *handover.Tunnel {
	r := &handover.Tunnel{
		ID: t.id, Since: t.since, Listener: t.listener.configured, Remote: t.remote, Secure: t.secure, Counted: t.counted, Site: t.Site, Location: t.Location,
		Host: t.Host, Path: t.Path, Named: t.Named, Upstream: t.Upstream, Backend: t.Backend, Subprotocol: t.Subprotocol,
	}
	t.tunnels.mu.Lock()
	is := t.tags()
	t.moving = true
	t.tunnels.mu.Unlock()
	r.Secret, r.User, r.Groups, r.Push = t.secret, is.User, is.Groups, t.unpushable
	if l := t.line; l != nil {
		r.Line = &handover.Line{Client: l.Client, Proto: l.Proto, Target: l.Target, Referer: l.Referer, UserAgent: l.UserAgent}
	}
	return r
}

// Adopt takes a tunnel of another process, of which it owns the descriptors. Where it fails, it closes them such that their peers see nothing of it.
func (s *Server) Adopt(r *handover.Tunnel, client, backend int) (handover.Adopted, error) {
	s.mu.Lock()
	t, err := s.adopted(r)
	s.mu.Unlock()
	if err != nil {
		unix.Close(client)
		unix.Close(backend)
		return nil, err
	}
	loop := s.clients.loops.Pick()
	type outcome struct {
		a   *tunnel.Adopted
		err error
	}
	done := make(chan outcome, 1)
	posted := loop.Post(func() {
		a, err := tunnel.Adopt(loop, client, backend, &r.State, t.ended)
		done <- outcome{a, err}
	})
	if !posted {
		unix.Close(client)
		unix.Close(backend)
		return nil, net.ErrClosed
	}
	o := <-done
	if o.err != nil {
		t.forget(&tunnel.Result{Cause: tunnel.CauseMoved, ToBackend: t.told[0], ToClient: t.told[1]})
		return nil, o.err
	}
	t.register(o.a.Tunnel(), EventArrived)
	for scope := range *s.drained.Load() {
		if scope.holds(&t.tunnelInfo) {
			t.conn.Drain(s.closing(1).code, drainReason, closeTimeout)
		}
	}
	return adopted{o.a, loop}, nil
}

// adopted is a tunnel that was taken, on its loop.
type adopted struct {
	tunnel *tunnel.Adopted
	loop   *reactor.Loop
}

// Begin lets the tunnel go on.
func (a adopted) Begin(late tunnel.Late) { a.loop.Post(func() { a.tunnel.Begin(late) }) }

// Discard forgets it.
func (a adopted) Discard() { a.loop.Post(a.tunnel.Discard) }

// adopted makes a record one of the live tunnels. It is called with mu held.
func (s *Server) adopted(r *handover.Tunnel) (*liveTunnel, error) {
	if s.stopped || s.clients == nil {
		return nil, errors.New("the server is stopping")
	}
	gen := s.gen.Load()
	t := &liveTunnel{id: r.ID, since: r.Since, secret: r.Secret, unpushable: r.Push, tunnels: &s.tunnels, tunnelInfo: tunnelInfo{
		Site: r.Site, Location: r.Location, Host: r.Host, Path: r.Path, Named: r.Named, Upstream: r.Upstream, Backend: r.Backend, Subprotocol: r.Subprotocol, Mode: config.ModeTunnel,
		access: gen.access, counts: s.counts.of(r.Site), holder: holder{listener: s.listenerOf(r.Listener), remote: r.Remote, secure: r.Secure, counted: r.Counted},
	}}
	t.told = [2]tunnel.Traffic{trafficOf(&r.State.Client), trafficOf(&r.State.Backend)} // the other process has counted it
	if l := r.Line; l != nil {
		t.line = &logs.Request{
			Client: l.Client, Method: http.MethodGet, Proto: l.Proto, Status: http.StatusSwitchingProtocols,
			Target: l.Target, Referer: l.Referer, UserAgent: l.UserAgent,
		}
	}
	if !s.tunnels.take(t, tags.Tags{User: r.User, Groups: r.Groups}) {
		return nil, errors.New("there is a tunnel of this number")
	}
	if l := gen.table.location(r.Site, r.Location); l != nil {
		t.access = l.access
		if l.websocket != nil {
			t.place = l.websocket.Adopt(r.Backend)
		}
	}
	if t.access != nil && t.access.Format() == logs.Combined && t.line == nil {
		t.access = nil // nothing is known that could be told
	}
	if t.access == nil || t.access.Format() != logs.Combined {
		t.line = nil
	}
	s.admission.adopt(t.remote.Addr(), t.counted)
	return t, nil
}

// trafficOf is what went by so far from an end.
func trafficOf(from *tunnel.EndState) tunnel.Traffic {
	return tunnel.Traffic{Bytes: from.Bytes, Messages: from.Messages, Opaque: from.Opaque}
}

// location returns the location of a site by the names that logs know them by, or nil.
func (t *table) location(site, pattern string) *location {
	for _, s := range t.all {
		if s.name != site {
			continue
		}
		if i := slices.IndexFunc(s.all, func(l *location) bool { return l.pattern == pattern }); i >= 0 {
			return s.all[i]
		}
	}
	return nil
}

// listenerOf returns the listener of an address; where there is none any more, one that does not listen.
func (s *Server) listenerOf(address string) *listener {
	if l := s.listeners[address]; l != nil {
		return l
	}
	return &listener{server: s, configured: address}
}

// take keeps a tunnel under the number that it has; false says that there is one.
func (ts *tunnels) take(t *liveTunnel, is tags.Tags) bool {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.live == nil {
		ts.live = map[uint64]*liveTunnel{}
	}
	if ts.live[t.id] != nil {
		return false
	}
	ts.live[t.id] = t
	ts.enrol(t, is)
	return true
}

// Inheritance is what another process gives besides tunnels.
type Inheritance struct {
	Listeners map[string]net.Listener // by their addresses in the configuration
	LastID    uint64                  // of the other's tunnels
	Drains    []DrainScope            // that hold
}

// idGap is how many tunnels a process may still open, on connections over HTTP/2 that stay its own, when another one has begun to number its own.
const idGap = 1 << 20

// Inherit takes what another process gives, before the first Apply.
func (s *Server) Inherit(from Inheritance) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.given = from.Listeners
	drained := map[DrainScope]bool{}
	for _, scope := range from.Drains {
		drained[scope] = true
		if scope.Upstream != "" {
			s.upstreams.SetAside(scope.Upstream, scope.Server, true)
		}
	}
	s.drained.Store(&drained)
	s.tunnels.lastID.Store(from.LastID + idGap)
}

// takeGiven returns the listener that another process gave for an address, or nil.
func (s *Server) takeGiven(address string) net.Listener {
	l := s.given[address]
	delete(s.given, address)
	return l
}

// sortGiven makes those of another process's listeners that the configuration names otherwise, or not at all, inherited ones as all others.
func (s *Server) sortGiven(cfg *config.Config) {
	for address, l := range s.given {
		if !slices.ContainsFunc(cfg.Listen, func(c config.Listener) bool { return c.Address == address }) {
			s.inherited = append(s.inherited, l)
			delete(s.given, address)
		}
	}
}

// LastID returns the number of the last tunnel.
func (s *Server) LastID() uint64 { return s.tunnels.lastID.Load() }

// Listeners returns copies of the listening sockets, for another process. The descriptors are the caller's to close.
func (s *Server) Listeners() (all []handover.Listener, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for address, l := range s.listeners {
		fd, err := duplicate(l.Listener)
		if err != nil {
			for _, other := range all {
				unix.Close(other.Descriptor)
			}
			return nil, err
		}
		all = append(all, handover.Listener{Address: address, Descriptor: fd})
	}
	return all, nil
}

// duplicate returns another descriptor of a listener's.
func duplicate(l net.Listener) (fd int, err error) {
	conn, ok := l.(syscall.Conn)
	if !ok {
		return 0, errors.New("not a socket of the system")
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	controlErr := raw.Control(func(own uintptr) { fd, err = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, cmp.Or(controlErr, os.NewSyscallError("dup", err))
}

// StopAccepting leaves what comes to another process, which accepts from the same sockets. No configuration is applied from now on.
func (s *Server) StopAccepting() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handed = true
	for _, l := range s.listeners {
		l.Stop()
	}
}

// AcceptAgain undoes StopAccepting, since the other process is gone.
func (s *Server) AcceptAgain() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return nil
	}
	s.handed = false
	s.tunnels.tryAgain()
	var errs []error
	for _, l := range s.listeners {
		acceptor, err := s.clients.listen(l)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l.acceptor = acceptor
		l.Start()
	}
	return errors.Join(errs...)
}
