package tls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"

	"wstunnel/internal/config"
	"wstunnel/internal/host"
)

// Certificates answers the handshakes of one configuration. It is safe for concurrent use.
type Certificates struct {
	manager *Manager

	// sites holds the site of each host; nil where it has `tls: off`.
	sites host.Table[*siteTLS]
	// only is the one site with TLS, nil if there are more.
	only *siteTLS

	pairs map[[2]string]*filePair // by certificate file and key file
	// fromFiles are the sites whose source are filePairs.
	fromFiles []*siteTLS

	config    *tls.Config
	challenge *tls.Config // for the ACME authority's TLS-ALPN-01; nil if nothing is ordered
	ca        *localCA

	authority *authority // nil if nothing is ordered
	auto      []string   // the hosts whose certificates are ordered
	onDemand  bool       // there are more, that clients ask for
}

// A siteTLS is what the handshakes for one site need.
type siteTLS struct {
	site       *config.Site
	source     source
	asker      *asker      // of a site whose certificates are ordered on demand
	auto       bool        // certificates are ordered
	config     *tls.Config // nil for that of the listener
	clientCAs  string      // the file of roots for clients' certificates
	minVersion uint16
}

// A source yields the certificate of a site for one handshake.
type source interface {
	// certificate answers a client that asks for name, which is lower case and empty when the
	// client named none. It may be called concurrently, and what it returns is shared. Nil
	// without an error means that the source has no certificate for that name.
	certificate(hello *tls.ClientHelloInfo, name string) (*tls.Certificate, error)
}

// newCertificates loads the certificates of all sites but those that are ordered.
func newCertificates(m *Manager, cfg *config.Config) (*Certificates, error) {
	c := &Certificates{manager: m, pairs: map[[2]string]*filePair{}}
	b := builder{certificates: c, manager: m, cfg: cfg, logger: m.log, now: m.now}
	var errs []error
	withTLS := 0
	for i := range cfg.Sites {
		site := &cfg.Sites[i]
		s, err := b.site(site)
		if err != nil {
			pos := site.TLS.Pos
			if pos.Line == 0 {
				pos = site.Pos
			}
			errs = append(errs, fmt.Errorf("%s: site %s: %w", cfg.Place(pos), site.Hosts[0], err))
			continue
		}
		c.add(site.Hosts, s)
		if s == nil {
			continue
		}
		withTLS++
		c.only = s
		if _, ok := s.source.(filePairs); ok {
			c.fromFiles = append(c.fromFiles, s)
		}
		c.onDemand = c.onDemand || s.asker != nil
		if s.auto && s.asker == nil {
			c.auto = append(c.auto, slices.DeleteFunc(slices.Clone(site.Hosts), func(host string) bool { return host == "_" })...)
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
	c.authority = b.authority
	c.settle()
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

// lookup returns the site for name: the site with that host, else with the longest
// wildcard, else "_". Without a name it is "_" or the only site with TLS. It returns nil where
// that site is not served over TLS, or there is none.
func (c *Certificates) lookup(name string) *siteTLS {
	s, _ := c.sites.Find(name)
	if name == "" && s == nil {
		return c.only
	}
	return s
}

// add enters s for a site's hosts. Of two sites with one host, the first has it.
func (c *Certificates) add(hosts []string, s *siteTLS) {
	for _, name := range hosts {
		c.sites.Add(name, s)
	}
}
