package tls

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// An entry is a name whose certificate is ordered and renewed.
type entry struct {
	name string
	cert atomic.Pointer[tls.Certificate] // nil as long as there is none; what it points to is never modified

	// The rest is guarded by Manager.mu.

	authority *authority    // that is to issue; nil as long as the name is not in use
	storage   storage       // where cert is stored, or should be
	asker     *asker        // that has to allow it; nil for a host of the configuration
	due       time.Time     // when to look after it again
	busy      bool          // that is being done
	done      chan struct{} // closed when it was done; nil if nobody waits
	attempt   attempt       // what failed
	fresh     bool          // it was not looked after since the start or the last reload
	told      bool          // the log was told that handshakes fail
}

const (
	// maxOrders bounds the orders at once.
	maxOrders = 4
	// lockRetry is how long another process that orders a name is left alone.
	lockRetry = 2 * time.Second
	// longestSleep is how often the schedule looks at the clock even if nothing is due: the clock may have been set.
	longestSleep = 10 * time.Minute
	// restartWait is how long after a failure a restart or a reload tries again at the soonest, whatever the back-off says: the
	// operator may have mended what was wrong. Let's Encrypt allows five failures an hour for a name.
	restartWait = 12 * time.Minute
)

// backoff is how long to wait after so many failures in a row. autocert alone would try again each minute.
func backoff(failures int) time.Duration {
	waits := [...]time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute, 24 * time.Hour}
	return waits[min(max(failures, 1), len(waits))-1]
}

// renewal returns when to renew a certificate: after two thirds of its life, but no sooner than 30 days before its end, and a little
// later by an amount that its bytes decide, so that many of one day are not renewed at once and processes that share the
// storage agree.
func renewal(cert *tls.Certificate) time.Time {
	leaf := cert.Leaf
	before := min(leaf.NotAfter.Sub(leaf.NotBefore)/3, 30*24*time.Hour)
	var jitter time.Duration
	if spread := min(before/10, time.Hour); spread > 0 && len(leaf.Signature) >= 8 {
		end := leaf.Signature[len(leaf.Signature)-8:]
		jitter = time.Duration(binary.BigEndian.Uint64(end) % uint64(spread))
	}
	return leaf.NotAfter.Add(jitter - before)
}

// adopt makes the names of a configuration due, and forgets those of others.
func (m *Manager) adopt(c *Certificates) {
	for _, name := range c.auto {
		m.add(name)
	}
	configured := make(map[string]bool, len(c.auto))
	for _, name := range c.auto {
		configured[name] = true
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, e := range m.names {
		var asker *asker
		if !configured[name] {
			if s := c.lookup(name); s != nil {
				asker = s.asker
			}
			if asker == nil {
				delete(m.names, name)
				continue
			}
		}
		e.adopt(c.authority, asker, m.now())
	}
}

// adopt makes a name one of the configuration that holds from now on. What is known not to be due yet is left in peace: there may
// be thousands. The caller holds Manager.mu.
func (e *entry) adopt(a *authority, asker *asker, now time.Time) {
	due := now
	if cert := e.cert.Load(); cert != nil && e.storage == a.storage {
		switch end := renewal(cert); {
		case now.Before(end):
			due = end
		case e.attempt.Failures == 0 && now.Before(e.due):
			due = e.due
		}
	}
	if e.authority != nil && e.authority.storage != a.storage {
		e.attempt = attempt{} // of another authority
	}
	e.authority, e.asker, e.due, e.fresh = a, asker, due, true
}

// run looks after the names that are due, until Close.
func (m *Manager) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-m.ctx.Done():
			return
		case <-m.wake:
		case <-timer.C:
		}
		if c := m.current.Load(); c != nil {
			m.tickets.renew(m.now(), c.config)
		}
		timer.Reset(m.startDue())
	}
}

// startDue starts what is due, as much as may run at once, and returns the time to the next.
func (m *Manager) startDue() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	next := longestSleep
	for _, e := range m.names {
		if e.busy || e.authority == nil {
			continue
		}
		if wait := e.due.Sub(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		if m.busy == maxOrders {
			continue // the end of one of them wakes the schedule
		}
		m.busy++
		e.busy = true
		if e.done == nil {
			e.done = make(chan struct{})
		}
		j := job{name: e.name, authority: e.authority, asker: e.asker, fresh: e.fresh, attempt: e.attempt}
		if e.storage == e.authority.storage {
			j.cert = e.cert.Load()
		}
		m.running.Go(func() { m.finish(e, j.authority, m.lookAfter(j)) })
	}
	return next
}

// A job is to look after a name.
type job struct {
	name      string
	authority *authority
	asker     *asker
	fresh     bool
	attempt   attempt          // what has failed, as far as this process knows
	cert      *tls.Certificate // that the authority has issued and that is served now; nil if there is none
}

// An outcome is what came of looking after a name.
type outcome struct {
	cert    *tls.Certificate // to serve from now on; nil: as before
	due     time.Time
	attempt attempt
	drop    bool // forget the name
	locked  bool // another process is at it
}

func (m *Manager) finish(e *entry, a *authority, o outcome) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o.cert != nil {
		e.cert.Store(o.cert)
		e.storage, e.told = a.storage, false
	}
	m.busy--
	e.busy = false
	// A reload may have had other plans meanwhile.
	if e.authority == a {
		e.attempt = o.attempt
		e.due = o.due
		e.fresh = e.fresh && o.locked
		if o.drop && m.names[e.name] == e {
			delete(m.names, e.name)
		}
	}
	if !o.locked && e.done != nil {
		close(e.done)
		e.done = nil
	}
	m.poke()
}

// lookAfter sees to it that a name has a certificate that is not to be renewed yet. Of several processes on one storage one
// does, and the others find its result.
func (m *Manager) lookAfter(j job) outcome {
	now, name, storage := m.now(), j.name, j.authority.storage
	unlock, err := storage.lock(name)
	if errors.Is(err, errLocked) {
		return outcome{due: now.Add(lockRetry), attempt: j.attempt, locked: true}
	}
	if err != nil {
		return m.failed(j, j.attempt, fmt.Errorf("locking: %w", err))
	}
	defer unlock()
	kept := storage.attempt(name)
	cert := storage.certificate(name)
	if j.cert != nil && (cert == nil || j.cert.Leaf.NotAfter.After(cert.Leaf.NotAfter)) {
		cert = j.cert // the storage has failed, or has lost it
		m.store(j, cert)
	}
	j.cert = cert
	if cert != nil && now.Before(renewal(cert)) {
		return outcome{cert: cert, due: renewal(cert), attempt: kept}
	}
	if j.attempt.Last.After(kept.Last) {
		kept = j.attempt // the storage has failed
	}
	if next := kept.next(now, j.fresh); now.Before(next) {
		return outcome{cert: cert, due: next, attempt: kept}
	}
	if j.asker != nil {
		allowed, err := j.asker.allowed(m.ctx, name, func() error { return nil })
		if err != nil {
			return m.failed(j, kept, err)
		}
		if !allowed {
			m.log.Info("certificate not renewed: the name is not allowed any more", "host", name)
			return outcome{drop: true}
		}
	}
	return m.order(j, kept)
}

// next returns when to try again at the soonest. What is noted for a time to come, by a clock that was ahead, holds nobody up.
func (a attempt) next(now time.Time, fresh bool) time.Time {
	if a.Last.After(now) {
		return now
	}
	if soonest := a.Last.Add(restartWait); fresh && soonest.Before(a.Next) {
		return soonest
	}
	return a.Next
}

// order orders a certificate and stores it. The caller holds the name's lock.
func (m *Manager) order(j job, kept attempt) outcome {
	begin := m.now()
	cert, err := j.authority.order(m.ctx, m.challenges, j.name)
	if err != nil {
		return m.failed(j, kept, err)
	}
	m.store(j, cert)
	now := m.now()
	// A clock that is wrong must not make this a loop.
	floor := now.Add(cert.Leaf.NotAfter.Sub(cert.Leaf.NotBefore) / 10)
	due := renewal(cert)
	if due.Before(floor) {
		due = floor
	}
	m.log.Info("certificate obtained", "host", j.name, "issuer", issuerOf(cert), "not_after", cert.Leaf.NotAfter,
		"renewal", due, "took_ms", now.Sub(begin).Milliseconds())
	return outcome{cert: cert, due: due}
}

// store stores a certificate. A storage that fails loses it with the process; until then it is served.
func (m *Manager) store(j job, cert *tls.Certificate) {
	if err := errors.Join(j.authority.storage.put(j.name, cert), j.authority.storage.note(j.name, attempt{})); err != nil {
		m.log.Error("certificate not stored: it is lost with this process", "host", j.name, "error", err)
	}
}

// failed notes a failure, in the log and in the storage, unless it is that of the process, which ends. A name on demand that
// keeps failing is forgotten, until a client asks for it again.
func (m *Manager) failed(j job, kept attempt, err error) outcome {
	now := m.now()
	if m.ctx.Err() != nil {
		return outcome{due: now, attempt: kept}
	}
	wait := backoff(kept.Failures + 1)
	if order, ok := errors.AsType[*orderError](err); ok && order.wait > 0 {
		// A rate limit of the account is no fault of the name's: of a thousand new hosts, Let's Encrypt takes a hundred an hour, and the
		// last are not to wait for days.
		wait = max(order.wait, min(wait, 100*time.Minute))
	}
	next := attempt{Failures: kept.Failures + 1, Error: err.Error(), Last: now, Next: now.Add(wait)}
	if err := j.authority.storage.note(j.name, next); err != nil {
		m.log.Error("failure not stored", "host", j.name, "error", err)
	}
	m.log.Error("certificate not obtained", "host", j.name, "error", err, "failures", next.Failures, "next_try", next.Next)
	return outcome{cert: j.cert, due: next.Next, attempt: next, drop: j.asker != nil && j.cert == nil && next.Failures >= 4}
}

// issuerOf names who has issued a certificate.
func issuerOf(cert *tls.Certificate) string {
	if name := cert.Leaf.Issuer.CommonName; name != "" {
		return name
	}
	return cert.Leaf.Issuer.String()
}
