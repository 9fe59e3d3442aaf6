package tls

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// checkInterval is how long a pair of files is trusted to be unchanged.
const checkInterval = 5 * time.Second

// A filePair serves the certificate of two PEM files and follows their changes. The first
// handshake after checkInterval looks at the files, so that even after a quiet month it is
// answered with the certificate of today; handshakes beside it do not wait for that look.
type filePair struct {
	certFile, keyFile string
	logger            *slog.Logger
	now               func() time.Time

	current atomic.Pointer[tls.Certificate]

	mu      sync.Mutex // held by the handshake that looks at the files
	checked time.Time
	loaded  pairStamp // what the files were when current was read
	// failed and failure tell of the last look that found files of no use, so that each
	// state of the files is logged once. Empty when the last look was good.
	failed  pairStamp
	failure string
}

// newFilePair reads both files.
func newFilePair(certFile, keyFile string, logger *slog.Logger, now func() time.Time) (*filePair, error) {
	p := &filePair{certFile: certFile, keyFile: keyFile, logger: logger, now: now}
	p.loaded, p.checked = p.stat(), now()
	cert, err := readPair(p.certFile, p.keyFile)
	if err != nil {
		return nil, err
	}
	p.current.Store(cert)
	p.warnIfExpired(cert)
	if mode := permissions(keyFile); mode&0o004 != 0 {
		p.logger.Warn("every user of this machine may read a key file; chmod o-r", "key", keyFile, "mode", fmt.Sprintf("%04o", mode))
	}
	return p, nil
}

// latest returns the current certificate, after a look at the files if it is time.
func (p *filePair) latest() *tls.Certificate {
	if p.mu.TryLock() {
		defer p.mu.Unlock()
		if now := p.now(); now.Sub(p.checked) >= checkInterval {
			p.checked = now
			p.refresh()
		}
	}
	return p.current.Load()
}

// reload looks at the files at once, for a configuration that goes on with them.
func (p *filePair) reload() {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.current.Load()
	p.checked = p.now()
	p.refresh()
	if p.current.Load() == before {
		p.warnIfExpired(before)
	}
}

// refresh reads the files again if they have changed. The caller holds mu. A failed read is
// tried again at each look even if nothing has changed since: chmod shows in no stamp, and
// a certificate that clients would refuse, in place of one that they accept, may become valid.
func (p *filePair) refresh() {
	found := p.stat() // before reading: what is written meanwhile shows at the next look
	if found.equal(p.loaded) {
		p.failure = ""
		return
	}
	cert, err := readPair(p.certFile, p.keyFile)
	if err == nil && valid(p.current.Load(), p.checked) == nil {
		if err = valid(cert, p.checked); err != nil {
			err = fmt.Errorf("certificate file %s: %w", p.certFile, err)
		}
	}
	if err != nil {
		if err.Error() != p.failure || !found.equal(p.failed) {
			p.logger.Error("certificate not reloaded, the old one stays", "error", err)
			p.failure, p.failed = err.Error(), found
		}
		return
	}
	p.current.Store(cert)
	p.loaded, p.failure = found, ""
	p.logger.Info("certificate reloaded", "cert", p.certFile, "not_after", cert.Leaf.NotAfter)
	p.warnIfExpired(cert)
}

// readPair loads a certificate and its key.
func readPair(certFile, keyFile string) (*tls.Certificate, error) {
	certPEM, err := os.ReadFile(certFile)
	if err != nil {
		return nil, fmt.Errorf("certificate file: %w", err)
	}
	keyPEM, err := os.ReadFile(keyFile)
	if err != nil {
		return nil, fmt.Errorf("key file: %w", err)
	}
	if mode := permissions(keyFile); mode&0o002 != 0 {
		return nil, fmt.Errorf("key file %s: every user of this machine may write it (mode %04o); chmod o-w", keyFile, mode)
	}
	if encrypted(keyPEM) {
		return nil, fmt.Errorf("key file %s: the key is encrypted, and nobody is there to ask for its passphrase; store it decrypted", keyFile)
	}
	cert, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		return nil, fmt.Errorf("certificate file %s with key file %s: %w", certFile, keyFile, err)
	}
	// A half-written chain would parse as a shorter one.
	if bytes.Count(certPEM, []byte("-----BEGIN CERTIFICATE-----")) != len(cert.Certificate) {
		return nil, fmt.Errorf("certificate file %s: it holds an unreadable or unfinished certificate", certFile)
	}
	return &cert, nil
}

// permissions returns those of a file, 0 where they can't be had.
func permissions(file string) fs.FileMode {
	info, err := os.Stat(file)
	if err != nil {
		return 0
	}
	return info.Mode().Perm()
}

// encrypted says whether a PEM file holds an encrypted key, in PKCS #8 or in the old form.
func encrypted(keyPEM []byte) bool {
	return bytes.Contains(keyPEM, []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----")) ||
		bytes.Contains(keyPEM, []byte("Proc-Type: 4,ENCRYPTED"))
}

func (p *filePair) warnIfExpired(cert *tls.Certificate) {
	if p.now().After(cert.Leaf.NotAfter) {
		p.logger.Warn("certificate has expired; clients will refuse it", "cert", p.certFile, "not_after", cert.Leaf.NotAfter)
	}
}

// stat looks at both files, through symbolic links.
func (p *filePair) stat() pairStamp {
	return pairStamp{cert: stampOf(p.certFile), key: stampOf(p.keyFile)}
}

// A pairStamp tells two states of a pair of files apart.
type pairStamp struct{ cert, key stamp }

func (s pairStamp) equal(o pairStamp) bool { return s.cert.equal(o.cert) && s.key.equal(o.key) }

// A stamp is one state of one file.
type stamp struct {
	info fs.FileInfo // nil if the file could not be looked at
	err  error
}

func stampOf(file string) stamp {
	info, err := os.Stat(file)
	return stamp{info, err}
}

func (s stamp) equal(o stamp) bool {
	if s.info == nil || o.info == nil {
		return s.info == o.info && errors.Is(s.err, fs.ErrNotExist) == errors.Is(o.err, fs.ErrNotExist)
	}
	return s.info.ModTime().Equal(o.info.ModTime()) && s.info.Size() == o.info.Size() && os.SameFile(s.info, o.info)
}
