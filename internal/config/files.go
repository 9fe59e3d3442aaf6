package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode"

	"gopkg.in/yaml.v3"
)

// fileRef is a file name of the configuration.
type fileRef struct {
	scalar
	path string // absolute; relative names start at the configuration file's directory
}

// fileName reads the name of a file or directory, which need not exist.
func (d *decoder) fileName(n *yaml.Node, allowed string) (fileRef, bool) {
	s, ok := d.scalar(n, allowed)
	if !ok {
		return fileRef{}, false
	}
	if s.text == "" || strings.ContainsFunc(s.text, unicode.IsControl) {
		d.add(s.pos, "bad file name "+s.shown(), allowed)
		return fileRef{}, false
	}
	path := s.text
	if !filepath.IsAbs(path) {
		path = filepath.Join(d.directoryAt(s.pos), path)
	}
	return fileRef{s, filepath.Clean(path)}, true
}

// directory reads the name of a directory that exists.
func (d *decoder) directory(n *yaml.Node) string {
	const allowed = "an existing directory"
	f, ok := d.fileName(n, allowed)
	if !ok {
		return ""
	}
	info, err := os.Stat(f.path)
	switch {
	case err != nil:
		d.addNoFile(f.pos, "cannot open directory "+f.shown()+": "+cause(err), allowed)
	case !info.IsDir():
		d.add(f.pos, f.shown()+" is not a directory", allowed)
	}
	return f.path
}

// pemFile reads a file of certificates or keys.
func (d *decoder) pemFile(n *yaml.Node, allowed string) (fileRef, []byte, bool) {
	f, ok := d.fileName(n, allowed)
	if !ok {
		return f, nil, false
	}
	data, err := readSmallFile(f.path)
	if err != nil {
		d.addNoFile(f.pos, "cannot read file "+f.shown()+": "+cause(err), allowed)
		return f, nil, false
	}
	return f, data, true
}

// readSmallFile reads a regular file of at most 4 MiB: a pipe or a device would be waited
// on, or never end.
func readSmallFile(path string) ([]byte, error) {
	const limit = 4 << 20
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case info.Size() > limit:
		return nil, errors.New("larger than 4 MiB")
	}
	return os.ReadFile(path)
}

// cause returns an error's text without the file's name, which may hold a secret.
func cause(err error) string {
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return err.Error()
}

// rootCAs reads a file of root certificates; it returns them and the file's path.
func (d *decoder) rootCAs(n *yaml.Node) (*x509.CertPool, string) {
	const allowed = "a PEM file of CA certificates"
	f, data, ok := d.pemFile(n, allowed)
	if !ok {
		return nil, ""
	}
	certs, err := parseCertificates(data)
	if err != nil {
		d.add(f.pos, "bad certificate file "+f.shown()+": "+err.Error(), allowed)
		return nil, ""
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, f.path
}

// parseCertificates returns the certificates of a PEM file; there is at least one.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(certs)+1, err)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errors.New("no PEM block CERTIFICATE in it")
	}
	return certs, nil
}

// certPair reads a certificate and its key and checks that they belong together.
// A mistake stands at the file that is wrong; at the key where only the pair is.
func (d *decoder) certPair(o object, allowed string) (CertPair, bool) {
	certNode, keyNode := o.get("cert"), o.get("key")
	if certNode == nil {
		d.add(o.pos, `no "cert"`, allowed)
	}
	if keyNode == nil {
		d.add(o.pos, `no "key"`, allowed)
	}
	if certNode == nil || keyNode == nil {
		return CertPair{}, false
	}
	cert, certPEM, certOK := d.pemFile(certNode, "a PEM file with the certificate and its chain")
	key, keyPEM, keyOK := d.pemFile(keyNode, "a PEM file with the certificate's private key")
	if keyOK && writableByOthers(key.path) {
		d.add(key.pos, "every user of this machine may write the key file "+key.shown(), "a key file that only its owner writes: chmod o-w")
	}
	pair := CertPair{Pos: o.pos, Cert: cert.path, Key: key.path}
	if certOK {
		if _, err := parseCertificates(certPEM); err != nil {
			d.add(cert.pos, "bad certificate file "+cert.shown()+": "+err.Error(), "a PEM file with the certificate and its chain")
			certOK = false
		}
	}
	if !certOK || !keyOK {
		return pair, false
	}
	if _, err := tls.X509KeyPair(certPEM, keyPEM); err != nil {
		reason := strings.TrimPrefix(err.Error(), "tls: ")
		d.add(key.pos, "bad key file "+key.shown()+" for certificate "+cert.shown()+": "+reason,
			"a PEM file with the certificate's private key")
		return pair, false
	}
	return pair, true
}

// writableByOthers reports a file that users besides its owner and group may write.
func writableByOthers(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().Perm()&0o002 != 0
}
