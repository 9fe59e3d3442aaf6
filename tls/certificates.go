package tls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"time"

	"wstunnel/internal/config"
)

// Certificates answers the handshakes of one configuration. It is safe for concurrent use.
type Certificates struct {
	// exact and wildcards hold the source of each host; a wildcard stands under its name
	// without the leading "*.". The source is nil where the site has `tls: off`.
	exact, wildcards map[string]source
	// fallback is the source of the site "_"; named says that there is such a site.
	fallback source
	named    bool
	// only is the source of the one site with TLS, nil if there are more.
	only source

	config *tls.Config
	ca     *localCA
}

// A source yields the certificate of a site for one handshake.
type source interface {
	// certificate answers a client that asks for name, which is lower case and empty when the
	// client named none. It may be called concurrently, and what it returns is shared. Nil
	// without an error means that the source has no certificate for that name.
	certificate(hello *tls.ClientHelloInfo, name string) (*tls.Certificate, error)
}

// New loads the certificates of all sites of cfg, and makes the local CA in cfg.TLS.Storage
// if a site is self-signed and there is none yet. It reports every site that cannot be served,
// each error beginning with file:line:column.
//
// Later events (a certificate reloaded, or not reloaded because its files do not fit) go to
// logger. There is nothing to close.
func New(cfg *config.Config, logger *slog.Logger) (*Certificates, error) {
	return newCertificates(cfg, logger, time.Now)
}

// newCertificates is New with a clock.
func newCertificates(cfg *config.Config, logger *slog.Logger, now func() time.Time) (*Certificates, error) {
	c := &Certificates{exact: map[string]source{}, wildcards: map[string]source{}}
	b := builder{storage: cfg.TLS.Storage, logger: logger, now: now, pairs: map[[2]string]*filePair{}}
	var errs []error
	withTLS := 0
	for i := range cfg.Sites {
		site := &cfg.Sites[i]
		src, err := b.source(site.TLS)
		if err != nil {
			pos := site.TLS.Pos
			if pos.Line == 0 {
				pos = site.Pos
			}
			errs = append(errs, fmt.Errorf("%s:%d:%d: site %s: %w", cfg.File, pos.Line, pos.Col, site.Hosts[0], err))
			continue
		}
		c.add(site.Hosts, src)
		if src != nil {
			withTLS++
			c.only = src
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if withTLS != 1 {
		c.only = nil
	}
	if b.leaves != nil {
		c.ca = b.leaves.ca
	}
	c.config = serverConfig(c.get)
	return c, nil
}

// Config returns the server configuration of TLS listeners: TLS 1.2 or later, HTTP/2 and
// HTTP/1.1 by ALPN. It is the same one at each call, so that listeners share the keys of
// session tickets, and must not be modified.
func (c *Certificates) Config() *tls.Config { return c.config }

// CACertificate returns the certificate of the local CA as PEM, for clients that are to trust
// it. It is nil when no site is self-signed.
func (c *Certificates) CACertificate() []byte {
	if c.ca == nil {
		return nil
	}
	return c.ca.pem()
}

// serverConfig is what crypto/tls needs, apart from the certificates.
func serverConfig(get func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{
		GetCertificate: get,
		NextProtos:     []string{"h2", "http/1.1"},
		MinVersion:     tls.VersionTLS12,
		// For TLS 1.2 only; those of 1.3 are not configurable. No CBC and no static RSA:
		// RFC 9325 section 4.2.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
}

// get is the GetCertificate of the server configuration.
//
// For a name that no site has it returns nil and no error: crypto/tls answers that, and only
// that, with the alert unrecognized_name (RFC 6066 section 3); any error of ours would become
// internal_error.
func (c *Certificates) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	name := strings.ToLower(hello.ServerName)
	if _, err := netip.ParseAddr(name); err == nil {
		name = "" // an IP address is no server name (RFC 6066 section 3), but some clients send it
	}
	src := c.lookup(name)
	if src == nil {
		return nil, nil
	}
	return src.certificate(hello, name)
}

// maxName is the length of the longest DNS name as text, without the trailing dot (RFC 1035
// section 2.3.4).
const maxName = 253

// lookup returns the source for name: of the site with that host, else with the longest
// wildcard, else "_". Without a name it is "_" or the only site with TLS. It returns nil where
// that site is not served over TLS, or there is none.
func (c *Certificates) lookup(name string) source {
	if name == "" {
		if c.fallback != nil {
			return c.fallback
		}
		return c.only
	}
	if len(name) > maxName {
		return nil
	}
	if src, ok := c.exact[name]; ok {
		return src
	}
	for _, rest, ok := strings.Cut(name, "."); ok; _, rest, ok = strings.Cut(rest, ".") {
		if src, ok := c.wildcards[rest]; ok {
			return src
		}
	}
	return c.fallback
}

// add enters src for a site's hosts. Of two sites with one host, the first has it.
func (c *Certificates) add(hosts []string, src source) {
	for _, host := range hosts {
		if host == "_" {
			if !c.named {
				c.fallback, c.named = src, true
			}
			continue
		}
		table := c.exact
		if suffix, ok := strings.CutPrefix(host, "*."); ok {
			host, table = suffix, c.wildcards
		}
		if _, taken := table[host]; !taken {
			table[host] = src
		}
	}
}

// A builder makes the sources of a configuration and shares them between sites.
type builder struct {
	storage string
	logger  *slog.Logger
	now     func() time.Time

	pairs    map[[2]string]*filePair
	leaves   *leaves
	caFailed bool
}

// source returns the source of a site, nil for a site without TLS.
func (b *builder) source(site config.SiteTLS) (source, error) {
	switch site.Mode {
	case config.TLSOff:
		return nil, nil
	case config.TLSAuto:
		return nil, errors.New("tls: auto is not built yet; use self-signed or {cert, key}")
	case config.TLSSelfSigned:
		return b.selfSigned()
	case config.TLSFiles:
		return b.files(site.Cert, site.Key)
	}
	return nil, fmt.Errorf("tls: unknown mode %d", site.Mode)
}

// selfSigned returns the source that all self-signed sites share.
func (b *builder) selfSigned() (source, error) {
	if b.leaves != nil {
		return b.leaves, nil
	}
	if b.caFailed {
		return nil, errors.New("tls: self-signed: no local CA, as said above")
	}
	ca, err := loadLocalCA(b.storage, b.now())
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

// files returns the source that all sites with this pair of files share.
func (b *builder) files(cert, key string) (source, error) {
	if p, ok := b.pairs[[2]string{cert, key}]; ok {
		return p, nil
	}
	p, err := newFilePair(cert, key, b.logger, b.now)
	if err != nil {
		return nil, err
	}
	b.pairs[[2]string{cert, key}] = p
	return p, nil
}
