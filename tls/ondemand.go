package tls

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/publicsuffix"
)

const (
	askTimeout = 5 * time.Second
	yesFor     = 10 * time.Minute // an answer is remembered
	noFor      = time.Minute
	maxAnswers = 10000 // remembered at once
	maxAsking  = 16    // questions at once

	// Let's Encrypt takes 300 orders in three hours from an account, and gives 50 certificates a week to a registered domain.
	ordersPerHour = 100
	domainPerWeek = 50
)

// An asker decides which names are ordered on demand: it asks a URL of the operator's.
type asker struct {
	url    string
	log    *slog.Logger
	now    func() time.Time
	client *http.Client
	slots  chan struct{}

	mu      sync.Mutex
	answers map[string]answer
	asking  map[string]chan struct{} // closed when the answer is there
	warned  time.Time
}

// An answer is remembered until it expires.
type answer struct {
	yes     bool
	expires time.Time
}

func newAsker(url string, log *slog.Logger, now func() time.Time) *asker {
	// A redirect is no yes, and a proxy of the environment is not meant for questions to oneself.
	client := &http.Client{
		Timeout: askTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: 2, IdleConnTimeout: 10 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return &asker{
		url: url, log: log, now: now, client: client, slots: make(chan struct{}, maxAsking),
		answers: map[string]answer{}, asking: map[string]chan struct{}{},
	}
}

var errAsking = errors.New("too many names are being asked about")

// allowed tells whether a name may have a certificate. Of those who want to know the same at once, one asks, if permit lets him.
func (a *asker) allowed(ctx context.Context, name string, permit func() error) (bool, error) {
	for {
		a.mu.Lock()
		if known, ok := a.answers[name]; ok && a.now().Before(known.expires) {
			a.mu.Unlock()
			return known.yes, nil
		}
		asked := a.asking[name]
		if asked == nil {
			break
		}
		a.mu.Unlock()
		select {
		case <-asked:
			if err := ctx.Err(); err != nil {
				return false, err
			}
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
	if err := permit(); err != nil {
		a.mu.Unlock()
		a.warn("a name is not asked about", name, err)
		return false, err
	}
	done := make(chan struct{})
	a.asking[name] = done
	a.mu.Unlock()

	yes, err := a.ask(ctx, name)

	a.mu.Lock()
	delete(a.asking, name)
	close(done)
	if err == nil {
		a.remember(name, yes)
	}
	a.mu.Unlock()
	if err != nil {
		a.warn("asking about a name failed", name, err)
	}
	return yes, err
}

// ask sends the question. Only an answer counts as a no: what goes wrong on the way is an error.
func (a *asker) ask(ctx context.Context, name string) (bool, error) {
	select {
	case a.slots <- struct{}{}:
		defer func() { <-a.slots }()
	default:
		return false, errAsking
	}
	u, err := url.Parse(a.url)
	if err != nil {
		return false, err
	}
	query := u.Query()
	query.Set("domain", name)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return false, err
	}
	resp, err := a.client.Do(req)
	if failure, ok := errors.AsType[*url.Error](err); ok {
		err = failure.Err // without the URL, which may hold a password or a token
	}
	if err != nil {
		return false, fmt.Errorf("asking whether %s is allowed: %w", name, err)
	}
	defer resp.Body.Close()
	io.CopyN(io.Discard, resp.Body, 4096)
	if resp.StatusCode >= 500 {
		return false, fmt.Errorf("asking whether %s is allowed: %s", name, resp.Status)
	}
	return resp.StatusCode >= 200 && resp.StatusCode < 300, nil
}

// remember keeps an answer. Clients can ask for any number of names: when there are too many, those that have expired go,
// and if that does not help, all. The caller holds mu.
func (a *asker) remember(name string, yes bool) {
	now := a.now()
	if len(a.answers) >= maxAnswers {
		for other, known := range a.answers {
			if !now.Before(known.expires) {
				delete(a.answers, other)
			}
		}
		if len(a.answers) >= maxAnswers {
			clear(a.answers)
		}
	}
	ttl := noFor
	if yes {
		ttl = yesFor
	}
	a.answers[name] = answer{yes, now.Add(ttl)}
}

// A budget bounds the orders for names on demand, whoever allows them: the account that pays is one.
type budget struct {
	mu      sync.Mutex
	orders  []time.Time            // of the last hour
	domains map[string][]time.Time // of the last week, by registrable domain
}

// spend takes an order from the budget, or says that it is used up. Renewals are not counted.
func (b *budget) spend(now time.Time, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	domain, err := b.look(now, name)
	if err != nil {
		return err
	}
	b.orders = append(b.orders, now)
	b.domains[domain] = append(b.domains[domain], now)
	return nil
}

// left says that the budget is used up for a name, if it is.
func (b *budget) left(now time.Time, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	_, err := b.look(now, name)
	return err
}

// look returns the registrable domain of a name that an order is left for. The caller holds mu.
func (b *budget) look(now time.Time, name string) (domain string, err error) {
	if domain, err = publicsuffix.EffectiveTLDPlusOne(name); err != nil {
		return "", fmt.Errorf("%s has no registrable domain: %w", name, err)
	}
	b.orders = since(b.orders, now.Add(-time.Hour))
	for other, orders := range b.domains {
		if orders = since(orders, now.Add(-7*24*time.Hour)); len(orders) == 0 {
			delete(b.domains, other)
		} else {
			b.domains[other] = orders
		}
	}
	switch {
	case len(b.orders) >= ordersPerHour:
		return "", fmt.Errorf("%d certificates were ordered on demand within an hour", ordersPerHour)
	case len(b.domains[domain]) >= domainPerWeek:
		return "", fmt.Errorf("%d certificates for names under %s were ordered on demand within a week", domainPerWeek, domain)
	}
	return domain, nil
}

// since returns the times after begin; they are in order.
func since(times []time.Time, begin time.Time) []time.Time {
	for len(times) > 0 && !times[0].After(begin) {
		times = times[1:]
	}
	return times
}

// warn logs at most once a minute.
func (a *asker) warn(what, name string, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if now := a.now(); a.warned.IsZero() || now.Sub(a.warned) >= time.Minute {
		a.warned = now
		a.log.Warn(what, "host", name, "error", err)
	}
}

// demand returns the entry of a name that a client asks for, if it is allowed; nil if it is not. Nobody is asked about a name that could
// not be ordered, nor for a client that has asked for too many.
func (m *Manager) demand(ctx context.Context, asker *asker, name string, client netip.Addr) (*entry, error) {
	c := m.current.Load()
	if c == nil || c.authority == nil || !issuable(name) {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, issuanceWait)
	defer cancel()
	allowed, err := asker.allowed(ctx, name, func() error {
		if err := m.questions.permit(m.now(), client); err != nil {
			return err
		}
		return m.budget.left(m.now(), name)
	})
	if err != nil || !allowed {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.names[name]
	if e == nil {
		if err := m.budget.spend(m.now(), name); err != nil {
			asker.warn("a name is not ordered", name, err)
			return nil, err
		}
		e = &entry{name: name, authority: c.authority, asker: asker, due: m.now(), done: make(chan struct{})}
		m.names[name] = e
		m.poke()
	}
	return e, nil
}

// issuable tells whether a name that a client asks for is one that an authority gives certificates for.
func issuable(name string) bool {
	return validName(name) && strings.Contains(name, ".") && !strings.Contains(name, "_")
}
