package probe_test

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"wstunnel/internal/probe"
)

// identity is a certificate with its key, and those above it.
type identity struct {
	cert  *x509.Certificate
	key   *ecdsa.PrivateKey
	above *identity // nil: it signed itself
}

var day = 24 * time.Hour

// certify makes a certificate; change may change what it says.
func certify(t *testing.T, above *identity, change func(*x509.Certificate)) *identity {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: "chat.example"},
		DNSNames:  []string{"chat.example"},
		NotBefore: time.Now().Add(-10 * day), NotAfter: time.Now().Add(20*day + time.Hour),
		SerialNumber: big.NewInt(time.Now().UnixNano()), BasicConstraintsValid: true,
	}
	change(template)
	id := &identity{key: key, above: above}
	parent, signer := template, key
	if above != nil {
		parent, signer = above.cert, above.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if id.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return id
}

// authority is a certificate that may sign others.
func authority(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.Subject.CommonName, c.DNSNames = name, nil
		c.IsCA, c.KeyUsage = true, x509.KeyUsageCertSign
	}
}

func asItIs(*x509.Certificate) {}

// chain is what a server sends: so many certificates.
func (id *identity) chain(n int) tls.Certificate {
	c := tls.Certificate{PrivateKey: id.key}
	for ; id != nil && n > 0; id, n = id.above, n-1 {
		c.Certificate = append(c.Certificate, id.cert.Raw)
	}
	return c
}

// startTLS runs a WebSocket server over TLS.
func startTLS(t *testing.T, config *tls.Config) (address string) {
	t.Helper()
	return startTCP(t, func(conn net.Conn) {
		secure := tls.Server(conn, config)
		defer secure.Close()
		request, err := http.ReadRequest(bufio.NewReader(secure))
		if err != nil {
			return
		}
		io.WriteString(secure, switching(upgradeLine, connectionLine)(request.Header.Get("Sec-WebSocket-Key")))
		// The ping comes back as a pong, without its mask; and so does the Close.
		for {
			frame := make([]byte, 6)
			if _, err := io.ReadFull(secure, frame); err != nil {
				return
			}
			payload := make([]byte, frame[1]&0x7F)
			if _, err := io.ReadFull(secure, payload); err != nil {
				return
			}
			for i := range payload {
				payload[i] ^= frame[2+i%4]
			}
			if frame[0] == 0x89 {
				frame[0] = 0x8A
			}
			secure.Write(append([]byte{frame[0], frame[1] & 0x7F}, payload...))
		}
	})
}

// probeTLS probes what listens at an address as a URL.
func probeTLS(t *testing.T, url, address string, roots *identity) *probe.Report {
	t.Helper()
	o := options(t, url)
	o.Network, o.Address = "tcp", address
	if roots != nil {
		o.Roots = x509.NewCertPool()
		o.Roots.AddCert(roots.cert)
	}
	return probe.Run(context.Background(), o)
}

func TestCertificates(t *testing.T) {
	root := certify(t, nil, authority("Example Root"))
	middle := certify(t, root, authority("Example CA"))
	expired := func(c *x509.Certificate) {
		c.NotAfter = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
		c.NotBefore = c.NotAfter.Add(-90 * day)
	}
	early := func(c *x509.Certificate) {
		c.NotBefore = time.Date(2099, 1, 2, 3, 4, 5, 0, time.UTC)
		c.NotAfter = c.NotBefore.Add(90 * day)
	}
	past := certify(t, root, func(c *x509.Certificate) {
		authority("Old CA")(c)
		expired(c)
	})
	local := certify(t, nil, authority("wstunnel local CA (web1)"))
	tests := []struct {
		name  string
		url   string
		shown tls.Certificate
		roots *identity
		cause string // empty: it opens
	}{
		{"right", "wss://chat.example/ws", certify(t, middle, asItIs).chain(2), root, ""},
		{"expired", "wss://chat.example/ws", certify(t, middle, expired).chain(2), root, "The certificate has expired, on 2026-01-02 03:04:05 UTC."},
		{"not yet valid", "wss://chat.example/ws", certify(t, middle, early).chain(2), root, "The certificate is not valid yet, but from 2099-01-02 03:04:05 UTC on."},
		{"wrong name", "wss://www.chat.example/ws", certify(t, middle, asItIs).chain(2), root, "The certificate is for chat.example, not for www.chat.example."},
		{"address", "wss://127.0.0.1/ws", certify(t, middle, asItIs).chain(2), root, "The certificate is for chat.example, not for the address 127.0.0.1."},
		{
			"common name only", "wss://chat.example/ws", certify(t, middle, func(c *x509.Certificate) { c.DNSNames = nil }).chain(2), root,
			"The certificate names its host only as common name, where browsers do not look.",
		},
		{
			"gap in the chain", "wss://chat.example/ws", certify(t, middle, asItIs).chain(1), root,
			"The server sends no certificate but its own, and its issuer Example CA is not known here: the chain has a gap, or the authority is a private one.",
		},
		{
			"unknown authority", "wss://chat.example/ws", certify(t, middle, asItIs).chain(3), local,
			"The certificate is by an authority that this machine does not know: Example Root.",
		},
		{"self-signed", "wss://chat.example/ws", certify(t, nil, asItIs).chain(1), root, "The certificate is self-signed: nobody vouches for it."},
		{
			"local CA", "wss://chat.example/ws", certify(t, local, asItIs).chain(1), root,
			"The certificate is by wstunnel's own local CA (tls: self-signed), which no browser trusts before it is told to.",
		},
		{
			"expired in the middle", "wss://chat.example/ws", certify(t, past, asItIs).chain(2), root,
			"A certificate between the server's and its authority's is not valid now: that of Old CA.",
		},
		{
			"all at once", "wss://www.chat.example/ws", certify(t, nil, expired).chain(1), root,
			"The certificate is for chat.example, not for www.chat.example. The certificate has expired, on 2026-01-02 03:04:05 UTC. The certificate is self-signed: nobody vouches for it.",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			address := startTLS(t, &tls.Config{Certificates: []tls.Certificate{tt.shown}})
			r := probeTLS(t, tt.url, address, tt.roots)
			if tt.cause == "" {
				check(t, r, probe.Open, "")
			} else {
				check(t, r, probe.NoTLS, tt.cause)
			}
			o := options(t, tt.url)
			o.Network, o.Address, o.Insecure = "tcp", address, true
			if r := probe.Run(context.Background(), o); r.Outcome != probe.Open || len(r.Notes) == 0 {
				t.Errorf("--insecure: %s: %s, notes %q", r.Outcome, r.Cause, r.Notes)
			}
		})
	}
}

func TestCertificatesAreTold(t *testing.T) {
	root := certify(t, nil, authority("Example Root"))
	leaf := certify(t, root, func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = []string{"chat.example", "*.chat.example"}, []net.IP{net.IPv4(127, 0, 0, 1)}
		c.NotBefore = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	})
	s := probeTLS(t, "wss://chat.example/ws", startTLS(t, &tls.Config{Certificates: []tls.Certificate{leaf.chain(2)}}), root).Steps[1]
	if s.Name != "TLS" || s.Result != "TLS 1.3, TLS_AES_128_GCM_SHA256, no protocol agreed on, which means HTTP/1.1" {
		t.Errorf("%s: %s", s.Name, s.Result)
	}
	want := "chat.example, *.chat.example, 127.0.0.1, by Example Root, from 2026-01-02 03:04:05 to " + leaf.cert.NotAfter.UTC().Format(time.DateTime) + " (20 days left)"
	if len(s.Details) != 2 || s.Details[0] != want || !strings.HasPrefix(s.Details[1], "Example Root, by itself, from ") {
		t.Errorf("%q, want %q", s.Details, want)
	}
}

func TestServersWithoutTLSThatABrowserTakes(t *testing.T) {
	root := certify(t, nil, authority("Example Root"))
	leaf := []tls.Certificate{certify(t, root, asItIs).chain(1)}
	tests := []struct {
		name   string
		config *tls.Config
		cause  string
	}{
		{"TLS 1.1", &tls.Config{Certificates: leaf, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "The server and a browser have no version of TLS in common (TLS alert: protocol version not supported)."},
		{"another protocol only", &tls.Config{Certificates: leaf, NextProtos: []string{"mqtt"}}, "The server and a browser have no protocol in common: it does not take http/1.1 (TLS alert: no application protocol)."},
		{"no such name", &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, errors.New("no such site") }}, "The server has no certificate for chat.example (TLS alert: internal error)."},
		{"wants a certificate", &tls.Config{Certificates: leaf, ClientAuth: tls.RequireAnyClientCert}, "The server wants a certificate of its clients, and this probe has none (TLS alert: certificate required)."},
		{"wants one, TLS 1.2", &tls.Config{Certificates: leaf, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}, "The server wants a certificate of its clients, and this probe has none (TLS alert: handshake failure)."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			check(t, probeTLS(t, "wss://chat.example/ws", startTLS(t, tt.config), root), probe.NoTLS, tt.cause)
		})
	}
}

func TestTLSAskedOfPortsWithout(t *testing.T) {
	line := func(conn net.Conn) { // a hand-written server, which waits for lines
		if text, err := bufio.NewReader(conn).ReadString('\n'); err == nil && strings.HasPrefix(text, "GET ") {
			io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
		}
	}
	tests := []struct {
		name  string
		serve func(net.Conn)
		cause string
	}{
		{"http", answering(always("HTTP/1.1 400 Bad Request\r\n\r\n")), "The port PORT speaks plain HTTP, without TLS."},
		{"http at once", saying("HTTP/1.1 400 Bad Request\r\n\r\n"), "The port PORT speaks plain HTTP, without TLS."},
		{"hand-written", line, "The port PORT speaks plain HTTP, without TLS."},
		{"ssh", saying("SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n"), "The port PORT speaks SSH, not TLS."},
		{"closes", func(conn net.Conn) { io.ReadFull(conn, make([]byte, 5)) }, "The server closed the connection in the middle of the TLS handshake."},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options(t, "wss://"+startTCP(t, tt.serve)+"/ws")
			o.Timeout = haste
			check(t, probe.Run(context.Background(), o), probe.NoTLS, tt.cause)
		})
	}
}

func TestTLSPortAskedWithout(t *testing.T) {
	root := certify(t, nil, authority("Example Root"))
	address := startTLS(t, &tls.Config{Certificates: []tls.Certificate{certify(t, root, asItIs).chain(1)}})
	r := probe.Run(context.Background(), options(t, "ws://"+address+"/ws"))
	check(t, r, probe.Broken, "The port PORT speaks TLS, and was asked without.")
	if got := masked(strings.Join(r.Advice, "; ")); got != "write wss://127.0.0.1:PORT/ws" {
		t.Errorf("advice %q", got)
	}
}
