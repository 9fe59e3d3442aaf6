package proxy_test

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"wstunnel/proxy"
)

// challenged answers one HTTP-01 challenge.
type challenged struct{ proxy.Certificates }

func (challenged) Challenge(host, token string) []byte {
	if host == "example.com" && token == "known" {
		return []byte("known.thumbprint")
	}
	return nil
}

func TestChallengesAreAnsweredBeforeRedirectsAndBackends(t *testing.T) {
	backend := echoHeads(t)
	f := startWrapped(t, bothListeners+"tls: {storage: "+t.TempDir()+"}\n"+
		strings.Replace(secureSite(httpTo(backend)), "    tls:", "    redirect_https: true\n    tls:", 1),
		func(c proxy.Certificates) proxy.Certificates { return challenged{c} })
	for _, test := range []struct {
		request string
		status  int
		body    string
	}{
		{"GET /.well-known/acme-challenge/known", 200, "known.thumbprint"},
		{"GET /.well-known/acme-challenge/other", 308, ""},
		{"POST /.well-known/acme-challenge/known", 308, ""},
		{"GET /.well-known/acme-challenge/", 308, ""},
		{"GET /.well-known/acme-challenge/../acme-challenge/known", 308, ""},
	} {
		c := f.dial()
		c.send(test.request, " HTTP/1.1\r\nHost: example.com\r\nContent-Length: 0\r\n\r\n")
		if got := c.expect(test.status); test.body != "" && got.body != test.body {
			t.Errorf("%s: %q", test.request, got.body)
		}
	}
	secure := f.overTLS(t, "example.com", nil)
	secure.send("GET /.well-known/acme-challenge/known HTTP/1.1\r\nHost: example.com\r\n\r\n")
	if got := secure.expect(200); !strings.HasPrefix(got.body, "GET /.well-known/acme-challenge/known") {
		t.Errorf("over TLS: %q", got.body)
	}
}

// echoHeads is a backend that answers with the head that it was sent.
func echoHeads(t *testing.T) (address string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Strict-Transport-Security", "max-age=1")
		fmt.Fprintf(w, "%s %s\n", r.Method, r.URL)
		r.Header.Write(w)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// overTLS connects with a server name, and shows a certificate if it has one.
func (f *front) overTLS(t *testing.T, name string, cert *tls.Certificate) *client {
	t.Helper()
	settings := &tls.Config{ServerName: name, InsecureSkipVerify: true}
	if cert != nil {
		settings.Certificates = []tls.Certificate{*cert}
	}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", f.secure, settings)
	if err != nil {
		t.Fatal(err)
	}
	return clientOver(t, conn)
}

// clientIdentity makes an authority for clients, whose root is in a file, and a certificate of a client.
func clientIdentity(t *testing.T, subject pkix.Name) (caFile string, cert tls.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, Subject: pkix.Name{CommonName: "CA"},
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	caFile = filepath.Join(t.TempDir(), "clients.pem")
	if err := os.WriteFile(caFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER}), 0o600); err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: ca.NotBefore, NotAfter: ca.NotAfter, Subject: subject,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return caFile, tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// unready has no certificate yet.
type unready struct{ proxy.Certificates }

func (unready) Pending(string) bool { return true }

// TestSiteThatWantsClientCertificatesIsNeverServedPlainly, not even while it waits for its own.
func TestSiteThatWantsClientCertificatesIsNeverServedPlainly(t *testing.T) {
	caFile, _ := clientIdentity(t, pkix.Name{CommonName: "anyone"})
	yaml := strings.ReplaceAll(openAndLocked(t, echoHeads(t), caFile), "tls: self-signed, ", "tls: self-signed, redirect_https: when_ready, ")
	f := startWrapped(t, yaml, func(c proxy.Certificates) proxy.Certificates { return unready{c} })
	for host, status := range map[string]int{"example.com": 200, "locked.example": 503} {
		c := f.dial()
		c.send("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
		c.expect(status)
	}
}

// sites is a configuration of an open site and one with certificates for clients.
func openAndLocked(t *testing.T, backend, caFile string) string {
	site := func(host, more string) string {
		return "  - {hosts: [" + host + "], tls: self-signed, " + more + "locations: [" + httpTo(backend) + "]}\n"
	}
	return bothListeners + "tls: {storage: " + t.TempDir() + "}\ntrusted_proxies: [127.0.0.3]\nsites:\n" +
		site("example.com", "hsts: 180d, ") + site("locked.example", "client_ca: "+caFile+", ")
}

// spelt is what chance spells in a head, be it a name that a client claims.
var spelt = regexp.MustCompile(`wstunnel-[a-z2-7]+`)

func TestSubjectOfTheClientReachesTheBackendAndCannotBeForged(t *testing.T) {
	subject := pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
		{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: "Müller, Söhne"},
		{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: "a\r\nX-Evil: 1"},
	}}
	caFile, cert := clientIdentity(t, subject)
	f := startWith(t, openAndLocked(t, echoHeads(t), caFile))

	c := f.overTLS(t, "locked.example", &cert)
	c.send("GET / HTTP/1.1\r\nHost: locked.example\r\nX-Client-Subject: CN=admin\r\nx-client-SUBJECT: CN=root\r\n" +
		"Connection: X-Client-Subject\r\nX_Client_Subject: CN=cgi\r\n\r\n")
	body := c.expect(200).body
	if want := "X-Client-Subject: CN=a\\0D\\0AX-Evil: 1,O=M\\C3\\BCller\\, S\\C3\\B6hne\r\n"; !strings.Contains(body, want) {
		t.Errorf("no %q in\n%s", want, body)
	}
	if said := spelt.ReplaceAllString(body, ""); strings.Contains(said, "admin") || strings.Contains(said, "root") || strings.Contains(said, "cgi") {
		t.Errorf("what the client claims has arrived:\n%s", body)
	}

	open := f.overTLS(t, "example.com", &cert)
	open.send("GET / HTTP/1.1\r\nHost: example.com\r\nX-Client-Subject: CN=admin\r\n\r\n")
	if body := open.expect(200).body; strings.Contains(body, "Subject") {
		t.Errorf("on a site without certificates for clients:\n%s", body)
	}
}

func TestSubjectOfTheClientReachesTheBackendOfATunnel(t *testing.T) {
	caFile, cert := clientIdentity(t, pkix.Name{CommonName: "alice"})
	for mode, location := range map[string]func(string) string{"tunnel": socketTo, "relay": relayTo} {
		t.Run(mode, func(t *testing.T) {
			b := startSocket(t, func(net.Conn, *bufio.Reader) {})
			f := startWith(t, strings.ReplaceAll(openAndLocked(t, "127.0.0.1:1", caFile), httpTo("127.0.0.1:1"), location(b.address)))
			for host, want := range map[string]string{"locked.example": "CN=alice", "example.com": ""} {
				c := f.overTLS(t, host, &cert)
				c.send(strings.Replace(upgradeWith("X-Client-Subject: CN=admin\r\nX_Client_Subject: CN=cgi\r\nConnection: X-Client-Subject\r\n"),
					"Host: example.com", "Host: "+host, 1))
				if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
					t.Fatalf("%s: answered with %q", host, head)
				}
				heads := b.seen()
				head := heads[len(heads)-1]
				if got := strings.Join(field(head, "X-Client-Subject"), " and "); got != want || strings.Contains(spelt.ReplaceAllString(head, ""), "cgi") {
					t.Errorf("%s: the backend was told %q, want %q:\n%s", host, got, want, head)
				}
			}
		})
	}
}

func TestClientCertificatesOverHTTP2(t *testing.T) {
	caFile, cert := clientIdentity(t, pkix.Name{CommonName: "alice"})
	f := startWith(t, openAndLocked(t, echoHeads(t), caFile))
	for _, test := range []struct {
		serverName, host string
		status           int
	}{
		{"locked.example", "locked.example", 200},
		{"locked.example", "example.com", 421},
		{"example.com", "locked.example", 421},
		{"example.com", "example.com", 200},
	} {
		client := &http.Client{Timeout: patience, Transport: &http.Transport{
			ForceAttemptHTTP2: true, DisableKeepAlives: true,
			TLSClientConfig: &tls.Config{ServerName: test.serverName, InsecureSkipVerify: true, Certificates: []tls.Certificate{cert}},
		}}
		r, err := http.NewRequest(http.MethodGet, "https://"+f.secure+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = test.host
		r.Header = http.Header{"X-Client-Subject": {"CN=admin", "CN=root"}, "x_client_subject": {"CN=cgi"}}
		resp, err := client.Do(r)
		if err != nil {
			t.Errorf("%+v: %v", test, err)
			continue
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || resp.ProtoMajor != 2 || resp.StatusCode != test.status {
			t.Errorf("%+v: %s %s, %v", test, resp.Proto, resp.Status, err)
		}
		told := strings.Contains(string(body), "X-Client-Subject: CN=alice\r\n")
		if told != (test.host == "locked.example" && test.status == 200) || strings.Count(strings.ToLower(string(body)), "subject") > 1 ||
			strings.Contains(string(body), "admin") {
			t.Errorf("%+v: the backend was told\n%s", test, body)
		}
	}
}

func TestSiteWithClientCertificatesHasNoOtherWayIn(t *testing.T) {
	caFile, cert := clientIdentity(t, pkix.Name{CommonName: "client"})
	f := startWith(t, openAndLocked(t, echoHeads(t), caFile))
	get := func(c *client, host, more string, status int) answer {
		t.Helper()
		c.send("GET /x HTTP/1.1\r\nHost: ", host, "\r\n", more, "\r\n")
		return c.expect(status)
	}
	get(f.overTLS(t, "example.com", nil), "locked.example", "", 421)
	get(f.overTLS(t, "locked.example", &cert), "example.com", "", 421)
	get(f.overTLS(t, "example.com", nil), "example.com", "", 200)
	// Over plain HTTP it leads to https, a trusted proxy's word or not, and a tunnel leads nowhere.
	if got := get(f.dial(), "locked.example", "", 308).Header.Get("Location"); !strings.HasPrefix(got, "https://locked.example") {
		t.Errorf("redirected to %s", got)
	}
	proxied, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 3)}}).Dial("tcp", f.plain)
	if err != nil {
		t.Fatal(err)
	}
	get(clientOver(t, proxied), "locked.example", "X-Forwarded-Proto: https\r\n", 403)
	get(f.dial(), "locked.example", "Connection: Upgrade\r\nUpgrade: websocket\r\n", 403)
	// Without the certificate there is no connection.
	bare := f.overTLS(t, "locked.example", nil)
	bare.send("GET / HTTP/1.1\r\nHost: locked.example\r\n\r\n")
	if _, err := bare.br.ReadByte(); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate: %v", err)
	}
}

func TestReloadThatReplacesTheRootsOfClients(t *testing.T) {
	backend := echoHeads(t)
	oldCA, cert := clientIdentity(t, pkix.Name{CommonName: "old"})
	newCA, _ := clientIdentity(t, pkix.Name{CommonName: "new"})
	yaml := openAndLocked(t, backend, oldCA)
	f := startWith(t, yaml)
	c := f.overTLS(t, "locked.example", &cert)
	ask := func(status int) {
		t.Helper()
		c.send("GET / HTTP/1.1\r\nHost: locked.example\r\n\r\n")
		c.expect(status)
	}
	ask(200)
	f.apply(t, yaml)
	ask(200)
	f.apply(t, strings.ReplaceAll(yaml, oldCA, newCA))
	ask(421)
}

func TestStrictTransportSecurityIsSaidOnceAndOverTLSOnly(t *testing.T) {
	caFile, _ := clientIdentity(t, pkix.Name{CommonName: "client"})
	f := startWith(t, openAndLocked(t, echoHeads(t), caFile))
	for _, path := range []string{"/", "/.well-known/wstunnel/ca.pem"} {
		c := f.overTLS(t, "example.com", nil)
		c.send("GET ", path, " HTTP/1.1\r\nHost: example.com\r\n\r\n")
		if got := c.expect(200).Header["Strict-Transport-Security"]; len(got) != 1 || got[0] != "max-age=15552000" {
			t.Errorf("%s over TLS: %q", path, got)
		}
	}
	c := f.dial()
	c.send("GET /.well-known/wstunnel/ca.pem HTTP/1.1\r\nHost: example.com\r\n\r\n")
	if got := c.expect(200).Header["Strict-Transport-Security"]; len(got) != 0 {
		t.Errorf("over plain HTTP: %q", got)
	}
}

func TestConnectionOfAnAuthorityEndsWithTheHandshake(t *testing.T) {
	f := startWrapped(t, bothListeners+"tls: {storage: "+t.TempDir()+"}\n"+secureSite(httpTo("127.0.0.1:1")),
		func(c proxy.Certificates) proxy.Certificates { return alpn{c} })
	conn := f.dialTLS("acme-tls/1")
	if p := conn.ConnectionState().NegotiatedProtocol; p != "acme-tls/1" {
		t.Errorf("negotiated %q", p)
	}
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n")
	if data, _ := io.ReadAll(conn); len(data) != 0 {
		t.Errorf("got %q", data)
	}
}

// alpn takes acme-tls/1 too.
type alpn struct{ proxy.Certificates }

func (c alpn) Config() *tls.Config {
	settings := c.Certificates.Config().Clone()
	settings.NextProtos = append(settings.NextProtos, "acme-tls/1")
	return settings
}

func TestPanicInAHandshakeEndsThatConnectionOnly(t *testing.T) {
	f := startWrapped(t, bothListeners+"limits: {max_connections: 1}\ntls: {storage: "+t.TempDir()+"}\n"+secureSite(httpTo("127.0.0.1:1")),
		func(c proxy.Certificates) proxy.Certificates { return faulty{c} })
	for faults := 1; faults <= 3; faults++ { // there would be no room for the second if the first still counted
		await(t, "the fault", func() bool {
			if conn, err := tls.Dial("tcp", f.secure, &tls.Config{ServerName: "example.com", InsecureSkipVerify: true}); err == nil {
				conn.Close()
				t.Fatal("the handshake succeeded")
			}
			return strings.Count(f.log.String(), "no certificates today") >= faults
		})
	}
}

// faulty has a certificate source that panics.
type faulty struct{ proxy.Certificates }

func (faulty) Config() *tls.Config {
	return &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { panic("no certificates today") }}
}
