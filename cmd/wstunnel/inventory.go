package main

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"wstunnel/internal/admin"
	"wstunnel/internal/config"
	"wstunnel/internal/upstream"
	"wstunnel/tls"
)

// Upstreams tells how upstreams do that any of some sites use, or all.
func (s *service) Upstreams(among []string) []admin.Upstream {
	users := sitesUsing(s.current.Load())
	all := []admin.Upstream{}
	for _, u := range s.server.Upstreams() {
		told := admin.Upstream{Name: u.Name, Sites: []string{}, Servers: []admin.Backend{}}
		for _, site := range users[u.Name] {
			if among == nil || slices.Contains(among, site) {
				told.Sites = append(told.Sites, site)
			}
		}
		if among != nil && len(told.Sites) == 0 {
			continue
		}
		if told.Shared = among != nil && len(told.Sites) < len(users[u.Name]); !told.Shared {
			told.Held, told.Queued, told.Retrying = u.Held, u.Queued, u.Retrying
		}
		for i := range u.Servers {
			told.Servers = append(told.Servers, describedBackend(&u.Servers[i], told.Shared))
		}
		all = append(all, told)
	}
	return all
}

// describedBackend tells how a server does, and of one that is shared with the sites of others nothing that they have a part in but whether it is there.
func describedBackend(b *upstream.ServerSnapshot, shared bool) admin.Backend {
	told := admin.Backend{Address: b.Address, State: string(b.State), Reason: b.Reason, LastCheck: b.LastCheck, Weight: b.Weight, Backup: b.Backup}
	if b.Down {
		told.State = "off"
	}
	if shared {
		return told
	}
	told.Active, told.Tunnels, told.Waiting = max(0, b.Active), max(0, b.Tunnels), b.Waiting
	told.Failures, told.Ejections, told.Retries, told.Checks, told.FailedChecks = b.Failures, b.Ejections, b.Retries, b.Checks, b.FailedChecks
	return told
}

// Site returns the first host of the site that has a host.
func (s *service) Site(host string) (first string, ok bool) {
	cfg := s.current.Load()
	if cfg == nil {
		return "", false
	}
	for i := range cfg.Sites {
		if hosts := cfg.Sites[i].Hosts; slices.ContainsFunc(hosts, func(h string) bool { return strings.EqualFold(h, host) }) {
			return hosts[0], true
		}
	}
	return "", false
}

// sitesUsing are the sites that use upstreams, by the names of these.
func sitesUsing(cfg *config.Config) map[string][]string {
	users := map[string][]string{}
	for i := range cfg.Sites {
		site := &cfg.Sites[i]
		note := func(t *config.Target) {
			if t == nil {
				return
			}
			name := t.Upstream
			if name == "" {
				name = t.Servers[0].Network + ":" + t.Servers[0].Address
			}
			if !slices.Contains(users[name], site.Hosts[0]) {
				users[name] = append(users[name], site.Hosts[0])
			}
		}
		for j := range site.Locations {
			l := &site.Locations[j]
			note(l.WebSocket)
			note(l.HTTP)
			if l.PHP != nil {
				note(l.PHP.Target)
			}
			if l.Access.AuthRequest != nil {
				note(l.Access.AuthRequest.Target)
			}
		}
	}
	return users
}

// Certificates tells of the certificates of some sites, or all.
func (s *service) Certificates(among []string) (admin.Certificates, error) {
	cfg := s.current.Load()
	var told admin.Certificates
	if among == nil {
		told.Config = cfg.File
		if path, err := filepath.Abs(cfg.File); err == nil {
			told.Config = path
		}
	}
	list, err := tls.List(cfg, time.Now())
	told.Certificates = describedCertificates(list, among)
	return told, err
}

// describedCertificates are those of some sites, or all.
func describedCertificates(list []tls.HostCertificate, among []string) []admin.Certificate {
	all := []admin.Certificate{}
	for _, c := range list {
		if among == nil || slices.Contains(among, c.Site) {
			all = append(all, admin.Certificate{
				Host: c.Host, Site: c.Site, Issuer: c.Issuer, NotAfter: timeOrNil(c.NotAfter), Renewal: timeOrNil(c.Renewal), Files: c.Files, Error: c.Error,
			})
		}
	}
	return all
}

func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// Config is the configuration that runs, without its secrets.
func (s *service) Config() ([]byte, error) { return s.current.Load().Shown() }
