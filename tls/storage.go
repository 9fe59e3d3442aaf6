package tls

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"wstunnel/internal/config"
)

// A storage is the folder of what one ACME authority has given: acme/AUTHORITY under tls.storage. Any number of processes
// may share it. For each name there are
//
//	NAME.pem          the key, then the certificate with its chain
//	NAME.json         what failed, and when to try again: see attempt
//	locks/NAME        held (flock) by the process that orders the name
//	challenges/...    answers to challenges under way, for every process that the authority may reach
//
// and account.key, or account-HASH.key for each external account binding. All files are for the owner alone (0600), and
// replaced as a whole.
type storage struct {
	dir string
	log *slog.Logger
}

// newStorage returns the folder of an authority. Two directories have two folders, so that certificates of a staging
// authority are not taken for real ones.
func newStorage(tls config.TLS, log *slog.Logger) storage {
	name := tls.ACME.Directory
	if u, err := url.Parse(name); err == nil {
		name = u.Host + u.Path
	}
	name = strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' || r == '.' || r == '-' {
			return r
		}
		return '-'
	}, strings.ToLower(name))
	return storage{dir: filepath.Join(tls.Storage, "acme", strings.Trim(name, "-.")), log: log}
}

func (s storage) file(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// prepare makes the folder and reports whether it can be written.
func (s storage) prepare() error {
	for _, dir := range []string{s.file("locks"), s.file("challenges")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		probe, err := os.CreateTemp(dir, ".probe.")
		if err != nil {
			return err
		}
		probe.Close()
		os.Remove(probe.Name())
	}
	return nil
}

// certificate returns the certificate of a name, or nil if there is none. An expired one is returned too: it is better
// than none. A file that cannot be used is set aside.
func (s storage) certificate(name string) *tls.Certificate {
	cert, err := s.read(name)
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		s.log.Error("stored certificate cannot be read", "host", name, "error", err)
	} else if err != nil {
		s.setAside(s.file(name+".pem"), err)
	}
	return cert
}

// read is certificate without consequences.
func (s storage) read(name string) (*tls.Certificate, error) {
	data, err := os.ReadFile(s.file(name + ".pem"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	cert, err := parsePair(data)
	if err != nil {
		return nil, err
	}
	if err := cert.Leaf.VerifyHostname(name); err != nil {
		return nil, err
	}
	return cert, nil
}

// setAside gives a corrupt file another name, for somebody to look at.
func (s storage) setAside(file string, reason error) {
	aside := file + ".corrupt"
	err := os.Rename(file, aside)
	s.log.Error("a corrupt file was set aside; what it held is made anew", "file", file, "as", aside, "error", errors.Join(reason, err))
}

// put stores a certificate with its key.
func (s storage) put(name string, cert *tls.Certificate) error {
	data, err := encodePair(cert)
	if err != nil {
		return err
	}
	return replace(s.file(name+".pem"), data)
}

// names lists the names with a certificate (".pem") or a failure (".json").
func (s storage) names(suffix string) ([]string, error) {
	files, err := os.ReadDir(s.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var names []string
	for _, f := range files {
		if name, ok := strings.CutSuffix(f.Name(), suffix); ok && validName(name) {
			names = append(names, name)
		}
	}
	return names, err
}

// An attempt tells of the orders for a name that have failed since the last one that did not. It is what wstunnel
// certs shows, and it outlives the process, so that restarts do not use up what the authority allows.
type attempt struct {
	Failures int       `json:"failures,omitempty"`
	Error    string    `json:"error,omitempty"`
	Last     time.Time `json:"last,omitzero"`
	Next     time.Time `json:"next,omitzero"`
}

// attempt returns what is stored of a name. A file that cannot be read tells of nothing.
func (s storage) attempt(name string) attempt {
	data, err := os.ReadFile(s.file(name + ".json"))
	if err != nil {
		return attempt{}
	}
	a, _ := parseAttempt(data) // the next failure replaces what is corrupt
	return a
}

func parseAttempt(data []byte) (attempt, error) {
	var a attempt
	if err := json.Unmarshal(data, &a); err != nil {
		return attempt{}, err
	}
	if a.Failures < 0 {
		return attempt{}, fmt.Errorf("failures: %d", a.Failures)
	}
	return a, nil
}

// note stores an attempt; one without failures is no file.
func (s storage) note(name string, a attempt) error {
	file := s.file(name + ".json")
	if a.Failures == 0 {
		if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	return replace(file, data)
}

// accountKey returns the key of the account, and makes it if there is none. Of several processes that do so at once one
// succeeds, and all use its key.
func (s storage) accountKey(eab config.EAB) (*ecdsa.PrivateKey, error) {
	name := "account.key"
	if eab.KID != "" {
		// An account is bound once; another binding is another account.
		sum := sha256.Sum256([]byte(eab.KID))
		name = "account-" + hex.EncodeToString(sum[:4]) + ".key"
	}
	file := s.file(name)
	for range 2 {
		data, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) {
			data, err = publish(file, 0o600, newCAKey)
		}
		if err != nil {
			return nil, err
		}
		key, err := parseCAKey(data)
		if ecKey, ok := key.(*ecdsa.PrivateKey); ok {
			return ecKey, nil
		}
		if err == nil {
			err = fmt.Errorf("a key of type %T", key)
		}
		s.setAside(file, err)
	}
	return nil, fmt.Errorf("%s: it is corrupt again", file)
}

// replace writes a file for the owner alone, in one step, and onto the disk.
func replace(file string, data []byte) error {
	temp, err := writeTemp(file, 0o600, data)
	if err != nil {
		return err
	}
	defer os.Remove(temp)
	if err := os.Rename(temp, file); err != nil {
		return err
	}
	return syncDir(filepath.Dir(file))
}

// parsePair reads a key and its certificate with the chain, in PEM and in this order, as autocert writes them. Errors tell
// nothing of the key.
func parsePair(data []byte) (*tls.Certificate, error) {
	block, rest := pem.Decode(data)
	if block == nil || !strings.HasSuffix(block.Type, "PRIVATE KEY") {
		return nil, errors.New("it does not begin with a private key")
	}
	keyPEM := data[:len(data)-len(rest)]
	cert, err := tls.X509KeyPair(rest, keyPEM)
	if err != nil {
		return nil, err
	}
	for block, rest = pem.Decode(rest); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("it holds a PEM block %q", block.Type)
		}
	}
	if strings.TrimSpace(string(rest)) != "" {
		return nil, errors.New("it ends in the middle of a certificate")
	}
	return &cert, nil
}

// encodePair is the reverse of parsePair.
func encodePair(cert *tls.Certificate) ([]byte, error) {
	var data []byte
	switch key := cert.PrivateKey.(type) {
	case *ecdsa.PrivateKey, *rsa.PrivateKey:
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return nil, err
		}
		data = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	default:
		return nil, fmt.Errorf("a private key of type %T", key)
	}
	for _, der := range cert.Certificate {
		data = append(data, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return data, nil
}
