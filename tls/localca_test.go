package tls

import (
	"bytes"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"wstunnel/internal/config"
)

func TestLocalCAIsMadeOnce(t *testing.T) {
	cfg := testConfig(t, site(config.TLSSelfSigned, "example.com"))
	first, err := load(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	second, err := load(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	onDisk, err := os.ReadFile(filepath.Join(cfg.TLS.Storage, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first.CACertificate(), onDisk) || !bytes.Equal(second.CACertificate(), onDisk) {
		t.Error("CACertificate is not what ca.pem holds")
	}
	for name, want := range map[string]os.FileMode{"": os.ModeDir | 0o700, "ca.pem": 0o644, "ca.key": 0o600} {
		info, err := os.Stat(filepath.Join(cfg.TLS.Storage, name))
		if err != nil || info.Mode() != want {
			t.Errorf("%q has mode %v, %v, want %v", name, info.Mode(), err, want)
		}
	}
	if files, _ := os.ReadDir(cfg.TLS.Storage); len(files) != 2 {
		t.Errorf("left in the directory: %v", files)
	}
	ca := first.ca.cert
	if !strings.HasPrefix(ca.Subject.CommonName, "wstunnel local CA") || !ca.MaxPathLenZero || ca.KeyUsage&x509.KeyUsageCertSign == 0 {
		t.Errorf("CA %s, path length zero: %v, usage %v", ca.Subject, ca.MaxPathLenZero, ca.KeyUsage)
	}
	if years := time.Until(ca.NotAfter).Hours() / 24 / 365; years < 9.9 || years > 10.1 {
		t.Errorf("CA lasts for %v years", years)
	}
}

func TestNoLocalCAWithoutSelfSignedSite(t *testing.T) {
	cert, key := newPair(t, "example.com").write(t, t.TempDir())
	cfg := testConfig(t, fileSite(cert, key, "example.com"))
	c, err := load(cfg, quiet())
	if err != nil {
		t.Fatal(err)
	}
	if c.CACertificate() != nil {
		t.Error("a CA certificate, though no site is self-signed")
	}
	if _, err := os.Stat(cfg.TLS.Storage); !os.IsNotExist(err) {
		t.Errorf("the storage was touched: %v", err)
	}
}

func TestProcessesStartingAtOnceShareTheCA(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	const processes, goroutines = 4, 16
	results := make([][]byte, processes+goroutines)
	var started sync.WaitGroup
	for i := range processes {
		started.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), envCADir+"="+dir)
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("%v: %s", err, out)
			}
			results[i] = out
		})
	}
	for i := range goroutines {
		started.Go(func() {
			ca, err := loadLocalCA(dir, time.Now())
			if err != nil {
				t.Error(err)
				return
			}
			results[processes+i] = ca.pem()
		})
	}
	started.Wait()
	for i, got := range results {
		if !bytes.Equal(got, results[0]) {
			t.Errorf("process %d has another CA", i)
		}
	}
}

func TestLocalCAIsFinishedAfterACrash(t *testing.T) {
	dir := t.TempDir()
	key, err := newCAKey()
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "ca.key"), key)
	ca, err := loadLocalCA(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(filepath.Join(dir, "ca.key")); !bytes.Equal(got, key) {
		t.Error("the key was replaced")
	}
	if err := ca.cert.CheckSignatureFrom(ca.cert); err != nil {
		t.Error(err)
	}
}

func TestUnusableCAFilesAreReportedAndLeftAlone(t *testing.T) {
	other := newPair(t, "other.example")
	for _, test := range []struct {
		name      string
		cert, key []byte // nil: left as made, empty: removed
		after     time.Duration
		want      string // after the directory's name
	}{
		{"junk for a certificate", []byte("junk"), nil, 0, "/ca.pem: no PEM block CERTIFICATE"},
		{"broken certificate", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), nil, 0, "/ca.pem: x509: malformed certificate"},
		{"junk for a key", nil, []byte("junk"), 0, "/ca.key: no PEM block PRIVATE KEY"},
		{"broken key", nil, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0, "/ca.key: the PEM block PRIVATE KEY holds no key in PKCS #8 form"},
		{"another's certificate", other.cert, nil, 0, "/ca.pem: the certificate does not fit the key in ca.key beside it"},
		{"another's key", nil, other.key, 0, "/ca.pem: the certificate does not fit the key in ca.key beside it"},
		{"no authority", other.cert, other.key, 0, "/ca.pem: not the certificate of a certificate authority"},
		{"lost key", nil, []byte{}, 0, "/ca.pem is there but its key"},
		{"expired", nil, nil, caLifetime + time.Hour, "/ca.pem: expired on "},
	} {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			if _, err := loadLocalCA(dir, time.Now()); err != nil {
				t.Fatal(err)
			}
			for file, data := range map[string][]byte{"ca.pem": test.cert, "ca.key": test.key} {
				switch {
				case data == nil:
				case len(data) == 0:
					os.Remove(filepath.Join(dir, file))
				default:
					writeFile(t, filepath.Join(dir, file), data)
				}
			}
			before := contents(t, dir)
			_, err := loadLocalCA(dir, time.Now().Add(test.after))
			if err == nil || !strings.Contains(err.Error(), "local CA: "+dir+test.want) {
				t.Errorf("got %v, want ...%s", err, test.want)
			}
			if after := contents(t, dir); after != before {
				t.Error("the files were changed")
			}
		})
	}
}

// contents returns all that a directory holds.
func contents(t *testing.T, dir string) string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, entry := range entries {
		data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all.WriteString(entry.Name() + "\n" + string(data))
	}
	return all.String()
}

func TestStorageThatCannotBeUsed(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	writeFile(t, file, nil)
	locked, readOnly := filepath.Join(dir, "locked"), filepath.Join(dir, "readonly")
	for path, mode := range map[string]os.FileMode{locked: 0, readOnly: 0o500} {
		if err := os.Mkdir(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name, storage string
		asRoot        bool // root is refused too
		want          string
	}{
		{"not a directory", file, true, "file/ca.pem: not a directory"},
		{"below a file", filepath.Join(file, "certs"), true, "file/certs/ca.pem: not a directory"},
		{"unreadable", locked, false, "locked/ca.pem: permission denied"},
		{"read-only", readOnly, false, "permission denied"},
		{"read-only file system", "/proc/self", true, "/proc/self/"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !test.asRoot && os.Geteuid() == 0 {
				t.Skip("root may do everything")
			}
			cfg := testConfig(t, site(config.TLSSelfSigned, "a.example"), site(config.TLSSelfSigned, "b.example"))
			cfg.TLS.Storage = test.storage
			_, err := load(cfg, quiet())
			if err == nil || !strings.HasPrefix(err.Error(), "wstunnel.yaml:7:5: site a.example: tls: self-signed: local CA: ") ||
				!strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want ...%s", err, test.want)
			}
		})
	}
}

func TestExistingCAIsLoadedFromReadOnlyStorage(t *testing.T) {
	dir := t.TempDir()
	made, err := loadLocalCA(dir, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Chmod(dir, 0o700) }) // to be removed
	loaded, err := loadLocalCA(dir, time.Now())
	if err != nil || !loaded.cert.Equal(made.cert) {
		t.Errorf("loaded another CA, %v", err)
	}
}

func TestCASoonToExpireIsWarnedOf(t *testing.T) {
	cfg := testConfig(t, site(config.TLSSelfSigned, "example.com"))
	var logs logBuffer
	clock := newClock()
	for _, step := range []struct {
		pass time.Duration
		want int
	}{{0, 0}, {caLifetime - leafLifetime/2, 1}} {
		clock.Add(step.pass)
		if _, err := newManager(logs.logger(), clock.Now).Load(cfg); err != nil {
			t.Fatal(err)
		}
		if got := logs.lines("expires soon"); len(got) != step.want {
			t.Errorf("logged %q", got)
		}
	}
}
