package tls

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// followed returns a site's certificates from files, with a clock and a log.
func followed(t *testing.T, cert, key string) (c *Certificates, clock *clock, logs *logBuffer) {
	t.Helper()
	clock, logs = newClock(), &logBuffer{}
	c, err := newManager(logs.logger(), clock.Now).Load(testConfig(t, fileSite(cert, key, "_")))
	if err != nil {
		t.Fatal(err)
	}
	return c, clock, logs
}

// served returns the name in the certificate that a real handshake yields.
func served(t *testing.T, address string) string {
	t.Helper()
	state, err := handshake(address, anyone("asked.example"))
	if err != nil {
		t.Fatal(err)
	}
	return state.PeerCertificates[0].DNSNames[0]
}

func TestReplacedFilesAreServedWithoutRestart(t *testing.T) {
	for name, newPair := range map[string]func(*testing.T, string) pair{"ECDSA": newPair, "RSA": newRSAPair} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			cert, key := newPair(t, "old.example").write(t, dir)
			c, clock, logs := followed(t, cert, key)
			address := serve(t, c.Config())
			if got := served(t, address); got != "old.example" {
				t.Fatalf("served %s", got)
			}
			newPair(t, "new.example").write(t, dir)
			if got := served(t, address); got != "old.example" {
				t.Errorf("files looked at before %v: served %s", checkInterval, got)
			}
			clock.Add(checkInterval)
			if got := served(t, address); got != "new.example" {
				t.Errorf("served %s after the change", got)
			}
			if got := logs.lines("certificate reloaded"); len(got) != 1 {
				t.Errorf("logged %q, want one line", got)
			}
		})
	}
}

func TestSwappedSymlinksAreFollowed(t *testing.T) {
	dir := t.TempDir()
	newPair(t, "old.example").write(t, filepath.Join(dir, "archive1"))
	newPair(t, "new.example").write(t, filepath.Join(dir, "archive2"))
	live := filepath.Join(dir, "live")
	if err := os.Mkdir(live, 0o755); err != nil {
		t.Fatal(err)
	}
	point := func(file, archive string) {
		t.Helper()
		temp := filepath.Join(live, "temp")
		if err := os.Symlink(filepath.Join("..", archive, file), temp); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temp, filepath.Join(live, file)); err != nil {
			t.Fatal(err)
		}
	}
	point("fullchain.pem", "archive1")
	point("privkey.pem", "archive1")
	c, clock, logs := followed(t, filepath.Join(live, "fullchain.pem"), filepath.Join(live, "privkey.pem"))
	address := serve(t, c.Config())

	point("privkey.pem", "archive2") // certbot swaps one after the other
	clock.Add(checkInterval)
	if got := served(t, address); got != "old.example" {
		t.Errorf("served %s between the swaps", got)
	}
	point("fullchain.pem", "archive2")
	clock.Add(checkInterval)
	if got := served(t, address); got != "new.example" {
		t.Errorf("served %s after the swaps", got)
	}
	if got := logs.lines("not reloaded"); len(got) != 1 {
		t.Errorf("logged %q, want one line for the mismatch", got)
	}
}

func TestUnusableFilesKeepTheOldCertificateAndAreLoggedOnce(t *testing.T) {
	dir := t.TempDir()
	old, next := newPair(t, "old.example"), newPair(t, "new.example")
	cert, key := old.write(t, dir)
	c, clock, logs := followed(t, cert, key)
	address := serve(t, c.Config())
	for i, step := range []struct {
		name string
		do   func()
	}{
		{"half a certificate", func() { writeFile(t, cert, next.cert[:len(next.cert)/2]) }},
		{"a certificate without its key", func() { writeFile(t, cert, next.cert) }},
		{"half a chain", func() {
			writeFile(t, cert, append(append([]byte{}, next.cert...), old.cert[:200]...))
			writeFile(t, key, next.key)
		}},
		{"no key", func() { os.Remove(key) }},
		{"a directory", func() { os.Mkdir(key, 0o755) }},
		{"empty files", func() { os.Remove(key); writeFile(t, cert, nil); writeFile(t, key, nil) }},
	} {
		step.do()
		for range 3 {
			clock.Add(checkInterval)
			if got := served(t, address); got != "old.example" {
				t.Fatalf("%s: served %s", step.name, got)
			}
		}
		if got := logs.lines("not reloaded"); len(got) != i+1 {
			t.Fatalf("%s: logged %q, want %d lines", step.name, got, i+1)
		}
	}
	next.write(t, dir)
	clock.Add(checkInterval)
	if got := served(t, address); got != "new.example" {
		t.Errorf("served %s after all", got)
	}
	for _, line := range logs.lines("") {
		if strings.Contains(line, "BEGIN") || strings.Contains(line, string(next.key[40:60])) {
			t.Errorf("key material in the log: %s", line)
		}
	}
}

func TestOnlyOneHandshakeLooksAtTheFiles(t *testing.T) {
	cert, key := newPair(t, "old.example").write(t, t.TempDir())
	c, clock, _ := followed(t, cert, key)
	p := c.lookup("").source.(filePairs)[0]
	clock.Add(checkInterval)
	p.mu.Lock() // another handshake is at it, on a file system that hangs
	defer p.mu.Unlock()
	done := make(chan *tls.Certificate)
	go func() {
		got, _ := c.get(&tls.ClientHelloInfo{ServerName: "asked.example"})
		done <- got
	}()
	select {
	case got := <-done:
		if got != p.current.Load() {
			t.Error("not the certificate at hand")
		}
	case <-time.After(5 * time.Second):
		t.Fatal("the handshake waits for another one")
	}
}

func TestConcurrentHandshakesDuringReplacement(t *testing.T) {
	dir := t.TempDir()
	cert, key := newPair(t, "0.example").write(t, dir)
	c, clock, _ := followed(t, cert, key)
	address := serve(t, c.Config())
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := handshake(address, anyone("asked.example")); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 30 {
		newPair(t, "1.example").write(t, dir)
		clock.Add(checkInterval)
		time.Sleep(2 * time.Millisecond)
	}
	close(stop)
	clients.Wait()
	clock.Add(checkInterval)
	if got := served(t, address); got != "1.example" {
		t.Errorf("served %s in the end", got)
	}
}

func TestExpiredCertificateIsServedWithAWarning(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert, key := pairOf(t, "late.example", ec, time.Now().Add(-time.Hour)).write(t, t.TempDir())
	c, _, logs := followed(t, cert, key)
	if got := served(t, serve(t, c.Config())); got != "late.example" {
		t.Errorf("served %s", got)
	}
	if got := logs.lines("expired"); len(got) != 1 || !strings.Contains(got[0], cert) {
		t.Errorf("logged %q, want one line with the file", got)
	}
}

func TestCertificateThatClientsRefuseDoesNotReplaceOneTheyAccept(t *testing.T) {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	clock, logs := newClock(), &logBuffer{}
	begin := clock.Now()
	cert, key := pairOf(t, "good.example", ec, begin.Add(24*time.Hour)).write(t, dir)
	m := newManager(logs.logger(), clock.Now)
	load := func() string {
		t.Helper()
		c, err := m.Load(testConfig(t, fileSite(cert, key, "_")))
		if err != nil {
			t.Fatal(err)
		}
		m.current.Store(c)
		return serve(t, c.Config())
	}
	address := load()
	for _, step := range []struct {
		name     string
		notAfter time.Duration // of 48 hours
		logged   string
	}{
		{"expired.example", -time.Hour, "it expired on"},
		{"early.example", 49 * time.Hour, "it is not valid before"},
	} {
		pairOf(t, step.name, ec, begin.Add(step.notAfter)).write(t, dir)
		clock.Add(checkInterval)
		if got := served(t, address); got != "good.example" {
			t.Errorf("served %s", got)
		}
		if got := served(t, load()); got != "good.example" {
			t.Errorf("served %s after a reload", got)
		}
		if got := logs.lines(step.logged); len(got) != 1 || !strings.Contains(got[0], cert) {
			t.Errorf("logged %q", got)
		}
	}
	// The last one becomes valid.
	clock.Add(2 * time.Hour)
	if got := served(t, address); got != "early.example" {
		t.Errorf("served %s in the end", got)
	}
}

func TestReloadKeepsACertificateWhoseFilesAreHalfWritten(t *testing.T) {
	dir := t.TempDir()
	old, next := newPair(t, "old.example"), newPair(t, "new.example")
	cert, key := old.write(t, dir)
	cfg := testConfig(t, fileSite(cert, key, "_"))
	m := newManager(quiet(), time.Now)
	use := func() string {
		t.Helper()
		c, err := m.Load(cfg)
		if err != nil {
			t.Fatal(err)
		}
		m.current.Store(c)
		return served(t, serve(t, c.Config()))
	}
	use()
	writeFile(t, key, next.key)
	writeFile(t, cert, append(append([]byte{}, next.cert...), old.cert[:200]...))
	if got := use(); got != "old.example" {
		t.Errorf("served %s", got)
	}
	writeFile(t, cert, next.cert)
	if got := use(); got != "new.example" {
		t.Errorf("served %s after a reload, which looks at the files at once", got)
	}
}

func TestAnotherFileOfTheSameSizeAndTimeIsNoticed(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	for _, file := range []string{a, b} {
		writeFile(t, file, []byte(file))
		if err := os.Chtimes(file, time.Time{}, time.Unix(1_700_000_000, 0)); err != nil {
			t.Fatal(err)
		}
	}
	if !stampOf(a).equal(stampOf(a)) {
		t.Error("a file differs from itself")
	}
	if stampOf(a).equal(stampOf(b)) {
		t.Error("two files pass for one")
	}
}
