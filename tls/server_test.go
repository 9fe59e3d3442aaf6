package tls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"wstunnel/internal/config"
)

func TestRSAAndECDSASideBySide(t *testing.T) {
	dir := t.TempDir()
	rsaCert, rsaKey := newRSAPair(t, "a.example").write(t, filepath.Join(dir, "rsa"))
	ecCert, ecKey := newPair(t, "a.example").write(t, filepath.Join(dir, "ec"))
	otherCert, otherKey := newPair(t, "other.example").write(t, filepath.Join(dir, "other"))
	anyCert, anyKey := newPair(t, "*.shop.example").write(t, filepath.Join(dir, "any"))
	boughtCert, boughtKey := newRSAPair(t, "pay.shop.example").write(t, filepath.Join(dir, "bought"))
	s := fileSite(rsaCert, rsaKey, "a.example", "other.example", "nobody.example", "*.shop.example")
	s.TLS.Pairs = append(s.TLS.Pairs, config.CertPair{Cert: ecCert, Key: ecKey}, config.CertPair{Cert: otherCert, Key: otherKey},
		config.CertPair{Cert: anyCert, Key: anyKey}, config.CertPair{Cert: boughtCert, Key: boughtKey})
	address := serve(t, mustNew(t, s).Config())
	for _, test := range []struct {
		name   string
		suites []uint16 // TLS 1.2
		want   string
	}{
		{"a.example", nil, "*ecdsa.PublicKey a.example"},
		{"a.example", []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}, "*rsa.PublicKey a.example"},
		{"a.example", []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, "*ecdsa.PublicKey a.example"},
		{"other.example", nil, "*ecdsa.PublicKey other.example"},
		{"x.shop.example", nil, "*ecdsa.PublicKey *.shop.example"},
		{"Pay.shop.example", nil, "*rsa.PublicKey pay.shop.example"}, // more specific
		{"pay.shop.example", []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}, "*ecdsa.PublicKey *.shop.example"},
		{"nobody.example", []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}, "*rsa.PublicKey a.example"},
	} {
		client := anyone(test.name)
		if test.suites != nil {
			client.CipherSuites, client.MaxVersion = test.suites, tls.VersionTLS12
		}
		state, err := handshake(address, client)
		if err != nil {
			t.Errorf("%+v: %v", test, err)
			continue
		}
		leaf := state.PeerCertificates[0]
		if got := fmt.Sprintf("%T %s", leaf.PublicKey, leaf.DNSNames[0]); got != test.want {
			t.Errorf("%+v: got %s", test, got)
		}
	}
}

func TestLowestVersionOfASite(t *testing.T) {
	modern, plain := site(config.TLSSelfSigned, "modern.example"), site(config.TLSSelfSigned, "plain.example")
	modern.MinVersion = tls.VersionTLS13
	address := serve(t, mustNew(t, modern, plain).Config())
	for name, want := range map[string]bool{"modern.example": false, "plain.example": true} {
		client := anyone(name)
		client.MaxVersion = tls.VersionTLS12
		if _, err := handshake(address, client); (err == nil) != want {
			t.Errorf("%s over TLS 1.2: %v", name, err)
		}
		if state, err := handshake(address, anyone(name)); err != nil || state.Version != tls.VersionTLS13 {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// clientCA is an authority for clients' certificates.
func clientCA(t *testing.T) (*localCA, *x509.CertPool) {
	t.Helper()
	ca, err := loadLocalCA(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return ca, pool
}

// clientCertificate is a certificate for a client.
func clientCertificate(t *testing.T, ca *localCA, name string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func TestClientsNeedACertificate(t *testing.T) {
	ours, pool := clientCA(t)
	others, otherPool := clientCA(t)
	a, b, open := site(config.TLSSelfSigned, "a.example"), site(config.TLSSelfSigned, "b.example"), site(config.TLSSelfSigned, "open.example")
	a.ClientCAs, a.ClientCA = pool, "a.pem"
	b.ClientCAs, b.ClientCA = otherPool, "b.pem"
	address := serve(t, mustNew(t, a, b, open).Config())
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, test := range []struct {
			name string
			ca   *localCA
			want bool
		}{
			{"a.example", ours, true},
			{"a.example", others, false},
			{"a.example", nil, false},
			{"b.example", ours, false},
			{"b.example", others, true},
			{"open.example", nil, true},
		} {
			client := anyone(test.name)
			client.MaxVersion = version
			client.ClientSessionCache = tls.NewLRUClientSessionCache(10)
			if test.ca != nil {
				cert := clientCertificate(t, test.ca, "client")
				client.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &cert, nil }
			}
			for range 2 {
				state, err := handshake(address, client)
				if (err == nil) != test.want {
					t.Errorf("%s, %s: %v", tls.VersionName(version), test.name, err)
				}
				if state.DidResume && test.name != "open.example" {
					t.Errorf("%s: a session was resumed without a certificate", test.name)
				}
			}
		}
	}
}

func TestMisdirectedRequests(t *testing.T) {
	dir := t.TempDir()
	_, pool := clientCA(t)
	cert, key := newPair(t, "*.files.example").write(t, dir)
	files, more := fileSite(cert, key, "a.files.example", "b.files.example"), fileSite(cert, key, "c.files.example", "elsewhere.example")
	locked := fileSite(cert, key, "locked.files.example")
	locked.ClientCAs, locked.ClientCA = pool, "clients.pem"
	_, otherPool := clientCA(t)
	address := fileSite(cert, key, "192.0.2.7")
	address.ClientCAs, address.ClientCA = otherPool, "others.pem"
	modern := fileSite(cert, key, "modern.files.example")
	modern.MinVersion = tls.VersionTLS13
	older := fileSite(cert, key, "older.files.example")
	older.MinVersion = tls.VersionTLS12 // as without
	otherCert, otherKey := newPair(t, "two.example").write(t, filepath.Join(dir, "other"))
	two := fileSite(otherCert, otherKey, "two.example", "pair.files.example")
	two.TLS.Pairs = append(two.TLS.Pairs, config.CertPair{Cert: cert, Key: key})
	c := mustNew(t, files, more, locked, site(config.TLSSelfSigned, "self.example", "*.self.example"), site(config.TLSOff, "off.example"),
		address, modern, older, two)
	c.get(&tls.ClientHelloInfo{ServerName: "self.example"})
	for _, test := range []struct {
		sni, host string
		want      bool
	}{
		{"a.files.example", "a.files.example:443", false},
		{"a.files.example", "A.FILES.example.", false},
		{"a.files.example", "b.files.example", false},     // the same site, and the certificate covers it
		{"c.files.example", "elsewhere.example", true},    // the same site, and it does not
		{"a.files.example", "c.files.example", false},     // another one, and the certificate covers it
		{"a.files.example", "elsewhere.example", true},    // and here it does not
		{"a.files.example", "locked.files.example", true}, // clients need a certificate there
		{"locked.files.example", "a.files.example", true},
		{"locked.files.example", "locked.files.example:8443", false},
		{"self.example", "x.self.example", true},
		{"a.files.example", "older.files.example", false},
		{"older.files.example", "a.files.example", false},
		{"a.files.example", "modern.files.example", true}, // over a version that it does not speak
		{"modern.files.example", "a.files.example", false},
		{"", "modern.files.example", true},
		{"pair.files.example", "a.files.example", false}, // by the second certificate of the site
		{"two.example", "a.files.example", true},
		{"self.example", "a.files.example", true},
		{"", "locked.files.example", true},
		{"gone.example", "a.files.example", true}, // a reload has taken the site away
		{"gone.example", "gone.example", false},
		{"locked.files.example", "192.0.2.7", true}, // another authority's clients
		{"a.files.example", "[2001:db8::1]:443", false},
		{"a.files.example", "127.0.0.1", false},
		{"a.files.example", "off.example", false}, // 421 for a reason of its own
	} {
		if got := c.Misdirected(test.sni, test.host); got != test.want {
			t.Errorf("%+v: got %v", test, got)
		}
	}
	withFallback := mustNew(t, locked, site(config.TLSSelfSigned, "_"))
	if !withFallback.Misdirected("", "locked.files.example") {
		t.Error("without a name in the handshake, the certificate of the client is not asked for")
	}
}

func TestTicketsOutliveReloadsAndAreReplaced(t *testing.T) {
	clock := newClock()
	m := newManager(quiet(), clock.Now)
	cfg := testConfig(t, site(config.TLSSelfSigned, "example.com"))
	client := anyone("example.com")
	client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for i, step := range []struct {
		pass   time.Duration
		resume bool
	}{{0, false}, {0, true}, {ticketPeriod, true}, {ticketPeriod, true}, {ticketPeriod * ticketKeys, true}} {
		clock.Add(step.pass)
		c, err := m.Load(cfg)
		if err != nil {
			t.Fatal(err)
		}
		state, err := handshake(serve(t, c.Config()), client)
		if err != nil || state.DidResume != step.resume {
			t.Errorf("step %d: resumed: %v, %v", i, state.DidResume, err)
		}
	}
	for range ticketKeys {
		clock.Add(ticketPeriod)
		m.tickets.renew(clock.Now(), &tls.Config{})
	}
	c, err := m.Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if state, err := handshake(serve(t, c.Config()), client); err != nil || state.DidResume {
		t.Errorf("a ticket of a key long gone: resumed: %v, %v", state.DidResume, err)
	}
}

// anySession offers each server the last session of any server.
type anySession struct{ kept *tls.ClientSessionState }

func (s *anySession) Get(string) (*tls.ClientSessionState, bool) { return s.kept, s.kept != nil }

func (s *anySession) Put(_ string, session *tls.ClientSessionState) { s.kept = session }

func TestSessionIsOfTheNameItWasMadeFor(t *testing.T) {
	modern := site(config.TLSSelfSigned, "modern.example")
	modern.MinVersion = tls.VersionTLS13
	cfg := testConfig(t, site(config.TLSSelfSigned, "a.example", "b.example"), modern, site(config.TLSOff, "off.example"))
	m := NewManager(quiet())
	before, err := m.Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Sites[0].Hosts = []string{"b.example"}
	after, err := m.Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	address, reloaded := serve(t, before.Config()), serve(t, after.Config())
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, test := range []struct {
			address, first, then  string
			resumed, unrecognized bool
		}{
			{address, "a.example", "A.example", true, false},
			{address, "a.example", "b.example", false, false},
			{address, "a.example", "", false, true},
			{address, "a.example", "off.example", false, true},
			{address, "a.example", "unknown.example", false, true},
			{reloaded, "a.example", "a.example", false, true},
			{reloaded, "b.example", "b.example", true, false},
			{address, "modern.example", "modern.example", true, false},
			{address, "modern.example", "a.example", false, false},
		} {
			if test.first == "modern.example" && version < modern.MinVersion {
				continue
			}
			client := anyone(test.first)
			client.MaxVersion, client.ClientSessionCache = version, &anySession{}
			if _, err := handshake(address, client); err != nil {
				t.Fatal(err)
			}
			client.ServerName = test.then
			state, err := handshake(test.address, client)
			if test.unrecognized {
				wantUnrecognizedName(t, err)
			} else if err != nil || state.DidResume != test.resumed {
				t.Errorf("%s, %s after %s: resumed: %v, %v", tls.VersionName(version), test.then, test.first, state.DidResume, err)
			}
		}
	}
}

func TestExpiredFilesAreReportedByCheck(t *testing.T) {
	dir := t.TempDir()
	key := newPair(t, "x.example")
	good, goodKey := key.write(t, filepath.Join(dir, "good"))
	oldKeyPair, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	oldCert, oldKey := pairOf(t, "old.example", oldKeyPair, time.Now().Add(-time.Hour)).write(t, filepath.Join(dir, "old"))
	cfg := testConfig(t, fileSite(good, goodKey, "x.example"), fileSite(oldCert, oldKey, "old.example"))
	cfg.Sites[1].TLS.Pairs[0].Pos = config.Pos{Line: 9, Col: 10}
	err = Check(cfg, time.Now())
	if err == nil || !strings.HasPrefix(err.Error(), "wstunnel.yaml:9:10: certificate file "+oldCert+": it expired on ") || strings.Contains(err.Error(), "\n") {
		t.Errorf("got %v", err)
	}
	if err := Check(cfg, time.Now().Add(-100*24*time.Hour)); err == nil || !strings.Contains(err.Error(), "not valid before") {
		t.Errorf("got %v", err)
	}
	if _, err := load(cfg, quiet()); err != nil {
		t.Errorf("a server does not start: %v", err)
	}
}
