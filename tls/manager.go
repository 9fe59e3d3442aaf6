package tls

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"wstunnel/internal/config"
)

// Manager is what lives as long as the process while configurations come and go: the certificates that an ACME authority
// issues, their renewal, and the keys of session tickets. It is safe for concurrent use.
//
// A handshake only reads its map. Orders and renewals are made in the background: see schedule.go.
type Manager struct {
	log *slog.Logger
	now func() time.Time

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	running sync.WaitGroup
	started sync.Once

	challenges *challenges
	refused    refused
	tickets    tickets
	budget     budget
	questions  questions
	current    atomic.Pointer[Certificates] // the configuration in use

	wake  chan struct{} // tells the schedule that something may be due
	mu    sync.RWMutex  // guards what follows
	names map[string]*entry
	busy  int               // orders under way
	asked map[string]*asker // by URL; kept over reloads with their answers
}

// NewManager returns a manager of nothing yet. Nothing runs before the first call of Use. What happens later, and
// what fails, goes to logger.
func NewManager(logger *slog.Logger) *Manager { return newManager(logger, time.Now) }

// newManager is NewManager with a clock.
func newManager(logger *slog.Logger, now func() time.Time) *Manager {
	m := &Manager{
		log: logger, now: now, challenges: newChallenges(), refused: refused{log: logger, now: now},
		wake: make(chan struct{}, 1), names: map[string]*entry{}, asked: map[string]*asker{},
		budget: budget{domains: map[string][]time.Time{}},
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

// Close ends what runs in the background, without waiting for it.
func (m *Manager) Close() { m.cancel() }

// Load loads the certificates of all sites of cfg: those in files, those that were ordered earlier, and the local CA in
// cfg.TLS.Storage, which is made if a site is self-signed and there is none yet. It reports every site that cannot be served,
// each error beginning with file:line:column.
//
// Nothing is ordered before the result is given to Use.
func (m *Manager) Load(cfg *config.Config) (*Certificates, error) {
	c, err := newCertificates(m, cfg)
	if err != nil {
		return nil, err
	}
	if c.authority != nil {
		m.restore(c)
	}
	return c, nil
}

// Use makes c, which Load has returned, the configuration whose certificates are ordered and renewed; those of sites that are
// gone are forgotten, but stay in the storage. It is called when the listeners are open, which the authority will connect to.
func (m *Manager) Use(c *Certificates) {
	m.current.Store(c)
	m.tickets.renew(m.now(), c.config)
	m.adopt(c)
	m.started.Do(func() { m.running.Go(m.run) })
	m.poke()
}

// restore brings the stored certificates of a configuration into memory, so that they are served from the first handshake
// on, whether the authority answers or not.
func (m *Manager) restore(c *Certificates) {
	names := c.auto
	if c.onDemand {
		stored, err := c.authority.storage.names(".pem")
		if err != nil {
			m.log.Error("the storage of certificates cannot be listed", "error", err)
		}
		for _, name := range stored {
			if s := c.lookup(name); s != nil && s.asker != nil {
				names = append(names, name)
			}
		}
	}
	for _, name := range names {
		if e := m.entry(name); e != nil && e.cert.Load() != nil {
			continue
		}
		if cert := c.authority.storage.certificate(name); cert != nil {
			e := m.add(name)
			e.cert.Store(cert)
			m.mu.Lock()
			e.storage = c.authority.storage
			m.mu.Unlock()
		}
	}
}

// entry returns what is known of a name, or nil.
func (m *Manager) entry(name string) *entry {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.names[name]
}

// add returns the entry of a name, a new one if there is none.
func (m *Manager) add(name string) *entry {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.names[name]
	if e == nil {
		e = &entry{name: name}
		m.names[name] = e
	}
	return e
}

// asker returns the asker of a URL.
func (m *Manager) asker(url string) *asker {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.asked[url]
	if a == nil {
		a = newAsker(url, m.log, m.now)
		m.asked[url] = a
	}
	return a
}

// poke lets the schedule look whether something is due.
func (m *Manager) poke() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// autoSource is the source of a site whose certificates are ordered.
type autoSource struct {
	manager *Manager
	first   string // the certificate of the site's first host is for clients that name none
	asker   *asker // nil unless on demand
	cfg     *config.Config
}

// issuanceWait is how long a handshake waits for an order that is under way, or that it starts itself.
const issuanceWait = 5 * time.Second

// certificate returns what is in memory. Only while the first certificate of a name is being ordered it waits, for a
// moment. That a name has none for longer is logged once.
func (s *autoSource) certificate(hello *tls.ClientHelloInfo, name string) (*tls.Certificate, error) {
	if name == "" {
		name = s.first
	}
	e := s.manager.entry(name)
	if e == nil && s.asker != nil {
		var err error
		if e, err = s.manager.demand(hello.Context(), s.asker, name, clientOf(hello.Conn, s.cfg)); err != nil {
			return nil, err
		}
	}
	if e == nil {
		return nil, nil // the name of no host: that of a site "_"
	}
	if cert := e.cert.Load(); cert != nil {
		return cert, nil
	}
	s.manager.await(hello.Context(), e)
	if cert := e.cert.Load(); cert != nil {
		return cert, nil
	}
	return nil, s.manager.missing(e)
}

// await waits until the order for a name that has no certificate ends, if one is under way.
func (m *Manager) await(ctx context.Context, e *entry) {
	m.mu.Lock()
	if e.done == nil && !e.due.IsZero() && !m.now().Before(e.due) {
		e.done = make(chan struct{}) // it is about to start
	}
	done := e.done
	m.mu.Unlock()
	if done == nil {
		return
	}
	timer := time.NewTimer(issuanceWait)
	defer timer.Stop()
	select {
	case <-done:
	case <-timer.C:
	case <-ctx.Done():
	case <-m.ctx.Done():
	}
}

// missing returns why a name has no certificate; the log is told once.
func (m *Manager) missing(e *entry) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !e.told {
		e.told = true
		what := []any{"host", e.name}
		if e.attempt.Error != "" {
			what = append(what, "error", e.attempt.Error)
		}
		if e.due.After(m.now()) {
			what = append(what, "next_try", e.due)
		} // else the order is under way
		m.log.Warn("handshakes fail: the host has no certificate yet", what...)
	}
	return fmt.Errorf("no certificate for %s yet", e.name)
}

// tickets are the keys of session tickets, shared by all listeners and kept over reloads.
type tickets struct {
	mu   sync.Mutex
	keys [][32]byte // the newest first
	made time.Time  // the newest
}

// A key encrypts tickets for ticketPeriod, and decrypts them for two periods more.
const (
	ticketPeriod = 12 * time.Hour
	ticketKeys   = 3
)

// renew gives the keys to a configuration, with a new one if it is time.
func (t *tickets) renew(now time.Time, settings *tls.Config) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.keys) == 0 || now.Sub(t.made) >= ticketPeriod {
		var key [32]byte
		rand.Read(key[:]) // never fails
		t.keys = append([][32]byte{key}, t.keys[:min(len(t.keys), ticketKeys-1)]...)
		t.made = now
	}
	settings.SetSessionTicketKeys(t.keys)
}

// TicketKeys returns the keys of session tickets, for a process that takes over.
func (m *Manager) TicketKeys() []byte {
	m.tickets.mu.Lock()
	defer m.tickets.mu.Unlock()
	var all []byte
	for _, key := range m.tickets.keys {
		all = append(all, key[:]...)
	}
	return all
}

// SetTicketKeys has the tickets of another process believed, before the first Use.
func (m *Manager) SetTicketKeys(all []byte) {
	m.tickets.mu.Lock()
	defer m.tickets.mu.Unlock()
	m.tickets.keys = nil
	for len(all) >= 32 && len(m.tickets.keys) < ticketKeys {
		m.tickets.keys = append(m.tickets.keys, [32]byte(all))
		all = all[32:]
	}
	m.tickets.made = m.now()
}

// refused counts the handshakes for names that no site has.
type refused struct {
	log *slog.Logger
	now func() time.Time

	total  atomic.Int64
	mu     sync.Mutex
	logged time.Time
	told   int64 // the total that the log was told
}

// refusedInterval is between two lines of the log.
const refusedInterval = time.Minute

func (r *refused) count(hello *tls.ClientHelloInfo) {
	total := r.total.Add(1)
	if !r.mu.TryLock() {
		return
	}
	defer r.mu.Unlock()
	now := r.now()
	if !r.logged.IsZero() && now.Sub(r.logged) < refusedInterval {
		return
	}
	client := ""
	if hello.Conn != nil {
		client = hello.Conn.RemoteAddr().String()
	}
	r.log.Warn("TLS handshakes refused: no site has the name", "since_last", total-r.told, "total", total,
		"last_name", hello.ServerName, "last_client", client)
	r.logged, r.told = now, total
}
