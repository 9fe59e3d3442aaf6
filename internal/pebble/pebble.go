// Package pebble runs Pebble, an ACME authority (RFC 8555) for tests, with the DNS server that it asks.
package pebble

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"
)

// Version is the release that is built.
const Version = "v2.10.1"

// programs builds pebble and pebble-challtestsrv, once for all tests of the user, and returns their folder.
var programs = sync.OnceValues(func() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "wstunnel-tests", "pebble-"+Version)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp(filepath.Dir(dir), "build")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	for _, program := range []string{"pebble", "pebble-challtestsrv"} {
		cmd := exec.Command("go", "install", "github.com/letsencrypt/pebble/v2/cmd/"+program+"@"+Version)
		cmd.Env = append(os.Environ(), "GOBIN="+temp, "GOFLAGS=")
		cmd.Dir = temp
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("go install %s: %w\n%s", program, err, out)
		}
	}
	if err := os.Rename(temp, dir); err != nil && !os.IsExist(err) {
		if _, there := os.Stat(dir); there != nil {
			return "", err
		}
	}
	return dir, nil
})

// Options of an authority. The zero value is one that issues for 90 days and rejects no nonce.
type Options struct {
	HTTPPort, TLSPort int               // where challenges are looked for, on 127.0.0.1
	Lifetime          time.Duration     // of certificates
	EAB               map[string]string // HMAC keys in base64url by key identifier; without one of them there is no account
	Blocked           []string          // domains that are refused
	BadNonces         int               // percent of the good nonces that are rejected
}

// A Server is a running authority.
type Server struct {
	Directory string // URL of the ACME directory
	CA        string // PEM file: root of the directory's own certificate
	Address   string // of the directory

	client     *http.Client
	management string
	dns        string
	config     string
	options    Options
	cmd        *exec.Cmd
	out        output
}

// Start runs an authority until the end of the test. Every name has the address 127.0.0.1.
func Start(t testing.TB, options Options) *Server {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{options: options, Address: freeAddress(t), management: freeAddress(t), dns: freeAddress(t)}
	s.Directory = "https://" + s.Address + "/dir"
	s.configure(t)
	dns := exec.Command(filepath.Join(dir, "pebble-challtestsrv"), "-http01", "", "-https01", "", "-doh", "", "-tlsalpn01", "",
		"-dnsserver", s.dns, "-management", freeAddress(t), "-defaultIPv6", "")
	run(t, dns)
	s.Restart(t)
	return s
}

// Restart runs the authority again, after Stop. It has forgotten its accounts and has another root.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	dir, err := programs()
	if err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command(filepath.Join(dir, "pebble"), "-config", s.config, "-dnsserver", s.dns)
	s.cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0", "PEBBLE_WFE_NONCEREJECT="+strconv.Itoa(s.options.BadNonces))
	s.cmd.Stdout, s.cmd.Stderr = &s.out, &s.out
	run(t, s.cmd)
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		resp, err := s.client.Get(s.Directory)
		if err == nil {
			resp.Body.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("pebble does not answer: %v\n%s", err, s.out.String())
		}
	}
}

// Stop ends the authority; its DNS server stays.
func (s *Server) Stop() {
	s.cmd.Process.Kill()
	s.cmd.Wait()
}

// Count returns how often the log of the authority has a text.
func (s *Server) Count(text string) int { return s.out.count(text) }

// Root returns the root that the issued certificates have, as PEM.
func (s *Server) Root(t testing.TB) []byte {
	t.Helper()
	resp, err := s.client.Get("https://" + s.management + "/roots/0")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Roots is Root for the settings of a client.
func (s *Server) Roots(t testing.TB) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(s.Root(t)) {
		t.Fatal("no root")
	}
	return pool
}

// configure writes the configuration and the certificate of the directory.
func (s *Server) configure(t testing.TB) {
	t.Helper()
	dir := t.TempDir()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	s.CA = filepath.Join(dir, "ca.pem")
	write(t, s.CA, certPEM)
	write(t, filepath.Join(dir, "key.pem"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certPEM)
	s.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	settings, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": s.Address, "managementListenAddress": s.management,
		"certificate": s.CA, "privateKey": filepath.Join(dir, "key.pem"),
		"httpPort": s.options.HTTPPort, "tlsPort": s.options.TLSPort,
		"externalAccountBindingRequired": len(s.options.EAB) > 0, "externalAccountMACKeys": s.options.EAB,
		"domainBlocklist": s.options.Blocked, "keyAlgorithm": "ecdsa",
		"retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles":   map[string]any{"default": map[string]any{"description": "", "validityPeriod": int(s.options.Lifetime / time.Second)}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	s.config = filepath.Join(dir, "pebble.json")
	write(t, s.config, settings)
}

func write(t testing.TB, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// run starts a program that ends with the test.
func run(t testing.TB, cmd *exec.Cmd) {
	t.Helper()
	endWithParent(cmd)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
}

// Listen listens on a port of 127.0.0.1 that no system hands out by itself: when the listener is closed, the port stays free for
// the program that is to have it.
func Listen(t testing.TB) net.Listener {
	t.Helper()
	var err error
	for range 100 {
		const lowest, highest = 10000, 32000 // Linux hands out 32768 and above
		port := lowest + mathrand.IntN(highest-lowest)
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			return l
		}
	}
	t.Fatal(err)
	return nil
}

// freeAddress returns an address of the loopback interface that nobody listens on.
func freeAddress(t testing.TB) string {
	t.Helper()
	l := Listen(t)
	defer l.Close()
	return l.Addr().String()
}

// output collects what a program prints.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

func (o *output) count(text string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Count(o.buf.Bytes(), []byte(text))
}
