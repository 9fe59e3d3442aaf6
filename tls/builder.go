package tls

import (
	"crypto/ecdsa"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"wstunnel/internal/config"
)

// A builder makes the sites of a configuration and lets them share what they have in common.
type builder struct {
	certificates *Certificates // the sites are for
	manager      *Manager
	cfg          *config.Config
	logger       *slog.Logger
	now          func() time.Time

	leaves    *leaves
	caFailed  bool
	authority *authority
	noACME    bool
}

// site returns what the handshakes for a site need, nil for a site without TLS.
func (b *builder) site(cfg *config.Site) (*siteTLS, error) {
	s := &siteTLS{site: cfg, clientCAs: cfg.ClientCA, minVersion: max(cfg.MinVersion, tls.VersionTLS12)}
	var err error
	switch cfg.TLS.Mode {
	case config.TLSOff:
		return nil, nil
	case config.TLSAuto:
		s.auto = true
		if cfg.TLS.OnDemand {
			s.asker = b.manager.asker(cfg.TLS.Ask)
		}
		s.source, err = b.auto(cfg, s.asker)
	case config.TLSSelfSigned:
		s.source, err = b.selfSigned()
	case config.TLSFiles:
		s.source, err = b.files(cfg.TLS.Pairs)
	default:
		err = fmt.Errorf("tls: unknown mode %d", cfg.TLS.Mode)
	}
	if err != nil {
		return nil, err
	}
	if s.minVersion > tls.VersionTLS12 || cfg.ClientCAs != nil {
		s.config = b.certificates.serverConfig(func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.source.certificate(hello, serverName(hello.ServerName))
		})
		s.config.MinVersion = s.minVersion
	}
	if cfg.ClientCAs != nil {
		s.config.ClientCAs, s.config.ClientAuth = cfg.ClientCAs, tls.RequireAndVerifyClientCert
		// Each connection shows its certificate: a session would carry over what was verified for another site or earlier.
		s.config.SessionTicketsDisabled = true
	}
	return s, nil
}

// auto returns the source of a site whose certificates are ordered.
func (b *builder) auto(cfg *config.Site, asker *asker) (source, error) {
	if b.noACME {
		return nil, errors.New("tls: auto: no storage or authority, as said above")
	}
	if b.authority == nil {
		storage := newStorage(b.cfg.TLS, b.logger)
		authority, err := newAuthority(b.cfg, storage)
		if err == nil {
			err = b.prepare(storage)
		}
		if err != nil {
			b.noACME = true
			return nil, fmt.Errorf("tls: auto: %w", err)
		}
		b.authority = authority
	}
	first := ""
	if i := slices.IndexFunc(cfg.Hosts, issuable); i >= 0 {
		first = cfg.Hosts[i]
	}
	return &autoSource{manager: b.manager, first: first, asker: asker, cfg: b.cfg}, nil
}

// prepare makes a storage ready to be written. One that cannot be is a mistake to be told of at once, unless there are
// certificates in it, which can be served until the disk is mended.
func (b *builder) prepare(s storage) error {
	err := s.prepare()
	if stored, _ := s.names(".pem"); err != nil && len(stored) > 0 {
		b.logger.Error("the storage of certificates cannot be written: nothing can be renewed", "directory", s.dir, "error", err)
		return nil
	}
	return err
}

// selfSigned returns the source that all self-signed sites share.
func (b *builder) selfSigned() (source, error) {
	if b.leaves != nil {
		return b.leaves, nil
	}
	if b.caFailed {
		return nil, errors.New("tls: self-signed: no local CA, as said above")
	}
	ca, err := loadLocalCA(b.cfg.TLS.Storage, b.now())
	if err != nil {
		b.caFailed = true
		return nil, fmt.Errorf("tls: self-signed: %w", err)
	}
	if left := ca.cert.NotAfter.Sub(b.now()); left < leafLifetime {
		b.logger.Warn("the local CA expires soon; remove both its files to have a new one made at the next start",
			"file", ca.certFile, "not_after", ca.cert.NotAfter)
	}
	b.leaves = newLeaves(ca, b.now)
	return b.leaves, nil
}

// files returns the source of a site with certificates of its own. Sites with the same files share what was read, and so do
// configurations: files that have become unusable meanwhile are no reason to lose what is served.
func (b *builder) files(pairs []config.CertPair) (source, error) {
	var all filePairs
	for _, pair := range pairs {
		key := [2]string{pair.Cert, pair.Key}
		p := b.certificates.pairs[key]
		if current := b.manager.current.Load(); p == nil && current != nil && current.pairs[key] != nil {
			p = current.pairs[key]
			p.reload()
		}
		if p == nil {
			var err error
			if p, err = newFilePair(pair.Cert, pair.Key, b.logger, b.now); err != nil {
				return nil, err
			}
		}
		b.certificates.pairs[key] = p
		all = append(all, p)
	}
	return all, nil
}

// filePairs is the source of a site with certificates of its own. There is at least one.
type filePairs []*filePair

// certificate returns the first certificate that suits the client: its name, its algorithms, the better rank. If none does for
// its name, that is the operator's affair, and only the algorithms count.
func (f filePairs) certificate(hello *tls.ClientHelloInfo, name string) (*tls.Certificate, error) {
	certs := make([]*tls.Certificate, len(f))
	for i, pair := range f {
		certs[i] = pair.latest()
	}
	if len(certs) == 1 {
		return certs[0], nil
	}
	sortByRank(certs, name)
	nameless := *hello
	nameless.ServerName = ""
	for _, hello := range []*tls.ClientHelloInfo{hello, &nameless} {
		for _, cert := range certs {
			if hello.SupportsCertificate(cert) == nil {
				return cert, nil
			}
		}
	}
	return certs[0], nil
}

// peek returns the certificate that most clients that ask for name are given.
func (f filePairs) peek(name string) *tls.Certificate {
	certs := make([]*tls.Certificate, len(f))
	for i, pair := range f {
		certs[i] = pair.current.Load()
	}
	sortByRank(certs, name)
	for _, cert := range certs {
		if cert.Leaf.VerifyHostname(name) == nil {
			return cert
		}
	}
	return certs[0]
}

// sortByRank puts the certificates that name the name itself before those that cover it by a wildcard, and among these the
// ones that are cheaper to use first.
func sortByRank(certs []*tls.Certificate, name string) {
	rank := func(cert *tls.Certificate) int {
		n := 0
		if !slices.ContainsFunc(cert.Leaf.DNSNames, func(own string) bool { return strings.EqualFold(own, name) }) {
			n += 2
		}
		if _, ok := cert.PrivateKey.(*ecdsa.PrivateKey); !ok {
			n++
		}
		return n
	}
	slices.SortStableFunc(certs, func(a, b *tls.Certificate) int { return rank(a) - rank(b) })
}
