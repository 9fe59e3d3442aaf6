package tls

import (
	"path/filepath"
	"strings"
	"testing"

	"wstunnel/internal/config"
)

// FuzzParsePair checks that whatever parsePair takes can be written and read again.
func FuzzParsePair(f *testing.F) {
	key, err := newCAKey()
	if err != nil {
		f.Fatal(err)
	}
	parsed, err := parseCAKey(key)
	if err != nil {
		f.Fatal(err)
	}
	cert, err := newCACertificate(parsed, newClock().Now())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(append(key, cert...))
	f.Add(append(append(key, cert...), cert...))
	f.Add(append(cert, key...))
	f.Add(key)
	f.Fuzz(func(t *testing.T, data []byte) {
		cert, err := parsePair(data)
		if err != nil {
			return
		}
		again, err := encodePair(cert)
		if err != nil {
			return // a kind of key that nobody orders
		}
		if other, err := parsePair(again); err != nil || !other.Leaf.Equal(cert.Leaf) {
			t.Fatalf("got %v of\n%s", err, again)
		}
	})
}

func FuzzParseAttempt(f *testing.F) {
	f.Add([]byte(`{"failures":3,"error":"DNS problem","last":"2098-12-31T00:00:00Z","next":"2099-01-01T00:00:00Z"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if a, err := parseAttempt(data); err == nil && a.Failures < 0 {
			t.Fatalf("got %+v", a)
		}
	})
}

func FuzzProblems(f *testing.F) {
	f.Add([]byte(`{"type":"urn:ietf:params:acme:error:dns","detail":"no such name"}`))
	f.Add([]byte(`{"status":"invalid","challenges":[{"type":"http-01","error":{"type":"urn:ietf:params:acme:error:dns","detail":"x"}}]}`))
	f.Add([]byte(`{"error":{"type":"urn:ietf:params:acme:error:rejectedIdentifier"}}`))
	f.Fuzz(func(_ *testing.T, data []byte) { problemsOf(data) })
}

// FuzzStorage checks that neither the URL of a directory nor a token of a client leads out of the storage.
func FuzzStorage(f *testing.F) {
	f.Add("acme.example/directory", "token")
	f.Add("../../etc", "../account")
	f.Fuzz(func(t *testing.T, directory, token string) {
		s := newStorage(config.TLS{Storage: "/x", ACME: config.ACME{Directory: "https://" + directory}}, quiet())
		if rel, ok := strings.CutPrefix(s.dir, "/x/acme"); !ok || strings.Count(rel, "/") > 1 {
			t.Fatalf("%q leads to %s", directory, s.dir)
		}
		if file := s.file("challenges", token+"+http-01"); validToken(token) && filepath.Dir(file) != s.file("challenges") {
			t.Fatalf("%q leads to %s", token, file)
		}
	})
}
