package tls

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"wstunnel/internal/config"
)

// selfSigned returns certificates for a self-signed default site, with the client that trusts them.
func selfSigned(t *testing.T) (c *Certificates, clock *clock, client func(name string) *tls.Config) {
	t.Helper()
	clock = newClock()
	c, err := newManager(quiet(), clock.Now).Load(testConfig(t, site(config.TLSSelfSigned, "_")))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.CACertificate())
	return c, clock, func(name string) *tls.Config {
		return &tls.Config{ServerName: name, RootCAs: roots, Time: clock.Now}
	}
}

func TestSelfSignedIsTrustedForEachNameAsked(t *testing.T) {
	c, _, client := selfSigned(t)
	address := serve(t, c.Config())
	long := strings.Repeat(strings.Repeat("a", 61)+".", 4) + "com" // 251 bytes
	for _, name := range []string{"example.com", "a.b.c.example.org", "localhost", "under_score.example", "xn--bcher-kva.example", long, "127.0.0.1"} {
		state, err := handshake(address, client(name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		leaf := state.PeerCertificates[0]
		if len(leaf.DNSNames)+len(leaf.IPAddresses) != 1 || len(state.PeerCertificates) != 2 {
			t.Errorf("%s: names %v %v, a chain of %d", name, leaf.DNSNames, leaf.IPAddresses, len(state.PeerCertificates))
		}
	}
}

func TestSelfSignedLeafIsKeptAndRenewed(t *testing.T) {
	c, clock, client := selfSigned(t)
	address := serve(t, c.Config())
	leaf := func() *x509.Certificate {
		t.Helper()
		state, err := handshake(address, client("example.com"))
		if err != nil {
			t.Fatal(err)
		}
		return state.PeerCertificates[0]
	}
	first := leaf()
	if days := first.NotAfter.Sub(clock.Now()).Hours() / 24; days < 89 || days > 91 {
		t.Errorf("valid for %v days", days)
	}
	clock.Add(59 * 24 * time.Hour)
	if !leaf().Equal(first) {
		t.Error("another certificate before two thirds of the lifetime")
	}
	clock.Add(2 * 24 * time.Hour)
	second := leaf()
	if second.Equal(first) {
		t.Error("the same certificate after two thirds of the lifetime")
	}
	if !leaf().Equal(second) {
		t.Error("the renewed certificate is not kept")
	}
}

func TestLeafDoesNotOutliveTheCA(t *testing.T) {
	c, clock, client := selfSigned(t)
	address := serve(t, c.Config())
	clock.Add(caLifetime - 24*time.Hour)
	state, err := handshake(address, client("example.com"))
	if err != nil {
		t.Fatal(err)
	}
	if got := state.PeerCertificates[0].NotAfter; got.After(c.ca.cert.NotAfter) {
		t.Errorf("leaf ends %v, CA %v", got, c.ca.cert.NotAfter)
	}
	clock.Add(48 * time.Hour)
	if cert, err := c.get(&tls.ClientHelloInfo{ServerName: "example.com"}); err == nil {
		t.Errorf("after the CA's end: %v", cert.Leaf.NotAfter)
	}
}

func TestRandomNamesDoNotFillTheMemory(t *testing.T) {
	c, _, _ := selfSigned(t)
	ask := func(name string) *tls.Certificate {
		t.Helper()
		cert, err := c.get(&tls.ClientHelloInfo{ServerName: name})
		if err != nil || cert == nil {
			t.Fatalf("%s: %v, %v", name, cert, err)
		}
		return cert
	}
	regular := ask("regular.example")
	for i := range maxLeaves + 50 {
		ask(fmt.Sprintf("random%d.example", i))
		if i%100 == 0 && ask("regular.example") != regular {
			t.Fatalf("a name asked all the time was dropped after %d others", i)
		}
	}
	l := c.lookup("").source.(*leaves)
	if len(l.byName) != maxLeaves || l.recent.Len() != maxLeaves {
		t.Errorf("%d names, %d in order of use, want %d", len(l.byName), l.recent.Len(), maxLeaves)
	}
	if l.byName["random0.example"] != nil {
		t.Error("the oldest name is still there")
	}
}

func TestConcurrentHandshakesForManyNames(t *testing.T) {
	c, _, client := selfSigned(t)
	address := serve(t, c.Config())
	var clients sync.WaitGroup
	for i := range 8 {
		clients.Go(func() {
			for j := range 15 {
				if _, err := handshake(address, client(fmt.Sprintf("n%d.example", (i+j)%10))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	clients.Wait()
}

func TestInvalidServerNamesAreNotSigned(t *testing.T) {
	c, _, _ := selfSigned(t)
	for _, name := range []string{
		"*", "*.example.com", "a b", "a\x00b", "-a.example", "a-.example", "a..example", ".example", "example.",
		"bücher.example", "a/b", "a,b", "example.com:443", "[::1]", "%41.example",
		strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 127) + "a", strings.Repeat("a", 60000),
	} {
		if cert, err := c.get(&tls.ClientHelloInfo{ServerName: name}); cert != nil || err != nil {
			t.Errorf("%.40q: got %v, %v, want neither", name, cert, err)
		}
	}
	if n := len(c.lookup("").source.(*leaves).byName); n != 0 {
		t.Errorf("%d certificates were made", n)
	}
}

func TestValidNameAtTheLimits(t *testing.T) {
	label := strings.Repeat("a", 63)
	name253 := label + "." + label + "." + label + "." + label[:61]
	for name, want := range map[string]bool{
		"": false, "a": true, "a-b": true, "1.2.3": true,
		label: true, label + "a": false, name253: true, name253 + "a": false,
	} {
		if got := validName(name); got != want {
			t.Errorf("%q (%d bytes): %v", name, len(name), got)
		}
	}
}

// otherConn is a connection with a local address of one's choice.
type otherConn struct {
	net.Conn
	local net.Addr
}

func (c otherConn) LocalAddr() net.Addr { return c.local }

func (c otherConn) RemoteAddr() net.Addr { return c.local }

func TestWithoutServerNameTheLocalAddressIsCertified(t *testing.T) {
	c, _, _ := selfSigned(t)
	for _, test := range []struct {
		local net.Addr
		want  string // empty: none
	}{
		{&net.TCPAddr{IP: net.ParseIP("192.0.2.7"), Port: 443}, "192.0.2.7"},
		{&net.TCPAddr{IP: net.ParseIP("::ffff:192.0.2.8"), Port: 443}, "192.0.2.8"},
		{&net.TCPAddr{IP: net.ParseIP("2001:db8::1"), Port: 443}, "2001:db8::1"},
		{&net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 443, Zone: "eth0"}, "fe80::1"},
		{&net.UnixAddr{Name: "/run/wstunnel.sock", Net: "unix"}, ""},
	} {
		cert, err := c.get(&tls.ClientHelloInfo{Conn: otherConn{local: test.local}})
		got := ""
		if cert != nil {
			got = cert.Leaf.IPAddresses[0].String()
		}
		if err != nil || got != test.want {
			t.Errorf("%v: certificate for %q, %v, want %q", test.local, got, err, test.want)
		}
	}
}
