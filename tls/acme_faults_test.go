package tls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/pebble"
)

func TestTLSChallengeAlone(t *testing.T) {
	t.Parallel()
	authority, f := startACME(t, pebble.Options{})
	cfg := acmeConfig(t, authority, site(config.TLSAuto, "a.example"))
	cfg.Listen = cfg.Listen[1:]
	f.use(t, cfg)
	// A visitor that comes too early waits for a moment.
	if _, err := handshake(f.tls, &tls.Config{ServerName: "a.example", RootCAs: authority.Roots(t)}); err != nil {
		t.Error(err)
	}
	if n := authority.Count("Attempting to validate w/ HTTP"); n != 0 {
		t.Errorf("HTTP-01 was tried %d times though nobody listens", n)
	}
}

func TestHTTPChallengeWhereTheTLSOneFails(t *testing.T) {
	t.Parallel()
	plain, _ := ports(t)
	other, secure := ports(t)
	// The authority finds somebody else on the TLS port.
	authority := pebble.Start(t, pebble.Options{HTTPPort: portOf(plain), TLSPort: portOf(other)})
	other.Close()
	f := newFront(t, plain, secure)
	f.use(t, acmeConfig(t, authority, site(config.TLSAuto, "a.example")))
	f.awaitCertificate(t, "a.example")
	if lines := f.logs.lines("not obtained"); len(lines) != 0 {
		t.Errorf("logged %q", lines)
	}
}

func TestRejectedChallengesAreLoggedOnceInTheAuthoritysWords(t *testing.T) {
	t.Parallel()
	_, secure := ports(t)
	plain, other := ports(t)
	authority := pebble.Start(t, pebble.Options{HTTPPort: portOf(other), TLSPort: portOf(other)})
	other.Close()
	f := newFront(t, plain, secure)
	f.use(t, acmeConfig(t, authority, site(config.TLSAuto, "a.example")))
	for i, wait := range []string{"1m0s", "10m0s", "1h40m0s", "24h0m0s", "24h0m0s"} {
		line := f.awaitLog(t, "certificate not obtained", i+1)[i]
		for _, want := range []string{"host=a.example", "tls-alpn-01: ", "http-01: ", "(connection)", "connection refused", fmt.Sprintf("failures=%d", i+1)} {
			if !strings.Contains(line, want) {
				t.Errorf("no %q in %s", want, line)
			}
		}
		kept := f.current.Load().authority.storage.attempt("a.example")
		if got := kept.Next.Sub(kept.Last).String(); got != wait || kept.Failures != i+1 {
			t.Errorf("after %d failures: next try in %s, want %s", kept.Failures, got, wait)
		}
		half := kept.Next.Sub(kept.Last) / 2 // this clock goes by itself, too
		f.pass(half)
		time.Sleep(20 * time.Millisecond)
		if got := len(f.logs.lines("certificate not obtained")); got != i+1 {
			t.Fatalf("%d tries before the time", got)
		}
		f.pass(half)
	}
	for range 2 {
		if _, err := handshake(f.tls, anyone("a.example")); err == nil || !strings.Contains(err.Error(), "internal error") {
			t.Errorf("handshake without a certificate: %v", err)
		}
	}
	if got := f.logs.lines("handshakes fail"); len(got) != 1 || !strings.Contains(got[0], "connection refused") {
		t.Errorf("logged %q", got)
	}
}

func TestRestartDoesNotUseUpWhatTheAuthorityAllows(t *testing.T) {
	begin := time.Now()
	kept := attempt{Failures: 4, Last: begin, Next: begin.Add(24 * time.Hour)}
	if got := kept.next(begin, true); !got.Equal(begin.Add(restartWait)) {
		t.Errorf("after a restart the next try is at %v", got)
	}
	if got := kept.next(begin, false); !got.Equal(kept.Next) {
		t.Errorf("without one at %v", got)
	}
	if got := (attempt{Failures: 1, Last: begin, Next: begin.Add(time.Minute)}).next(begin, true); !got.Equal(begin.Add(time.Minute)) {
		t.Errorf("a restart after the first failure delays the next try to %v", got)
	}
	if now := begin.Add(-time.Hour); kept.next(now, true).After(now) || kept.next(now, false).After(now) {
		t.Error("the clock was ahead when the order failed, and is waited for")
	}
}

// nobody is the directory of an authority that is not there.
const nobody = "https://127.0.0.1:1/dir"

func TestBackOffHoldsWhereFailuresCannotBeStored(t *testing.T) {
	t.Parallel()
	plain, secure := ports(t)
	f := newFront(t, plain, secure)
	cfg := testConfig(t, site(config.TLSAuto, "a.example"))
	cfg.TLS.ACME.Directory = nobody
	if err := os.MkdirAll(newStorage(cfg.TLS, quiet()).file("a.example.json"), 0o700); err != nil { // in the way of the file
		t.Fatal(err)
	}
	f.use(t, cfg)
	for i, wait := range []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute} {
		if line := f.awaitLog(t, "certificate not obtained", i+1)[i]; !strings.Contains(line, fmt.Sprintf("failures=%d ", i+1)) {
			t.Errorf("try %d: %s", i+1, line)
		}
		f.pass(wait)
	}
	// Another authority knows nothing of these failures.
	f.awaitLog(t, "certificate not obtained", 4)
	cfg.TLS.ACME.Directory = nobody + "ectory"
	f.use(t, cfg)
	if line := f.awaitLog(t, "certificate not obtained", 5)[4]; !strings.Contains(line, "failures=1 ") {
		t.Errorf("with another authority: %s", line)
	}
}

func TestStoredCertificateIsServedWhileItsRenewalFails(t *testing.T) {
	t.Parallel()
	m := newManager(quiet(), time.Now)
	cfg := testConfig(t, site(config.TLSAuto, "a.example"))
	cfg.TLS.ACME.Directory = nobody
	c, err := m.Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := pairOf(t, "a.example", key, time.Now().Add(time.Hour)) // of 48 hours: it is time to renew it
	writeFile(t, c.authority.storage.file("a.example.pem"), append(p.key, p.cert...))
	o := m.lookAfter(job{name: "a.example", authority: c.authority})
	if o.cert == nil || o.attempt.Failures != 1 {
		t.Errorf("what another process has stored is not served: %+v", o)
	}
}

func TestRenewalIsUsedByTheNextHandshake(t *testing.T) {
	t.Parallel()
	authority, f := startACME(t, pebble.Options{Lifetime: 15 * time.Second})
	f.use(t, acmeConfig(t, authority, site(config.TLSAuto, "a.example")))
	f.awaitCertificate(t, "a.example")
	roots := authority.Roots(t)
	conn, err := tls.Dial("tcp", f.tls, &tls.Config{ServerName: "a.example", RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	first := conn.ConnectionState().PeerCertificates[0]
	f.awaitRenewal(t, "a.example", first)
	if time.Now().After(first.NotAfter) {
		t.Error("the renewal came after the end")
	}
	state, err := handshake(f.tls, &tls.Config{ServerName: "a.example", RootCAs: roots})
	if err != nil {
		t.Fatal(err)
	}
	second := state.PeerCertificates[0]
	if second.SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Error("the old certificate is still served")
	}
	if second.PublicKey.(*ecdsa.PublicKey).Equal(first.PublicKey) {
		t.Error("the key is still the old one")
	}
	// autocert's own renewal of the first order would have come by now too.
	time.Sleep(time.Until(first.NotAfter))
	if n := len(f.logs.lines("certificate obtained")); n > 2 || authority.Count("Issued certificate") > 2 {
		t.Errorf("%d renewals logged, %d certificates issued", n, authority.Count("Issued certificate"))
	}
}

func TestManyBadNonces(t *testing.T) {
	t.Parallel()
	authority, f := startACME(t, pebble.Options{BadNonces: 40})
	f.use(t, acmeConfig(t, authority, site(config.TLSAuto, "a.example", "b.example", "c.example")))
	for _, name := range []string{"a.example", "b.example", "c.example"} {
		f.awaitCertificate(t, name)
	}
}

func TestStoredCertificatesAreServedWithoutTheAuthority(t *testing.T) {
	t.Parallel()
	authority, f := startACME(t, pebble.Options{})
	cfg := acmeConfig(t, authority, site(config.TLSAuto, "a.example"))
	f.use(t, cfg)
	first := f.awaitCertificate(t, "a.example")
	f.awaitLog(t, "certificate obtained", 1)
	authority.Stop()

	plain, secure := ports(t)
	again := newFront(t, plain, secure)
	c := again.use(t, cfg)
	if got := again.entry("a.example").cert.Load(); got == nil || !got.Leaf.Equal(first.Leaf) {
		t.Error("the stored certificate is not served from the first handshake on")
	}
	if state, err := handshake(again.tls, anyone("a.example")); err != nil || !state.PeerCertificates[0].Equal(first.Leaf) {
		t.Errorf("handshake: %v", err)
	}
	// Time for a renewal, which fails: the old certificate stays.
	again.pass(renewal(first).Sub(again.now()) + time.Second)
	again.awaitLog(t, "certificate not obtained", 1)
	if state, err := handshake(again.tls, anyone("a.example")); err != nil || !state.PeerCertificates[0].Equal(first.Leaf) {
		t.Errorf("handshake after a renewal that failed: %v", err)
	}
	if got := c.authority.storage.attempt("a.example"); got.Failures != 1 || !strings.Contains(got.Error, "connection refused") {
		t.Errorf("stored attempt: %+v", got)
	}
	authority.Restart(t)
	again.pass(time.Minute)
	again.awaitRenewal(t, "a.example", first.Leaf)
	if state, err := handshake(again.tls, anyone("a.example")); err != nil || state.PeerCertificates[0].Equal(first.Leaf) {
		t.Errorf("handshake after the renewal: %v", err)
	}
}

func TestCorruptFilesAreSetAside(t *testing.T) {
	t.Parallel()
	authority, f := startACME(t, pebble.Options{})
	cfg := acmeConfig(t, authority, site(config.TLSAuto, "a.example"))
	s := newStorage(cfg.TLS, quiet())
	for _, name := range []string{"a.example.pem", "a.example.json", "account.key"} {
		writeFile(t, s.file(name), []byte("half a fi"))
	}
	f.use(t, cfg)
	f.awaitCertificate(t, "a.example")
	for _, name := range []string{"a.example.pem", "account.key"} {
		if data, err := os.ReadFile(s.file(name + ".corrupt")); err != nil || string(data) != "half a fi" {
			t.Errorf("%s.corrupt: %q, %v", name, data, err)
		}
		if got := f.logs.lines("a corrupt file was set aside"); len(got) != 2 {
			t.Errorf("logged %q", got)
		}
	}
	if s.certificate("a.example") == nil {
		t.Error("nothing was stored anew")
	}
}

func TestTwoManagersOnOneStorageOrderEachNameOnce(t *testing.T) {
	t.Parallel()
	authority, f := startACME(t, pebble.Options{})
	names := []string{"a.example", "b.example", "c.example", "d.example", "e.example"}
	cfg := acmeConfig(t, authority, site(config.TLSAuto, names...))
	plain, secure := ports(t)
	g := newFront(t, plain, secure)
	var both sync.WaitGroup
	for _, front := range []*acmeFront{f, g} {
		both.Go(func() { front.use(t, cfg) })
	}
	both.Wait()
	for _, name := range names {
		if !f.awaitCertificate(t, name).Leaf.Equal(g.awaitCertificate(t, name).Leaf) {
			t.Errorf("two certificates for %s", name)
		}
	}
	// The authority connects to the listeners of one of them only: the other one's challenges are answered from the storage.
	if f, g := len(f.logs.lines("certificate obtained")), len(g.logs.lines("certificate obtained")); f+g != len(names) {
		t.Errorf("%d and %d orders for %d names", f, g, len(names))
	}
}

// faulty is an authority behind a proxy that answers in its place.
type faulty struct {
	*pebble.Server
	fault atomic.Pointer[http.HandlerFunc]
}

func startFaulty(t *testing.T) (*faulty, *acmeFront) {
	t.Helper()
	authority, f := startACME(t, pebble.Options{})
	target, _ := url.Parse("https://" + authority.Address)
	through := &httputil.ReverseProxy{
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // Pebble builds its URLs from that
		},
	}
	y := &faulty{Server: authority}
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if fault := y.fault.Load(); fault != nil {
			(*fault)(w, r)
			return
		}
		through.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	y.Server.Directory = front.URL + "/dir"
	y.Server.CA = filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, y.Server.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}))
	return y, f
}

func TestAuthorityInTrouble(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	for _, test := range []struct {
		name  string
		fault http.HandlerFunc
		want  string        // in the log
		wait  time.Duration // until the next try
	}{
		{"rate limit", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7200")
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusTooManyRequests)
			fmt.Fprint(w, `{"type":"urn:ietf:params:acme:error:rateLimited","detail":"too many new orders recently"}`)
		}, "too many new orders recently (rateLimited)", 2 * time.Hour},
		{"no JSON", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, "invalid character", time.Minute},
		{"hang up", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF", time.Minute},
		{"refusal", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "not here", http.StatusForbidden) }, "403 : not here", time.Minute},
		{"hang", func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}, "/dir", time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			authority, f := startFaulty(t)
			t.Cleanup(func() { authority.fault.Store(nil) })
			authority.fault.Store(&test.fault)
			c, err := f.Load(acmeConfig(t, authority.Server, site(config.TLSAuto, "a.example")))
			if err != nil {
				t.Fatal(err)
			}
			if test.name == "hang" { // an order that goes well later has to keep to it
				c.authority.patience = 3 * time.Second
			}
			f.Use(c)
			if line := f.awaitLog(t, "certificate not obtained", 1)[0]; !strings.Contains(line, test.want) {
				t.Errorf("no %q in %s", test.want, line)
			}
			kept := c.authority.storage.attempt("a.example")
			if got := kept.Next.Sub(kept.Last); got.Round(time.Minute) != test.wait {
				t.Errorf("next try in %v, want %v", got, test.wait)
			}
			authority.fault.Store(nil)
			f.pass(test.wait)
			f.awaitCertificate(t, "a.example")
			f.eventually(t, "end of the failures", func() bool { return c.authority.storage.attempt("a.example").Failures == 0 })
		})
	}
}

func TestExternalAccountBinding(t *testing.T) {
	t.Parallel()
	const key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W"
	authority, f := startACME(t, pebble.Options{EAB: map[string]string{"kid-1": key}})
	cfg := acmeConfig(t, authority, site(config.TLSAuto, "a.example"))
	f.use(t, cfg)
	if line := f.awaitLog(t, "certificate not obtained", 1)[0]; !strings.Contains(line, "externalAccountRequired") {
		t.Errorf("logged %s", line)
	}
	cfg = acmeConfig(t, authority, site(config.TLSAuto, "b.example"))
	cfg.TLS.ACME.EAB = config.EAB{KID: "kid-1", HMACKey: mustDecode(t, key)}
	f.use(t, cfg)
	f.awaitCertificate(t, "b.example")
	if got := f.logs.lines(key); len(got) != 0 {
		t.Errorf("the key is in the log: %q", got)
	}
}

func TestReloadOrdersWhatIsNewAndForgetsWhatIsGone(t *testing.T) {
	t.Parallel()
	authority, f := startACME(t, pebble.Options{})
	cfg := acmeConfig(t, authority, site(config.TLSAuto, "a.example"))
	f.use(t, cfg)
	first := f.awaitCertificate(t, "a.example")
	next := acmeConfig(t, authority, site(config.TLSAuto, "a.example"), site(config.TLSAuto, "b.example"))
	next.TLS.Storage = cfg.TLS.Storage
	f.use(t, next)
	f.awaitCertificate(t, "b.example")
	if f.entry("a.example").cert.Load() != first && !f.entry("a.example").cert.Load().Leaf.Equal(first.Leaf) {
		t.Error("a.example was ordered anew")
	}
	last := acmeConfig(t, authority, site(config.TLSAuto, "b.example"))
	last.TLS.Storage = cfg.TLS.Storage
	f.use(t, last)
	if f.entry("a.example") != nil {
		t.Error("a.example is not forgotten")
	}
	if n := len(f.logs.lines("certificate obtained")); n != 2 {
		t.Errorf("%d orders", n)
	}
}

func TestOrdersAtOnceAreBounded(t *testing.T) {
	t.Parallel()
	authority, f := startFaulty(t)
	var now, most atomic.Int64
	release := make(chan struct{})
	var hold http.HandlerFunc = func(w http.ResponseWriter, _ *http.Request) {
		most.Store(max(most.Load(), now.Add(1)))
		<-release
		now.Add(-1)
		http.Error(w, "later", http.StatusForbidden)
	}
	authority.fault.Store(&hold)
	var names []string
	for i := range 3 * maxOrders {
		names = append(names, fmt.Sprintf("n%d.example", i))
	}
	f.use(t, acmeConfig(t, authority.Server, site(config.TLSAuto, names...)))
	f.eventually(t, "requests", func() bool { return now.Load() == maxOrders })
	time.Sleep(50 * time.Millisecond)
	close(release)
	f.awaitLog(t, "certificate not obtained", len(names))
	if most.Load() != maxOrders {
		t.Errorf("%d orders at once, want %d", most.Load(), maxOrders)
	}
}
