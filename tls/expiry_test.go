package tls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"slices"
	"testing"
	"time"

	"wstunnel/internal/config"
)

// TestExpiriesOfCertificatesInUse: no name of theirs is one that a client has chosen.
func TestExpiriesOfCertificatesInUse(t *testing.T) {
	now := time.Now().Truncate(time.Second).UTC()
	ends := func(name string, days int) pair {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return pairOf(t, name, key, now.AddDate(0, 0, days))
	}
	m := newManager(quiet(), time.Now)
	if got := m.Expiries(); got != nil {
		t.Errorf("before a configuration there are %v", got)
	}
	for name, days := range map[string]int{"auto.example": 60, "shop.customers.example": 20, "blog.customers.example": 10} {
		p := ends(name, days)
		cert, err := tls.X509KeyPair(p.cert, p.key)
		if err != nil {
			t.Fatal(err)
		}
		m.add(name).cert.Store(&cert)
	}
	files := fileSite("", "", "files.example", "www.files.example")
	files.TLS.Pairs = nil
	for _, days := range []int{40, 30} {
		cert, key := ends("files.example", days).write(t, t.TempDir())
		files.TLS.Pairs = append(files.TLS.Pairs, config.CertPair{Cert: cert, Key: key})
	}
	c, err := m.Load(testConfig(t, files, site(config.TLSAuto, "auto.example", "new.example"),
		onDemandSite("http://127.0.0.1:1/", "*.customers.example"), site(config.TLSSelfSigned, "own.example"), site(config.TLSOff, "plain.example")))
	if err != nil {
		t.Fatal(err)
	}
	m.current.Store(c)
	m.adopt(c)
	want := []Expiry{{"", now.AddDate(0, 0, 10)}, {"auto.example", now.AddDate(0, 0, 60)}, {"files.example", now.AddDate(0, 0, 30)}}
	if got := m.Expiries(); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
