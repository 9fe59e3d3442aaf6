package tls

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/pebble"
)

// acmeFront is a manager with the listeners that an authority connects to.
type acmeFront struct {
	*Manager
	logs       *logBuffer
	plain, tls string // addresses
	clock      *clock
}

// ports finds two free ports, for an authority that has to know them first.
func ports(t *testing.T) (plain, secure net.Listener) {
	t.Helper()
	var both [2]net.Listener
	for i := range both {
		l := pebble.Listen(t)
		t.Cleanup(func() { l.Close() })
		both[i] = l
	}
	return both[0], both[1]
}

func portOf(l net.Listener) int { return l.Addr().(*net.TCPAddr).Port }

// startACME runs an authority, and a manager for its challenges on real listeners.
func startACME(t *testing.T, options pebble.Options) (*pebble.Server, *acmeFront) {
	t.Helper()
	plain, secure := ports(t)
	options.HTTPPort, options.TLSPort = portOf(plain), portOf(secure)
	authority := pebble.Start(t, options)
	return authority, newFront(t, plain, secure)
}

func newFront(t *testing.T, plain, secure net.Listener) *acmeFront {
	t.Helper()
	f := &acmeFront{logs: &logBuffer{}, clock: &clock{}, plain: plain.Addr().String(), tls: secure.Addr().String()}
	f.Manager = newManager(f.logs.logger(), f.clock.Now)
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, _ := strings.CutPrefix(r.URL.Path, "/.well-known/acme-challenge/")
		if answer := f.current.Load().Challenge(r.Host, token); answer != nil {
			w.Write(answer)
			return
		}
		http.NotFound(w, r)
	})}
	go server.Serve(plain)
	var handshakes sync.WaitGroup
	go func() {
		for {
			conn, err := secure.Accept()
			if err != nil {
				return
			}
			handshakes.Go(func() {
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(10 * time.Second))
				if c := f.current.Load(); c != nil {
					tls.Server(conn, c.Config()).Handshake()
				}
			})
		}
	}()
	t.Cleanup(func() {
		f.Close()
		server.Close()
		secure.Close()
		f.running.Wait()
		handshakes.Wait()
	})
	return f
}

// acmeConfig is a configuration with sites whose certificates an authority issues.
func acmeConfig(t *testing.T, authority *pebble.Server, sites ...config.Site) *config.Config {
	cfg := testConfig(t, sites...)
	cfg.Listen = []config.Listener{{Address: ":80"}, {Address: ":443", TLS: true}}
	cfg.TLS.ACME = config.ACME{Directory: authority.Directory, CA: authority.CA, Email: "admin@example.com"}
	return cfg
}

// use makes a configuration the current one.
func (f *acmeFront) use(t *testing.T, cfg *config.Config) *Certificates {
	t.Helper()
	c, err := f.Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.Use(c)
	return c
}

// awaitCertificate waits until a name has a certificate, and returns it.
func (f *acmeFront) awaitCertificate(t *testing.T, name string) *tls.Certificate {
	t.Helper()
	f.eventually(t, "certificate of "+name, func() bool {
		e := f.entry(name)
		return e != nil && e.cert.Load() != nil
	})
	return f.entry(name).cert.Load()
}

// awaitRenewal waits until another certificate of a name is served than an old one. It is logged before.
func (f *acmeFront) awaitRenewal(t *testing.T, name string, old *x509.Certificate) {
	t.Helper()
	f.eventually(t, "renewal of "+name, func() bool { return !f.entry(name).cert.Load().Leaf.Equal(old) })
}

func (f *acmeFront) awaitLog(t *testing.T, text string, n int) []string {
	t.Helper()
	f.eventually(t, "log line "+text, func() bool { return len(f.logs.lines(text)) >= n })
	return f.logs.lines(text)
}

func (f *acmeFront) eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still no %s\n%s", what, f.logs.lines(""))
		}
	}
}

// pass moves the clock and lets the schedule look at it.
func (f *acmeFront) pass(d time.Duration) {
	f.clock.Add(d)
	f.poke()
}

func TestCertificatesAreThereBeforeTheFirstVisitor(t *testing.T) {
	t.Parallel()
	authority, f := startACME(t, pebble.Options{})
	cfg := acmeConfig(t, authority, site(config.TLSAuto, "a.example", "b.example", "_"), site(config.TLSAuto, "c.example"))
	f.use(t, cfg)
	roots := authority.Roots(t)
	for _, name := range []string{"a.example", "b.example", "c.example"} {
		f.awaitCertificate(t, name)
		state, err := handshake(f.tls, &tls.Config{ServerName: name, RootCAs: roots})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := state.PeerCertificates[0].DNSNames; len(got) != 1 || got[0] != name {
			t.Errorf("%s: certificate for %v", name, got)
		}
		if state.PeerCertificates[0].PublicKeyAlgorithm.String() != "ECDSA" {
			t.Errorf("%s: %s key", name, state.PeerCertificates[0].PublicKeyAlgorithm)
		}
	}
	_, err := handshake(f.tls, anyone("other.example"))
	wantUnrecognizedName(t, err)
	if state, err := handshake(f.tls, anyone("")); err != nil || state.PeerCertificates[0].DNSNames[0] != "a.example" {
		t.Errorf("without a name: %v", err)
	}
	filepath.WalkDir(cfg.TLS.Storage, func(path string, d os.DirEntry, err error) error {
		info, _ := d.Info()
		if want := os.FileMode(0o600); !d.IsDir() && info.Mode() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return err
	})
	f.eventually(t, "end of the challenges' files", func() bool {
		entries, _ := os.ReadDir(f.current.Load().authority.storage.file("challenges"))
		return len(entries) == 0
	})
}

func TestStorageThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, nil)
	cfg := testConfig(t, site(config.TLSAuto, "a.example"), site(config.TLSAuto, "b.example"))
	cfg.TLS.Storage = file
	_, err := load(cfg, quiet())
	if err == nil || !strings.HasPrefix(err.Error(), "wstunnel.yaml:7:5: site a.example: tls: auto: mkdir "+file) ||
		!strings.HasSuffix(err.Error(), "\nwstunnel.yaml:7:5: site b.example: tls: auto: no storage or authority, as said above") {
		t.Errorf("got %v", err)
	}
}

func TestCertificatesAreServedFromAStorageThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, site(config.TLSAuto, "a.example"))
	s := newStorage(cfg.TLS, quiet())
	p := newPair(t, "a.example")
	writeFile(t, s.file("a.example.pem"), append(p.key, p.cert...))
	writeFile(t, s.file("locks"), nil) // in the way of the directory
	var logs logBuffer
	c, err := load(cfg, logs.logger())
	if err != nil {
		t.Fatal(err)
	}
	if got := logs.lines("nothing can be renewed"); len(got) != 1 {
		t.Errorf("logged %q", got)
	}
	if _, err := handshake(serve(t, c.Config()), anyone("a.example")); err != nil {
		t.Error(err)
	}
}
