package config

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// noEnv is an empty environment.
func noEnv(string) (string, bool) { return "", false }

// envOf is an environment of the given variables: name, value, name, value.
func envOf(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

// workDir makes a directory of the files that test configurations name: a.pem and a.key
// belong together, b.pem and b.key too; bad.pem holds no PEM; dir is a directory.
func workDir(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"a", "b"} {
		cert, key := certificate(t)
		write(t, filepath.Join(dir, name+".pem"), cert)
		write(t, filepath.Join(dir, name+".key"), key)
	}
	write(t, filepath.Join(dir, "bad.pem"), []byte("no PEM\n"))
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// certificate makes a self-signed certificate and its key, both PEM.
func certificate(t testing.TB) (cert, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "test"},
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// mustParse parses a configuration without mistakes.
func mustParse(t *testing.T, name, text string) *Config {
	t.Helper()
	cfg, err := Parse(name, []byte(text), noEnv)
	if err != nil {
		t.Fatalf("parse:\n%v\nof:\n%s", err, text)
	}
	return cfg
}

// mistakes parses a configuration and returns its mistakes, one on each line; "" if none.
func mistakes(t *testing.T, name, text string, env func(string) (string, bool)) string {
	t.Helper()
	cfg, err := Parse(name, []byte(text), env)
	if err == nil {
		return ""
	}
	var errs Errors
	if !errors.As(err, &errs) || len(errs) == 0 || cfg != nil {
		t.Fatalf("got %v and %T %v, want no Config and Errors", cfg, err, err)
	}
	return err.Error()
}

// siteWith is a configuration with one site of one location, a prefix with the given lines.
func siteWith(lines ...string) string {
	return "listen: [{address: '192.0.2.7:80'}]\nsites:\n  - hosts: [a.example]\n    locations:\n      - path: /x\n        " +
		strings.Join(lines, "\n        ") + "\n"
}
