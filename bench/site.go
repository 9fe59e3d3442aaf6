//go:build linux

package main

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
	"slices"
	"time"
)

// prepareSite writes what all proxies serve: static files, and a certificate (ECDSA P-256). Whoever a proxy runs
// as may read it; the directory goes when the benchmark ends.
func prepareSite(dir string) (setup, error) {
	s := setup{
		Static: filepath.Join(dir, "static"),
		Cert:   filepath.Join(dir, "cert.pem"),
		Key:    filepath.Join(dir, "key.pem"),
		Both:   filepath.Join(dir, "both.pem"),
	}
	cert, key, err := certificate()
	if err != nil {
		return s, err
	}
	return s, errors.Join(
		os.Chmod(dir, 0o755),
		os.Mkdir(s.Static, 0o755),
		os.WriteFile(filepath.Join(s.Static, "4k.bin"), payload(4096), 0o644),
		os.WriteFile(filepath.Join(s.Static, "1m.bin"), payload(message), 0o644),
		os.WriteFile(s.Cert, cert, 0o644),
		os.WriteFile(s.Key, key, 0o644),
		os.WriteFile(s.Both, slices.Concat(cert, key), 0o644),
	)
}

func certificate() (certPEM, keyPEM []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: benchHost},
		DNSNames:     []string{benchHost},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	keyPEM = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return certPEM, keyPEM, nil
}
