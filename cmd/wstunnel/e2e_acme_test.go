//go:build linux

package main_test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/gorilla/websocket"

	"wstunnel/internal/pebble"
)

// acme is what the tests with an ACME authority have in common: its challenges lead to two free ports.
type acme struct {
	*pebble.Server
	plain, secure string // addresses that the authority connects to
	storage       string
}

func startACME(t *testing.T, options pebble.Options) acme {
	t.Helper()
	plain, secure := pebble.Listen(t), pebble.Listen(t)
	plain.Close()
	secure.Close()
	a := acme{plain: plain.Addr().String(), secure: secure.Addr().String(), storage: filepath.Join(t.TempDir(), "certs")}
	options.HTTPPort, options.TLSPort = plain.Addr().(*net.TCPAddr).Port, secure.Addr().(*net.TCPAddr).Port
	a.Server = pebble.Start(t, options)
	return a
}

// settings makes a configuration of sites with tls: auto, all with the same locations.
func (a acme) settings(plain, secure string, hosts []string, locations ...string) string {
	return fmt.Sprintf(`listen:
  - address: %s
  - address: %s
    tls: true
tls:
  storage: %s
  acme: {directory: %s, ca: %s, email: admin@example.com}
shutdown_timeout: 5s
sites:
  - hosts: [%s]
    tls: auto
    redirect_https: true
    hsts: 180d
    locations:
      - %s
`, plain, secure, a.storage, a.Directory, a.CA, strings.Join(hosts, ", "), strings.Join(locations, "\n      - "))
}

// dialHost opens a WebSocket as a client that finds the host at the TLS listener.
func (f *front) dialHost(t *testing.T, host, path string, roots *x509.CertPool) (socket, *x509.Certificate) {
	t.Helper()
	d := websocket.Dialer{
		HandshakeTimeout: patience, TLSClientConfig: &tls.Config{RootCAs: roots},
		NetDial: func(string, string) (net.Conn, error) { return net.Dial("tcp", f.https) },
	}
	conn, _, err := d.Dial("wss://"+host+path, nil)
	if err != nil {
		t.Fatalf("wss://%s%s: %v", host, path, err)
	}
	t.Cleanup(func() { conn.Close() })
	return socket{conn, t}, conn.UnderlyingConn().(*tls.Conn).ConnectionState().PeerCertificates[0]
}

func TestTLSAutoIsEnough(t *testing.T) {
	a := startACME(t, pebble.Options{})
	php := startSocketPHP(t, "")
	f := startFront(t, a.settings(a.plain, a.secure, []string{"a.example", "b.example"},
		`{path: /ws, websocket: "ws://`+php.address+`"}`, `{path: /, http: "http://`+startPages(t).address+`"}`))
	f.awaitLogs(t, 0, 2, "certificate obtained")
	roots := a.Roots(t)
	for _, host := range []string{"a.example", "b.example"} {
		s, _ := f.dialHost(t, host, "/ws", roots)
		s.echo("hello " + host)
	}
	t.Run("openssl", func(t *testing.T) { checkOpenSSL(t, a, f) })
	t.Run("certs", func(t *testing.T) {
		out, err := wstunnel(t, "certs", "--config", f.config).CombinedOutput()
		if err != nil || strings.Count(string(out), "Pebble Intermediate CA") != 2 {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("Chromium", func(t *testing.T) {
		b := startTrustingBrowser(t, a.Root(t), "MAP *.example "+f.https)
		b.open(t, "https://a.example/page.php")
		got := script[string](t, b, `const socket = await connect('/ws'); return await socket.ask('over a certificate of the authority')`)
		if got != "over a certificate of the authority" {
			t.Errorf("got %q", got)
		}
		if b.tryOpen("https://c.example/page.php") == nil {
			t.Error("a host without a certificate was opened")
		}
	})
}

// checkOpenSSL looks at what another implementation sees of protocols, suites and the chain.
func checkOpenSSL(t *testing.T, a acme, f *front) {
	rootFile := filepath.Join(t.TempDir(), "root.pem")
	if err := os.WriteFile(rootFile, a.Root(t), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args string
		want string // empty: the handshake fails
	}{
		{"-servername a.example -verify_hostname a.example -tls1_3", "Verify return code: 0 (ok)"},
		{"-servername b.example -verify_hostname b.example -tls1_2 -cipher ECDHE-ECDSA-AES128-GCM-SHA256", "Verify return code: 0 (ok)"},
		{"-servername a.example -showcerts", "1 s:CN = Pebble Intermediate CA"},
		{"-servername a.example -status", "OCSP response: no response sent"},
		{"-servername a.example -tls1_2 -cipher ECDHE-ECDSA-AES128-SHA", ""},
		{"-servername a.example -tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256", ""},
		{"-servername a.example -tls1_1 -cipher DEFAULT@SECLEVEL=0", ""},
		{"-servername c.example", ""},
		{"-servername a.example -alpn acme-tls/1", ""},
	} {
		args := append([]string{"s_client", "-connect", f.https, "-verify_return_error", "-CAfile", rootFile}, strings.Fields(test.args)...)
		cmd := exec.Command(installed(t, "openssl", "openssl"), args...)
		cmd.Stdin = strings.NewReader("Q\n")
		out, err := cmd.CombinedOutput()
		if (err == nil) != (test.want != "") || !strings.Contains(string(out), test.want) {
			t.Errorf("%s: %v, want %q in\n%s", test.args, err, test.want, out)
		}
	}
}

// startTrustingBrowser runs a Chromium that trusts a root as if its user had imported it, and resolves names by rules.
func startTrustingBrowser(t *testing.T, root []byte, rules string) browser {
	t.Helper()
	home := t.TempDir()
	database, rootFile := filepath.Join(home, ".pki", "nssdb"), filepath.Join(home, "root.pem")
	if err := os.MkdirAll(database, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(rootFile, root, 0o600); err != nil {
		t.Fatal(err)
	}
	certutil := installed(t, "certutil", "libnss3-tools")
	for _, args := range [][]string{{"-N", "--empty-password"}, {"-A", "-t", "C,,", "-n", "authority", "-i", rootFile}} {
		if out, err := exec.Command(certutil, append([]string{"-d", "sql:" + database}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("certutil %v: %v\n%s", args, err, out)
		}
	}
	return startBrowserWith(t, chromedp.Env("HOME="+home, "TMPDIR="+t.TempDir()), chromedp.Flag("host-resolver-rules", rules))
}

func TestTwoProcessesOrderEachNameOnce(t *testing.T) {
	a := startACME(t, pebble.Options{})
	hosts := []string{"a.example", "b.example", "c.example", "d.example", "e.example", "f.example"}
	page := `{path: /, http: "http://127.0.0.1:1"}`
	f := startFront(t, a.settings(a.plain, a.secure, hosts, page))
	g := startFront(t, a.settings("127.0.0.1:0", "127.0.0.2:0", hosts, page))
	roots := a.Roots(t)
	for _, host := range hosts {
		var serials [2]string
		for i, front := range []*front{f, g} {
			eventually(t, host+" served", func() bool {
				conn, err := tls.Dial("tcp", front.https, &tls.Config{ServerName: host, RootCAs: roots})
				if err != nil {
					return false
				}
				defer conn.Close()
				serials[i] = conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
				return true
			})
		}
		if serials[0] != serials[1] {
			t.Errorf("%s has two certificates", host)
		}
	}
	obtained := func() int { // as far as it is in the log, where a line comes behind what it tells of
		return len(f.awaitLogs(t, 0, 0, "certificate obtained")) + len(g.awaitLogs(t, 0, 0, "certificate obtained"))
	}
	eventually(t, "an order for each name", func() bool { return obtained() >= len(hosts) })
	if n := obtained(); n != len(hosts) {
		t.Errorf("%d orders for %d names", n, len(hosts))
	}
}

func TestRenewalAndRestartDisturbNobody(t *testing.T) {
	a := startACME(t, pebble.Options{Lifetime: 8 * time.Second})
	php := startSocketPHP(t, "")
	yaml := a.settings(a.plain, a.secure, []string{"a.example"}, `{path: /ws, websocket: "ws://`+php.address+`"}`)
	f := startFront(t, yaml)
	f.awaitLog(t, 0, "certificate obtained")
	roots := a.Roots(t)
	live, first := f.dialHost(t, "a.example", "/ws", roots)
	live.echo("before the renewal")
	f.awaitLogs(t, 0, 2, "certificate obtained")
	live.echo("after the renewal")
	eventually(t, "the new certificate is served", func() bool { // which it is behind the line of the log
		s, second := f.dialHost(t, "a.example", "/ws", roots)
		s.Close()
		return !first.Equal(second)
	})
	f.reload(t, strings.Replace(yaml, "a.example]", "a.example, b.example]", 1), reloaded)
	f.awaitLog(t, 0, "certificate obtained", "host", "b.example")
	live.echo("after a reload that adds a host")

	a.Stop()     // and with it the way to new certificates
	live.Close() // which does not answer a Close frame, and this one's certificate is good for seconds
	f.stop(t)
	again := startFront(t, yaml)
	conn, err := tls.Dial("tcp", again.https, &tls.Config{ServerName: "a.example", RootCAs: roots})
	if err != nil {
		t.Fatalf("after a restart without the authority: %v", err)
	}
	conn.Close()
}

func TestHostsOnDemand(t *testing.T) {
	a := startACME(t, pebble.Options{})
	php := startSocketPHP(t, "")
	asked := make(chan string, 10)
	customers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- r.FormValue("domain")
		if r.FormValue("domain") != "shop.customer.example" {
			http.NotFound(w, r)
		}
	}))
	defer customers.Close()
	yaml := a.settings(a.plain, a.secure, []string{"_"}, `{path: /ws, websocket: "ws://`+php.address+`"}`)
	f := startFront(t, strings.Replace(yaml, "tls: auto", "tls: {auto: on-demand, ask: "+customers.URL+"/check}", 1))
	roots := a.Roots(t)
	for range 2 {
		s, cert := f.dialHost(t, "shop.customer.example", "/ws", roots)
		s.echo("hello")
		if cert.DNSNames[0] != "shop.customer.example" {
			t.Errorf("a certificate for %v", cert.DNSNames)
		}
	}
	if _, err := tls.Dial("tcp", f.https, &tls.Config{ServerName: "stranger.example", RootCAs: roots}); err == nil || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("a name that is not allowed: %v", err)
	}
	close(asked)
	var questions []string
	for name := range asked {
		questions = append(questions, name)
	}
	if strings.Join(questions, " ") != "shop.customer.example stranger.example" {
		t.Errorf("asked for %v", questions)
	}
	out, err := wstunnel(t, "certs", "--config", f.config).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "shop.customer.example") || strings.Contains(string(out), "stranger") {
		t.Errorf("%v\n%s", err, out)
	}
}
