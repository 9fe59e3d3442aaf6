package tls

import (
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"wstunnel/internal/config"
)

// HostCertificate tells of the certificate of one host.
type HostCertificate struct {
	Host     string
	Site     string    // the first host of the site
	Issuer   string    // empty: there is no certificate
	NotAfter time.Time // zero: there is no certificate
	Renewal  time.Time // when it is ordered or renewed; zero: now, or whenever the owner of the files does
	Files    bool      // it is renewed by whoever writes its files
	Error    string    // why the last order, or reading it, failed
}

// List tells of the certificates of a configuration's sites, in the order of the file; those that are ordered on demand, or that
// a failure keeps from being ordered at the time, follow their site by name. It reads what is on disk, where a running server
// keeps what it knows, and changes nothing. Self-signed sites are left out, since their certificates are made for each name asked.
func List(cfg *config.Config, now time.Time) ([]HostCertificate, error) {
	s := newStorage(cfg.TLS, slog.New(slog.DiscardHandler))
	known, err := s.names(".pem")
	if err != nil {
		return nil, err
	}
	failed, err := s.names(".json")
	if err != nil {
		return nil, err
	}
	for _, name := range failed {
		if s.attempt(name).Next.After(now) {
			known = append(known, name)
		}
	}
	slices.Sort(known)
	var list []HostCertificate
	listed := map[string]bool{}
	add := func(host string, site *config.Site) {
		if !listed[host] {
			listed[host] = true
			told := s.tell(host)
			told.Site = site.Hosts[0]
			list = append(list, told)
		}
	}
	table := hostTable(cfg)
	for i := range cfg.Sites {
		site := &cfg.Sites[i]
		switch {
		case site.TLS.Mode == config.TLSFiles:
			for _, pair := range site.TLS.Pairs {
				list = append(list, tellPair(site.Hosts[0], pair))
			}
		case site.TLS.OnDemand:
			for _, name := range known {
				if s := table.lookup(name); s != nil && s.site == site {
					add(name, site)
				}
			}
		case site.TLS.Mode == config.TLSAuto:
			for _, host := range site.Hosts {
				if host != "_" {
					add(host, site)
				}
			}
		}
	}
	return list, nil
}

// tell tells of an ordered certificate.
func (s storage) tell(name string) HostCertificate {
	h := HostCertificate{Host: name}
	cert, err := s.read(name)
	switch {
	case err != nil:
		h.Error = err.Error()
	case cert != nil:
		h.Issuer, h.NotAfter, h.Renewal = issuerOf(cert), cert.Leaf.NotAfter, renewal(cert)
	}
	if a := s.attempt(name); a.Failures > 0 {
		h.Renewal, h.Error = a.Next, a.Error
	}
	return h
}

func tellPair(host string, pair config.CertPair) HostCertificate {
	h := HostCertificate{Host: host, Site: host, Files: true}
	cert, err := readPair(pair.Cert, pair.Key)
	if err != nil {
		h.Error = err.Error()
		return h
	}
	h.Issuer, h.NotAfter = issuerOf(cert), cert.Leaf.NotAfter
	return h
}

// Check reports the certificate files of a configuration that no client would accept at a time: those that have expired or are
// not valid yet. Each error begins with file:line:column. A server serves them all the same, with a warning: a start must
// not fail for one site of many.
func Check(cfg *config.Config, now time.Time) error {
	var errs []error
	for i := range cfg.Sites {
		for _, pair := range cfg.Sites[i].TLS.Pairs {
			cert, err := readPair(pair.Cert, pair.Key)
			if err == nil {
				err = valid(cert, now)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: certificate file %s: %w", cfg.Place(pair.Pos), pair.Cert, err))
			}
		}
	}
	return errors.Join(errs...)
}

func valid(cert *tls.Certificate, now time.Time) error {
	switch {
	case now.After(cert.Leaf.NotAfter):
		return fmt.Errorf("it expired on %s; clients refuse it", cert.Leaf.NotAfter.UTC().Format(time.DateTime+" MST"))
	case now.Before(cert.Leaf.NotBefore):
		return fmt.Errorf("it is not valid before %s; clients refuse it, or the clock is wrong", cert.Leaf.NotBefore.UTC().Format(time.DateTime+" MST"))
	}
	return nil
}

// hostTable makes the table of hosts alone.
func hostTable(cfg *config.Config) *Certificates {
	c := &Certificates{}
	for i := range cfg.Sites {
		c.add(cfg.Sites[i].Hosts, &siteTLS{site: &cfg.Sites[i]})
	}
	return c
}
