package tls

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	caLifetime = 10 * 365 * 24 * time.Hour
	// backdate keeps certificates valid for clients whose clock is behind ours.
	backdate = time.Hour
)

// A localCA signs the certificates of self-signed sites. It lives in two files of the storage
// directory, ca.pem for everyone and ca.key for us alone, and is never replaced: clients were
// told to trust it.
type localCA struct {
	certFile string
	cert     *x509.Certificate
	key      crypto.Signer
}

// pem returns the certificate as clients import it.
func (ca *localCA) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

// loadLocalCA reads the local CA from dir and makes what is missing, the directory included.
//
// Any number of processes may do so at once, and any of them may die half-way. The key is
// published before the certificate, and each by a link that fails if there is a file already:
// whoever comes second loads what is there, and a key without its certificate is one that nobody
// has used yet. Files that are there but of no use are an error and left alone.
func loadLocalCA(dir string, now time.Time) (*localCA, error) {
	certFile, keyFile := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "ca.key")
	// The certificate is looked for first: once it is there, so is the key.
	_, err := os.Stat(certFile)
	noCert := errors.Is(err, fs.ErrNotExist)
	if err != nil && !noCert {
		return nil, fmt.Errorf("local CA: %w", err)
	}

	keyPEM, err := os.ReadFile(keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		if !noCert {
			return nil, fmt.Errorf("local CA: %s is there but its key %s is not; restore the key, or remove the certificate to have a new CA made", certFile, keyFile)
		}
		keyPEM, err = publish(keyFile, 0o600, newCAKey)
	}
	if err != nil {
		return nil, fmt.Errorf("local CA: %w", err)
	}
	key, err := parseCAKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("local CA: %s: %w", keyFile, err)
	}

	certPEM, err := os.ReadFile(certFile)
	if errors.Is(err, fs.ErrNotExist) {
		certPEM, err = publish(certFile, 0o644, func() ([]byte, error) { return newCACertificate(key, now) })
	}
	if err != nil {
		return nil, fmt.Errorf("local CA: %w", err)
	}
	cert, err := parseCACertificate(certPEM, key, now)
	if err != nil {
		return nil, fmt.Errorf("local CA: %s: %w", certFile, err)
	}
	return &localCA{certFile: certFile, cert: cert, key: key}, nil
}

// newCAKey makes a key, as PEM.
func newCAKey() ([]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// newCACertificate makes the certificate of key, as PEM.
func newCACertificate(key crypto.Signer, now time.Time) ([]byte, error) {
	name := "wstunnel local CA"
	if host, err := os.Hostname(); err == nil && len(name)+len(host)+len(" ()") <= maxCommonName {
		name += " (" + host + ")"
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(caLifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true, // signs leaves, no further authorities
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// maxCommonName is ub-common-name of RFC 5280 appendix A.1.
const maxCommonName = 64

// parseCAKey reads the contents of ca.key. Its errors tell nothing of them.
func parseCAKey(data []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New("no PEM block PRIVATE KEY")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the PEM block PRIVATE KEY holds no key in PKCS #8 form")
	}
	key, ok := parsed.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a key of type %T cannot sign", parsed)
	}
	return key, nil
}

// parseCACertificate reads the contents of ca.pem, which must fit key.
func parseCACertificate(data []byte, key crypto.Signer, now time.Time) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("no PEM block CERTIFICATE")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	switch {
	case !ok || !public.Equal(cert.PublicKey):
		return nil, errors.New("the certificate does not fit the key in ca.key beside it")
	case !cert.BasicConstraintsValid || !cert.IsCA, cert.KeyUsage != 0 && cert.KeyUsage&x509.KeyUsageCertSign == 0:
		return nil, errors.New("not the certificate of a certificate authority")
	case now.After(cert.NotAfter):
		return nil, fmt.Errorf("expired on %s; remove ca.pem and ca.key to have a new CA made", cert.NotAfter.Format(time.DateOnly))
	}
	return cert, nil
}

// publish writes the contents that create makes to file, whole and on disk, unless there is
// such a file by then; it returns what the file holds. Directories are made as needed.
func publish(file string, mode fs.FileMode, create func() ([]byte, error)) ([]byte, error) {
	data, err := create()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	temp, err := writeTemp(file, mode, data)
	if err != nil {
		return nil, err
	}
	defer os.Remove(temp)
	// A link, where a rename would replace what another process has put there.
	if err := os.Link(temp, file); errors.Is(err, fs.ErrExist) {
		return os.ReadFile(file)
	} else if err != nil {
		return nil, err
	}
	return data, syncDir(filepath.Dir(file))
}

// writeTemp writes a temporary file beside file, whole and on disk, and returns its name. Directories are made as needed.
func writeTemp(file string, mode fs.FileMode, data []byte) (string, error) {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	temp, err := os.CreateTemp(dir, "."+filepath.Base(file)+".")
	if err != nil {
		return "", err
	}
	_, err = temp.Write(data)
	if err = errors.Join(err, temp.Chmod(mode), temp.Sync(), temp.Close()); err != nil {
		os.Remove(temp.Name())
		return "", err
	}
	return temp.Name(), nil
}

// syncDir makes a new name in dir survive a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
