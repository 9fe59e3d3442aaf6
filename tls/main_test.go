package tls

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/leaks"
)

// envCADir makes the test binary a process that loads the local CA of a directory and prints it.
const envCADir = "WSTUNNEL_TEST_CA_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(envCADir); dir != "" {
		ca, err := loadLocalCA(dir, time.Now())
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Stdout.Write(ca.pem())
		os.Exit(0)
	}
	leaks.Verify(m)
}

// clock is a time that tests move: the real one, or one that stands still, and what was added.
type clock struct {
	mu    sync.Mutex
	still time.Time // zero for the real time
	added time.Duration
}

func newClock() *clock { return &clock{still: time.Now()} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.still.IsZero() {
		return time.Now().Add(c.added)
	}
	return c.still.Add(c.added)
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.added += d
}

// logBuffer collects log lines.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// lines returns the lines that contain text.
func (b *logBuffer) lines(text string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var found []string
	for line := range strings.Lines(b.buf.String()) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	return found
}

func (b *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(b, nil)) }

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// site returns a site with TLS of a mode.
func site(mode config.TLSMode, hosts ...string) config.Site {
	return config.Site{Pos: config.Pos{Line: 7, Col: 5}, Hosts: hosts, TLS: config.SiteTLS{Mode: mode}}
}

// fileSite returns a site served by a pair of files.
func fileSite(cert, key string, hosts ...string) config.Site {
	s := site(config.TLSFiles, hosts...)
	s.TLS = config.SiteTLS{Pos: config.Pos{Line: 9, Col: 10}, Mode: config.TLSFiles, Pairs: []config.CertPair{{Cert: cert, Key: key}}}
	return s
}

func testConfig(t *testing.T, sites ...config.Site) *config.Config {
	return &config.Config{File: "wstunnel.yaml", TLS: config.TLS{Storage: filepath.Join(t.TempDir(), "certs")}, Sites: sites}
}

// load loads the certificates of a configuration with a manager of their own, which does nothing in the background.
func load(cfg *config.Config, logger *slog.Logger) (*Certificates, error) {
	return NewManager(logger).Load(cfg)
}

func mustNew(t *testing.T, sites ...config.Site) *Certificates {
	t.Helper()
	c, err := load(testConfig(t, sites...), quiet())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A pair is a self-signed certificate and its key, as PEM.
type pair struct{ cert, key []byte }

func newPair(t *testing.T, name string) pair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pairOf(t, name, key, time.Now().Add(24*time.Hour))
}

func newRSAPair(t *testing.T, name string) pair {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return pairOf(t, name, key, time.Now().Add(24*time.Hour))
}

func pairOf(t *testing.T, name string, key crypto.Signer, notAfter time.Time) pair {
	t.Helper()
	template := &x509.Certificate{DNSNames: []string{name}, NotBefore: notAfter.Add(-48 * time.Hour), NotAfter: notAfter}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pair{
		cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		key:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
}

// write stores the pair in a directory and returns the files' names.
func (p pair) write(t *testing.T, dir string) (cert, key string) {
	t.Helper()
	cert, key = filepath.Join(dir, "fullchain.pem"), filepath.Join(dir, "privkey.pem")
	writeFile(t, cert, p.cert)
	writeFile(t, key, p.key)
	return cert, key
}

func mustDecode(t *testing.T, text string) string {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func writeFile(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// serve accepts TLS connections on a loopback address until the test ends; it sends each
// client the name of the protocol.
func serve(t *testing.T, config *tls.Config) (address string) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(10 * time.Second))
				if err := conn.(*tls.Conn).Handshake(); err == nil {
					io.WriteString(conn, conn.(*tls.Conn).ConnectionState().NegotiatedProtocol)
				}
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		running.Wait()
	})
	return listener.Addr().String()
}

// handshake connects to address as a client that asks for name.
func handshake(address string, config *tls.Config) (tls.ConnectionState, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", address, config)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, err = io.ReadAll(conn) // in TLS 1.3 the server's refusal comes after our Finished
	return conn.ConnectionState(), err
}

// anyone is a client that trusts every certificate.
func anyone(name string) *tls.Config { return &tls.Config{ServerName: name, InsecureSkipVerify: true} }
