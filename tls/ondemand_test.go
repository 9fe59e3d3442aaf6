package tls

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/pebble"
)

// askServer answers what an asker asks, and counts.
type askServer struct {
	*httptest.Server
	asked  atomic.Int64
	status atomic.Int64
	delay  time.Duration
	hold   chan struct{} // nil, or closed when answers may go
}

func startAsk(t *testing.T) *askServer {
	t.Helper()
	s := &askServer{}
	s.status.Store(http.StatusNoContent)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		time.Sleep(s.delay)
		if s.hold != nil {
			<-s.hold
		}
		status := int(s.status.Load())
		if strings.HasPrefix(r.FormValue("domain"), "no") || r.FormValue("site") != "7" {
			status = http.StatusNotFound
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *askServer) url() string { return s.URL + "/check?site=7" }

func (s *askServer) asker(t *testing.T, clock *clock, logs *logBuffer) *asker {
	t.Helper()
	a := newAsker(s.url(), logs.logger(), clock.Now)
	t.Cleanup(a.client.CloseIdleConnections)
	return a
}

// freely permits a question.
func freely() error { return nil }

func onDemandSite(ask string, hosts ...string) config.Site {
	s := site(config.TLSAuto, hosts...)
	s.TLS.OnDemand, s.TLS.Ask = true, ask
	return s
}

func TestCertificatesOnDemand(t *testing.T) {
	t.Parallel()
	authority, f := startACME(t, pebble.Options{})
	ask := startAsk(t)
	cfg := acmeConfig(t, authority, onDemandSite(ask.url(), "*.customers.example", "_"))
	c := f.use(t, cfg)
	t.Cleanup(c.lookup("x.customers.example").asker.client.CloseIdleConnections)
	roots := authority.Roots(t)
	// The first visitors wait for the order, together.
	var visitors sync.WaitGroup
	for range 3 {
		visitors.Go(func() {
			if _, err := handshake(f.tls, &tls.Config{ServerName: "shop.customers.example", RootCAs: roots}); err != nil {
				t.Errorf("first handshake: %v", err)
			}
		})
	}
	visitors.Wait()
	if asked := ask.asked.Load(); asked != 1 {
		t.Errorf("asked %d times", asked)
	}
	if n := len(f.logs.lines("certificate obtained")); n != 1 {
		t.Errorf("%d orders", n)
	}
	for _, name := range []string{"no.customers.example", "bad_name.customers.example", "single"} {
		_, err := handshake(f.tls, anyone(name))
		wantUnrecognizedName(t, err)
	}
	if _, err := handshake(f.tls, anyone("")); err == nil {
		t.Error("a certificate for no name")
	}

	// After a restart it is served without a question.
	before := ask.asked.Load()
	plain, secure := ports(t)
	again := newFront(t, plain, secure)
	again.use(t, cfg)
	if _, err := handshake(again.tls, &tls.Config{ServerName: "shop.customers.example", RootCAs: roots}); err != nil {
		t.Error(err)
	}
	if asked := ask.asked.Load(); asked != before {
		t.Errorf("asked %d times more", asked-before)
	}
	// When it is to be renewed and not allowed any more, it goes.
	ask.status.Store(http.StatusForbidden)
	cert := again.awaitCertificate(t, "shop.customers.example")
	again.pass(renewal(cert).Sub(again.now()) + time.Second)
	again.eventually(t, "end of the name", func() bool { return again.entry("shop.customers.example") == nil })
}

func TestReloadThatTakesOverAHostOnDemandKeepsIt(t *testing.T) {
	m := newManager(quiet(), time.Now)
	load := func(s config.Site) *Certificates {
		c, err := m.Load(testConfig(t, s))
		if err != nil {
			t.Fatal(err)
		}
		m.adopt(c)
		return c
	}
	e := m.add("shop.customers.example")
	before := load(onDemandSite("http://127.0.0.1:1/", "*.customers.example"))
	m.busy, e.busy = 1, true // with an order
	after := load(site(config.TLSAuto, "shop.customers.example"))
	m.finish(e, before.authority, outcome{drop: true})
	if m.entry("shop.customers.example") != e || e.authority != after.authority || e.due.After(time.Now()) {
		t.Error("the order of the old configuration has ended, and the host of the new one is forgotten with it")
	}
}

func TestQuestionThatTheEndOfTheProcessCutsIsNoFailure(t *testing.T) {
	m := newManager(quiet(), time.Now)
	c, err := m.Load(testConfig(t, onDemandSite("http://127.0.0.1:1/", "*.customers.example")))
	if err != nil {
		t.Fatal(err)
	}
	m.Close()
	const name = "shop.customers.example"
	m.lookAfter(job{name: name, authority: c.authority, asker: c.lookup(name).asker})
	if got := c.authority.storage.attempt(name); got.Failures != 0 {
		t.Errorf("stored %+v", got)
	}
}

func TestChallengesOfOtherProcesses(t *testing.T) {
	cfg := testConfig(t, site(config.TLSAuto, "a.example"), onDemandSite("http://127.0.0.1:1/", "*.customers.example"), site(config.TLSSelfSigned, "_"))
	m := newManager(quiet(), time.Now)
	c, err := m.Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	m.adopt(c)
	p := newPair(t, "challenge")
	for _, name := range []string{"a.example", "x.customers.example", "other.example"} {
		writeFile(t, c.authority.storage.file("challenges", name+"+token"), append(p.key, p.cert...))
	}
	writeFile(t, c.authority.storage.file("challenges", "abc+http-01"), []byte("abc.def"))
	address := serve(t, c.Config())
	for name, want := range map[string]bool{"a.example": true, "x.customers.example": true, "y.customers.example": false, "other.example": false} {
		client := anyone(name)
		client.NextProtos = []string{acmeTLS}
		state, err := handshake(address, client)
		if got := err == nil && state.PeerCertificates[0].DNSNames[0] == "challenge"; got != want {
			t.Errorf("TLS-ALPN-01 for %s: %v", name, err)
		}
	}
	for _, test := range []struct{ host, token, want string }{
		{"a.example", "abc", "abc.def"},
		{"A.example:80", "abc", "abc.def"},
		{"x.customers.example", "abc", "abc.def"},
		{"other.example", "abc", ""},
		{"a.example", "../locks/abc", ""},
		{"a.example", "", ""},
	} {
		if got := string(c.Challenge(test.host, test.token)); got != test.want {
			t.Errorf("%+v: got %q", test, got)
		}
	}
}

func TestAnswersAreRememberedForTheirTime(t *testing.T) {
	ask, clock := startAsk(t), newClock()
	a := ask.asker(t, clock, &logBuffer{})
	for _, step := range []struct {
		name    string
		pass    time.Duration
		allowed bool
		asked   int64
	}{
		{"yes.example", 0, true, 1},
		{"yes.example", yesFor - time.Second, true, 1},
		{"yes.example", time.Second, true, 2},
		{"no.example", 0, false, 3},
		{"no.example", noFor - time.Second, false, 3},
		{"no.example", time.Second, false, 4},
	} {
		clock.Add(step.pass)
		allowed, err := a.allowed(t.Context(), step.name, freely)
		if allowed != step.allowed || err != nil || ask.asked.Load() != step.asked {
			t.Errorf("%+v: got %v, %v after %d questions", step, allowed, err, ask.asked.Load())
		}
	}
}

func TestOneQuestionPerNameAtATime(t *testing.T) {
	ask := startAsk(t)
	ask.delay = 50 * time.Millisecond
	a := ask.asker(t, newClock(), &logBuffer{})
	var all sync.WaitGroup
	for range 20 {
		all.Go(func() {
			if ok, err := a.allowed(t.Context(), "yes.example", freely); !ok || err != nil {
				t.Errorf("got %v, %v", ok, err)
			}
		})
	}
	all.Wait()
	if n := ask.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestRedirectsAndFailuresAreNoYes(t *testing.T) {
	ask, clock := startAsk(t), newClock()
	var logs logBuffer
	a := ask.asker(t, clock, &logs)
	for status, wantErr := range map[int]bool{http.StatusFound: false, http.StatusInternalServerError: true} {
		ask.status.Store(int64(status))
		if ok, err := a.allowed(t.Context(), fmt.Sprintf("yes%d.example", status), freely); ok || (err != nil) != wantErr {
			t.Errorf("%d: got %v, %v", status, ok, err)
		}
	}
	ask.Close()
	if ok, err := a.allowed(t.Context(), "yes.example", freely); ok || err == nil {
		t.Errorf("without a server: %v, %v", ok, err)
	}
	if got := logs.lines("asking about a name failed"); len(got) != 1 {
		t.Errorf("logged %q, want one line a minute", got)
	}
}

func TestFailedQuestionsDoNotTellTheSecretsOfTheURL(t *testing.T) {
	ask := startAsk(t)
	ask.Close()
	var logs logBuffer
	a := newAsker(strings.Replace(ask.URL, "//", "//robot:secret@", 1)+"/check?token=secret", logs.logger(), newClock().Now)
	_, err := a.allowed(t.Context(), "yes.example", freely)
	if err == nil || !strings.Contains(err.Error(), "asking whether yes.example is allowed: ") || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
	for _, told := range append(logs.lines(""), fmt.Sprint(err)) {
		if strings.Contains(told, "secret") || strings.Contains(told, "robot") {
			t.Errorf("told: %s", told)
		}
	}
}

func TestQuestionsAtOnceAreBounded(t *testing.T) {
	ask := startAsk(t)
	ask.hold = make(chan struct{})
	a := ask.asker(t, newClock(), &logBuffer{})
	var all sync.WaitGroup
	var refused atomic.Int64
	for i := range 2 * maxAsking {
		all.Go(func() {
			if _, err := a.allowed(context.Background(), fmt.Sprintf("yes%d.example", i), freely); err != nil && refused.Add(1) == maxAsking {
				close(ask.hold)
			}
		})
	}
	all.Wait()
	if n := ask.asked.Load(); n != maxAsking || refused.Load() != maxAsking {
		t.Errorf("%d questions, %d refused", n, refused.Load())
	}
}

func TestMemoryOfAnswersIsBounded(t *testing.T) {
	a := newAsker("http://127.0.0.1:1/", quiet(), newClock().Now)
	for i := range 3 * maxAnswers {
		a.remember(fmt.Sprint(i), false)
	}
	if len(a.answers) > maxAnswers {
		t.Errorf("%d answers", len(a.answers))
	}
}

func TestBudgetOfOrders(t *testing.T) {
	clock := newClock()
	b := budget{domains: map[string][]time.Time{}}
	spend := func(name string) error { return b.spend(clock.Now(), name) }
	for i := range domainPerWeek {
		if err := spend(fmt.Sprintf("n%d.shop.co.uk", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := spend("one.more.shop.co.uk"); err == nil || !strings.Contains(err.Error(), "shop.co.uk") {
		t.Errorf("got %v", err)
	}
	for i := range ordersPerHour - domainPerWeek {
		if err := spend(fmt.Sprintf("n%d.co.uk", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := spend("other.example"); err == nil {
		t.Error("more orders than an hour may have")
	}
	if err := spend("co.uk"); err == nil {
		t.Error("a public suffix is no domain of a customer's")
	}
	clock.Add(time.Hour)
	if err := spend("other.example"); err != nil {
		t.Error(err)
	}
	if err := spend("one.more.shop.co.uk"); err == nil {
		t.Error("more certificates for a domain than a week may have")
	}
	clock.Add(7 * 24 * time.Hour)
	if err := spend("one.more.shop.co.uk"); err != nil || len(b.domains) != 1 {
		t.Errorf("%v; %d domains", err, len(b.domains))
	}
}

func TestSitesOnDemandShareOneBudget(t *testing.T) {
	clock := newClock()
	var logs logBuffer
	m := newManager(logs.logger(), clock.Now)
	first, second := startAsk(t), startAsk(t)
	c, err := m.Load(testConfig(t, onDemandSite(first.url(), "*.co.uk"), onDemandSite(second.url(), "*.com.au")))
	if err != nil {
		t.Fatal(err)
	}
	m.current.Store(c) // orders are noted, and nothing runs
	for i := range ordersPerHour + 3 {
		name := fmt.Sprintf("n%d.co.uk", i)
		if i%2 == 1 {
			name = fmt.Sprintf("n%d.com.au", i)
		}
		asker := c.lookup(name).asker
		t.Cleanup(asker.client.CloseIdleConnections)
		if _, err := m.demand(t.Context(), asker, name, netip.Addr{}); (err == nil) != (i < ordersPerHour) {
			t.Errorf("order %d: %v", i, err)
		}
	}
	if got := logs.lines("100 certificates were ordered on demand within an hour"); len(got) != 2 {
		t.Errorf("logged %q, want one line a minute from each site", got)
	}
}
