package proxy

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"wstunnel/internal/access"
	"wstunnel/internal/config"
	"wstunnel/internal/logs"
	"wstunnel/internal/reactor"
	"wstunnel/internal/relay"
	"wstunnel/internal/session"
	"wstunnel/internal/spool"
	"wstunnel/internal/static"
	"wstunnel/internal/upstream"
)

// Certificates is what a configuration's TLS listeners need.
type Certificates interface {
	// Config returns the settings of TLS handshakes. It is not modified.
	Config() *tls.Config
	// CACertificate returns the local CA's certificate as PEM, or nil if there is none.
	CACertificate() []byte
	// Challenge returns the answer to an HTTP-01 challenge of an ACME authority (RFC 8555, section 8.3), or nil if there is none. The host
	// is a Host header. It may read a small file.
	Challenge(host, token string) []byte
	// Misdirected tells whether a request for a host must not be answered on a connection whose handshake was for another server
	// name, which is empty if the client gave none (RFC 9110, section 15.5.20).
	Misdirected(serverName, host string) bool
	// Pending tells whether the first certificate of a host, which may have a port, is still to come, so that handshakes for it fail.
	Pending(host string) bool
}

// Server is the front end: it lives as long as the process, while configurations come and go.
type Server struct {
	log    *slog.Logger
	access accessLogs

	ctx    context.Context // ends when Shutdown is over
	cancel context.CancelFunc
	// opening ends when Shutdown begins, so that a name of a listener that is being resolved does not hold it up.
	opening    context.Context
	endOpening context.CancelFunc

	clock     *reactor.Clock
	clients   *clients // nil before the first Apply
	gen       atomic.Pointer[generation]
	upstreams *upstream.Upstreams
	tunnels   tunnels
	pushes    pushCounts
	counts    counts
	lag       atomic.Pointer[lag] // nil before the first Apply
	hints     hints
	drained   atomic.Pointer[map[DrainScope]bool] // what is being drained; not modified
	// unhurried ends when a Shutdown is to be quick.
	unhurried context.Context
	hurry     context.CancelFunc

	admission *admission

	// loopID is this process in the header CDN-Loop. It is random, so that nobody who has not seen it can have requests refused by it.
	loopID string
	spare  spare
	files  *static.Files

	slow   session.Memory // what slow clients have yet to send or to take
	spools spool.Place    // and what is too much of that for memory
	relays relay.Memory

	mu        sync.Mutex // guards what follows, and makes Apply and Shutdown take turns
	listeners map[string]*listener
	inherited []net.Listener
	given     map[string]net.Listener  // by another process, by address
	handed    bool                     // to another process
	users     map[string]*access.Users // by file
	// stickyKeyIn is the directory that the key of sticky cookies was looked for in; empty before it was.
	stickyKeyIn string
	stopped     bool
}

// generation is what one configuration became. It is immutable.
type generation struct {
	cfg     *config.Config
	table   *table
	access  *logs.Log // of requests whose site is not known; nil for nowhere
	tls     *tls.Config
	ca      []byte
	certs   Certificates
	tlsPort string      // where redirect_https leads
	unknown *siteCounts // of requests whose site is not known
}

// New returns a server that listens nowhere yet. Sockets that the process inherited, from systemd for instance, are taken for the
// listeners whose address they have; the server owns them.
func New(own *logs.Log, inherited []net.Listener) *Server {
	logger := own.Logger()
	s := &Server{
		log: logger, clock: reactor.NewClock(), listeners: map[string]*listener{}, users: map[string]*access.Users{}, inherited: inherited, loopID: "wstunnel-" + strings.ToLower(rand.Text()),
	}
	s.access.own = own
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.opening, s.endOpening = context.WithCancel(s.ctx)
	s.unhurried, s.hurry = context.WithCancel(s.ctx)
	s.drained.Store(&map[DrainScope]bool{})
	s.hints.clock = s.clock
	s.upstreams = upstream.New(s.ctx, s.clock, logger, s.backendsFull, s.serverChanged)
	limit := descriptorLimit()
	s.admission = newAdmission(s, limit)
	s.spare = divideSpared(limit)
	s.files = static.NewFiles(s.spare.files)
	s.relays.Clock = relayClock{s.clock}
	s.relays.Limit = func() int64 { return s.gen.Load().cfg.Limits.RelayMemory }
	s.slow.Limit = func() int64 { return s.gen.Load().cfg.Limits.BufferMemory }
	s.spools.Dir, s.spools.TooMany = tempDir(), s.filesTooMany
	s.spools.Limit = func() int64 { return s.gen.Load().cfg.Limits.SpoolSpace }
	s.spools.Complain = func(err error) { logger.Warn("backends wait for slow clients", "error", err) }
	s.relays.Patience = relayPatience
	return s
}

// backendsFull reports whether so many connections to backends are too many: with tunnels and temporary files they get as many descriptors together as clients do.
func (s *Server) backendsFull(open int64) bool {
	_, files := s.spools.Used()
	return int64(s.tunnels.count())+open+files > s.admission.capacity
}

// filesTooMany reports whether so many temporary files are too many: they get half of those descriptors, as long as a quarter of them is free.
func (s *Server) filesTooMany(files int64) bool {
	capacity := s.admission.capacity
	return files > capacity/2 || int64(s.tunnels.count())+s.upstreams.Open()+files > capacity*3/4
}

// tempDir returns where temporary files are to be, which may be large: /tmp may be memory.
func tempDir() string { return cmp.Or(os.Getenv("TMPDIR"), "/var/tmp") }

// Apply makes a configuration the one that answers from now on. It builds all that is new and opens listeners first, then
// swaps the routing at once, then retires what is gone; an error leaves everything as it was. Exchanges under way
// and live tunnels keep what they were given.
func (s *Server) Apply(cfg *config.Config, certs Certificates) error {
	if err := s.access.open(cfg); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return errors.New("the server is stopping")
	}
	if s.handed {
		return errors.New("another process has taken over")
	}
	if s.clients == nil {
		clients, err := newClients(s)
		if err != nil {
			return err
		}
		s.clients = clients
		s.lag.Store(newLag(clients))
	}
	opened, err := s.openListeners(cfg)
	if err != nil {
		return err
	}
	s.loadStickyKey(cfg)
	next := &generation{cfg: cfg, tls: certs.Config(), ca: certs.CACertificate(), certs: certs, unknown: s.counts.of(unknownSite)}
	building := &building{server: s}
	next.table, next.access = newTable(cfg, building), building.accessLog(cfg.AccessLog)
	for address, l := range opened {
		s.listeners[address] = l
	}
	next.tlsPort = s.tlsPort(cfg)
	s.gen.Store(next)
	for _, c := range cfg.Listen {
		s.listeners[c.Address].secure.Store(c.TLS)
		s.listeners[c.Address].proxied.Store(c.ProxyProtocol)
	}
	s.admission.warn(cfg.Limits.MaxConnections)
	for _, c := range cfg.Listen {
		if l := opened[c.Address]; l != nil {
			l.Start()
			s.log.Info("listening", "address", l.Addr().String(), "tls", c.TLS)
		}
	}
	s.retire(next, building.used)
	s.drainRemoved(next)
	s.access.retire(cfg)
	s.counts.retire(cfg, s.tunnels.gather())
	s.lag.Load().turn(cfg.Metrics != "")
	return nil
}

// building gives a table what belongs to the process.
type building struct {
	server *Server
	used   []*upstream.Upstream
}

func (b *building) upstream(t *config.Target) *upstream.Upstream {
	u := b.server.upstreams.Upstream(t)
	b.used = append(b.used, u)
	return u
}

func (b *building) accessLog(c config.AccessLog) *logs.Log { return b.server.access.log(c) }

func (b *building) counts(site string) *siteCounts { return b.server.counts.of(site) }

// users returns those of a file. They belong to the process, so that what is known of them outlives a reload.
func (b *building) users(file string) *access.Users {
	s := b.server
	if s.users[file] == nil {
		s.users[file] = access.OpenUsers(file, s.clock.Now)
	}
	return s.users[file]
}

// openListeners opens the addresses that are not listened on yet, all or none.
func (s *Server) openListeners(cfg *config.Config) (map[string]*listener, error) {
	opened := map[string]*listener{}
	s.sortGiven(cfg)
	for _, c := range cfg.Listen {
		if s.listeners[c.Address] != nil {
			continue
		}
		l, err := s.openListener(c)
		if err != nil {
			for _, other := range opened {
				other.Close()
			}
			return nil, fmt.Errorf("%s: listening on %s: %w", cfg.Place(c.Pos), c.Address, err)
		}
		opened[c.Address] = l
	}
	return opened, nil
}

// openListener opens an address, or takes the inherited socket for it. Nothing is accepted yet.
func (s *Server) openListener(c config.Listener) (*listener, error) {
	socket := s.takeGiven(c.Address)
	if socket == nil {
		socket = s.takeInherited(c.Address)
	}
	if socket == nil {
		// Connections that multipath TCP accepts do not inherit the options of their listener.
		var plain net.ListenConfig
		plain.SetMultipathTCP(false)
		var err error
		if socket, err = plain.Listen(s.opening, "tcp", c.Address); err != nil {
			return nil, s.listenError(c.Address, err)
		}
	}
	l := newListener(socket, s, c)
	var err error
	if l.acceptor, err = s.clients.listen(l); err != nil {
		socket.Close()
		return nil, err
	}
	return l, nil
}

// listenError adds to a failure to listen what would mend it.
func (s *Server) listenError(address string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		if own := s.clashing(address); own != "" {
			return fmt.Errorf("%w by this server itself, for %s; remove that address in one reload and add this one in the next", err, own)
		}
	case errors.Is(err, syscall.EACCES) && runtime.GOOS == "linux":
		program, _ := os.Executable()
		return fmt.Errorf("%w; what grants a low port: AmbientCapabilities=CAP_NET_BIND_SERVICE or a socket unit of systemd, "+
			"setcap cap_net_bind_service=+ep %s, or sysctl net.ipv4.ip_unprivileged_port_start", err, program)
	}
	return err
}

// clashing returns the address of a listener of this server that keeps another address from being opened, or nothing.
func (s *Server) clashing(address string) string {
	wanted, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return ""
	}
	for own, l := range s.listeners {
		open, ok := l.Addr().(*net.TCPAddr)
		if ok && open.Port == wanted.Port && (anywhere(open.IP) || anywhere(wanted.IP) || open.IP.Equal(wanted.IP)) {
			return own
		}
	}
	return ""
}

// anywhere reports an address that stands for all of the machine's.
func anywhere(ip net.IP) bool { return ip == nil || ip.IsUnspecified() }

// takeInherited returns the inherited socket that listens on an address, or nil.
func (s *Server) takeInherited(address string) net.Listener {
	want, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil
	}
	for i, l := range s.inherited {
		have, ok := l.Addr().(*net.TCPAddr)
		if !ok || have.Port != want.Port {
			continue
		}
		if anywhere(want.IP) && anywhere(have.IP) || have.IP.Equal(want.IP) {
			s.inherited = append(s.inherited[:i], s.inherited[i+1:]...)
			return l
		}
	}
	return nil
}

// tlsPort returns the port of the first TLS listener.
func (s *Server) tlsPort(cfg *config.Config) string {
	for _, c := range cfg.Listen {
		if c.TLS {
			return s.listeners[c.Address].port
		}
	}
	return ""
}

// retire ends what the new generation does not need.
func (s *Server) retire(next *generation, used []*upstream.Upstream) {
	wanted := map[string]bool{}
	for _, c := range next.cfg.Listen {
		wanted[c.Address] = true
	}
	for address, l := range s.listeners {
		if !wanted[address] {
			l.Close()
			delete(s.listeners, address)
		}
	}
	for _, l := range s.inherited {
		s.log.Warn("inherited socket is not in the configuration; closing it", "address", l.Addr().String())
		l.Close()
	}
	s.inherited = nil
	s.upstreams.Retire(used)
}

// Addresses returns where the server listens, in the order of the configuration.
func (s *Server) Addresses() []net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	var addrs []net.Addr
	for _, c := range s.gen.Load().cfg.Listen {
		if l := s.listeners[c.Address]; l != nil {
			addrs = append(addrs, l.Addr())
		}
	}
	return addrs
}

// Shutdown stops accepting, lets requests finish and closes every tunnel with Close frames (1001) to both ends.
// When ctx is done, what is left is cut; the error says so.
func (s *Server) Shutdown(ctx context.Context) error { return s.shutdown(ctx, nil) }

// shutdown ends all, but for the tunnels that a keeper takes, if there is one.
func (s *Server) shutdown(ctx context.Context, keeper *keeper) error {
	s.endOpening()
	defer s.cancel()
	s.mu.Lock() // and not to the end: another process may wait for what it is answered about a tunnel
	s.stopped = true
	for _, l := range s.listeners {
		l.Close()
	}
	s.mu.Unlock()
	if s.clients == nil {
		return nil
	}
	defer s.clients.end()
	drained := make(chan struct{})
	go func() {
		s.drainForGood(ctx, keeper != nil)
		close(drained)
	}()
	err := s.clients.shutdown(ctx)
	<-drained
	if keeper != nil {
		keeper.take(ctx, s)
	}
	// A handshake that was under way may have become a tunnel meanwhile.
	if tunnels := s.tunnels.await(ctx); tunnels != nil {
		err = errors.Join(err, fmt.Errorf("%d tunnels were cut: %w", s.TunnelCount(), tunnels))
	}
	s.upstreams.Retire(nil)
	s.access.end()
	return err
}
