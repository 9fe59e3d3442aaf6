package tls

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"wstunnel/internal/config"
)

func TestSiteIsFoundByServerName(t *testing.T) {
	dir := t.TempDir()
	var sites []config.Site
	for _, host := range []string{"example.com", "*.example.com", "*.deep.example.com", "_", "www.deep.example.com"} {
		cert, key := newPair(t, host).write(t, filepath.Join(dir, strings.ReplaceAll(host, "*", "star")))
		sites = append(sites, fileSite(cert, key, host))
	}
	plain := site(config.TLSOff, "plain.example.com", "*.plain.example.com")
	c := mustNew(t, append(sites, plain)...)
	for name, want := range map[string]string{
		"example.com":                     "example.com",
		"EXAMPLE.com":                     "example.com",
		"www.example.com":                 "*.example.com",
		"a.b.example.com":                 "*.example.com",
		"deep.example.com":                "*.example.com",
		"x.deep.example.com":              "*.deep.example.com",
		"x.y.deep.example.com":            "*.deep.example.com",
		"www.deep.example.com":            "www.deep.example.com",
		"badexample.com":                  "_",
		"com":                             "_",
		"":                                "_",
		"192.0.2.1":                       "_",
		"_":                               "_",
		"plain.example.com":               "",
		"x.plain.example.com":             "",
		strings.Repeat("a.", 130) + "com": "",
	} {
		cert, err := c.get(&tls.ClientHelloInfo{ServerName: name})
		got := ""
		if cert != nil {
			got = cert.Leaf.DNSNames[0]
		}
		if err != nil || got != want {
			t.Errorf("%q: got the certificate of %q, %v, want %q", name, got, err, want)
		}
	}
}

func TestHandshakeWithoutServerName(t *testing.T) {
	dir := t.TempDir()
	cert, key := newPair(t, "files.example").write(t, dir)
	files, selfSigned := fileSite(cert, key, "files.example"), site(config.TLSSelfSigned, "self.example")
	for _, test := range []struct {
		name  string
		sites []config.Site
		want  string // of the certificate; empty: refused
	}{
		{"one site with files", []config.Site{files}, "files.example"},
		{"one self-signed site", []config.Site{selfSigned}, "127.0.0.1"},
		{"one with TLS beside one without", []config.Site{site(config.TLSOff, "_"), files}, "files.example"},
		{"two sites", []config.Site{files, selfSigned}, ""},
		{"two sites and a default", []config.Site{selfSigned, fileSite(cert, key, "a.example"), fileSite(cert, key, "_")}, "files.example"},
		{"default with self-signed", []config.Site{files, site(config.TLSSelfSigned, "_")}, "127.0.0.1"},
		{"default without TLS", []config.Site{files, selfSigned, site(config.TLSOff, "_")}, ""},
		{"none", []config.Site{site(config.TLSOff, "_")}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			state, err := handshake(serve(t, mustNew(t, test.sites...).Config()), anyone(""))
			if test.want == "" {
				wantUnrecognizedName(t, err)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			leaf := state.PeerCertificates[0]
			names := leaf.DNSNames
			for _, ip := range leaf.IPAddresses {
				names = append(names, ip.String())
			}
			if !slices.Equal(names, []string{test.want}) {
				t.Errorf("got a certificate for %v, want %s", names, test.want)
			}
		})
	}
}

func wantUnrecognizedName(t *testing.T, err error) {
	t.Helper()
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || !strings.Contains(err.Error(), "unrecognized name") {
		t.Errorf("got %v, want the alert unrecognized_name", err)
	}
}

func TestUnknownNameIsRefusedQuietly(t *testing.T) {
	var logs logBuffer
	clock := newClock()
	c, err := newManager(logs.logger(), clock.Now).Load(testConfig(t, site(config.TLSSelfSigned, "example.com")))
	if err != nil {
		t.Fatal(err)
	}
	address := serve(t, c.Config())
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		client := anyone("other.example")
		client.MaxVersion = version
		_, err = handshake(address, client)
		wantUnrecognizedName(t, err)
	}
	if got := logs.lines(""); len(got) != 1 {
		t.Errorf("logged %q, want one line a minute", got)
	}
	clock.Add(refusedInterval)
	handshake(address, anyone("third.example"))
	if got := logs.lines("since_last=2 total=3 last_name=third.example"); len(got) != 1 {
		t.Errorf("logged %q", logs.lines(""))
	}
}

func TestEverySiteThatCannotBeServedIsReported(t *testing.T) {
	dir := t.TempDir()
	good, other := newPair(t, "good.example"), newPair(t, "other.example")
	cert, key := good.write(t, filepath.Join(dir, "good"))
	_, otherKey := other.write(t, filepath.Join(dir, "other"))
	junk, cut, locked := filepath.Join(dir, "junk.pem"), filepath.Join(dir, "cut.pem"), filepath.Join(dir, "locked.pem")
	writeFile(t, junk, []byte("no PEM"))
	writeFile(t, cut, append(slices.Clone(good.cert), other.cert[:100]...))
	writeFile(t, locked, []byte(strings.ReplaceAll(string(good.key), "PRIVATE", "ENCRYPTED PRIVATE")))
	_, err := load(testConfig(
		t,
		fileSite(cert, key, "good.example"),
		fileSite(filepath.Join(dir, "none.pem"), key, "none.example"),
		fileSite(cert, filepath.Join(dir, "none.key"), "nokey.example"),
		fileSite(cert, otherKey, "mismatch.example"),
		fileSite(junk, key, "junk.example"),
		fileSite(cut, key, "cut.example"),
		fileSite(cert, locked, "locked.example"),
		fileSite(key, cert, "swapped.example"),
	), quiet())
	if err == nil {
		t.Fatal("no error")
	}
	want := []string{
		"wstunnel.yaml:9:10: site none.example: certificate file: open " + dir + "/none.pem: no such file or directory",
		"wstunnel.yaml:9:10: site nokey.example: key file: open " + dir + "/none.key: no such file or directory",
		"wstunnel.yaml:9:10: site mismatch.example: certificate file " + cert + " with key file " + otherKey + ": tls: private key does not match public key",
		"wstunnel.yaml:9:10: site junk.example: certificate file " + junk + " with key file " + key + ": tls: failed to find any PEM data in certificate input",
		"wstunnel.yaml:9:10: site cut.example: certificate file " + cut + ": it holds an unreadable or unfinished certificate",
		"wstunnel.yaml:9:10: site locked.example: key file " + locked + ": the key is encrypted, and nobody is there to ask for its passphrase; store it decrypted",
		"wstunnel.yaml:9:10: site swapped.example: certificate file " + key + " with key file " + cert + ": tls: failed to find certificate PEM data in certificate input, but did find a private key; PEM inputs may have been switched",
	}
	got := strings.Split(err.Error(), "\n")
	for i := range max(len(got), len(want)) {
		if i >= len(got) || i >= len(want) || got[i] != want[i] {
			t.Fatalf("error %d differs:\n got %q\nwant %q", i, got[min(i, len(got)):], want[min(i, len(want)):])
		}
	}
}

// openssl runs s_client against address and returns what it prints; ok says that the
// handshake succeeded.
func openssl(t *testing.T, address string, args ...string) (out string, ok bool) {
	t.Helper()
	program, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	cmd := exec.Command(program, append([]string{"s_client", "-connect", address}, args...)...)
	cmd.Stdin = strings.NewReader("Q\n")
	data, err := cmd.CombinedOutput()
	return string(data), err == nil
}

func TestOpenSSLSeesOnlyModernProtocols(t *testing.T) {
	dir := t.TempDir()
	cert, key := newRSAPair(t, "rsa.example").write(t, dir)
	c := mustNew(t, site(config.TLSSelfSigned, "example.com", "*.example.com"), fileSite(cert, key, "rsa.example"))
	caFile := filepath.Join(dir, "ca.pem")
	writeFile(t, caFile, c.CACertificate())
	address := serve(t, c.Config())
	trust := []string{"-verify_return_error", "-CAfile", caFile}
	for _, test := range []struct {
		args string
		want string // empty: the handshake fails
	}{
		{"-servername example.com -verify_hostname example.com -tls1_3", "Verify return code: 0 (ok)"},
		{"-servername a.b.example.com -verify_hostname a.b.example.com -tls1_2", "Verify return code: 0 (ok)"},
		{"-servername example.com -verify_hostname other.example", ""},
		{"-servername example.com -tls1_2 -cipher ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"},
		{"-servername example.com -tls1_2 -cipher ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-ECDSA-CHACHA20-POLY1305"},
		{"-servername example.com -tls1_2 -cipher ECDHE-ECDSA-AES128-SHA:ECDHE-ECDSA-AES256-SHA:ECDHE-ECDSA-AES128-SHA256", ""},
		{"-servername rsa.example -CAfile " + cert + " -tls1_2 -cipher ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256"},
		{"-servername rsa.example -CAfile " + cert + " -tls1_2 -cipher AES128-GCM-SHA256:AES128-SHA:ECDHE-RSA-AES128-SHA", ""},
		{"-servername example.com -tls1_1 -cipher DEFAULT@SECLEVEL=0", ""},
		{"-servername example.com -tls1 -cipher DEFAULT@SECLEVEL=0", ""},
		{"-servername example.com -alpn h2,http/1.1", "ALPN protocol: h2"},
		{"-servername example.com -alpn http/1.1", "ALPN protocol: http/1.1"},
		{"-servername example.com", "No ALPN negotiated"},
		{"-servername example.com -alpn spdy/3", ""},
	} {
		out, ok := openssl(t, address, append(slices.Clone(trust), strings.Fields(test.args)...)...)
		if ok != (test.want != "") || !strings.Contains(out, test.want) {
			t.Errorf("%s: succeeded: %v, want %q in\n%s", test.args, ok, test.want, out)
		}
	}
}

func TestSessionsResumeOnEveryListener(t *testing.T) {
	c := mustNew(t, site(config.TLSSelfSigned, "example.com"))
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(c.CACertificate())
	client := &tls.Config{ServerName: "example.com", RootCAs: roots, ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	for i, address := range []string{serve(t, c.Config()), serve(t, c.Config())} {
		state, err := handshake(address, client)
		if err != nil {
			t.Fatal(err)
		}
		if want := i == 1; state.DidResume != want {
			t.Errorf("handshake %d: session resumed: %v", i, state.DidResume)
		}
	}
}

func TestOldProtocolsAreRefusedByAlert(t *testing.T) {
	address := serve(t, mustNew(t, site(config.TLSSelfSigned, "example.com")).Config())
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		client := anyone("example.com")
		client.MinVersion, client.MaxVersion = version, version
		if _, err := handshake(address, client); err == nil || !strings.Contains(err.Error(), "remote error: tls: protocol version not supported") {
			t.Errorf("%s: got %v", tls.VersionName(version), err)
		}
	}
}
