package main

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"wstunnel/internal/admin"
	"wstunnel/internal/config"
	"wstunnel/internal/history"
)

const (
	// mostSites is how many sites an overview has.
	mostSites = 100
	// recentPoints are those that the rates of sites are of.
	recentPoints = 30
)

// writeHistory notes what was counted, until ctx is done, as long as somebody can read it: where the configuration has an address.
func (s *service) writeHistory(ctx context.Context) {
	note := func() {
		if s.historyIsRead() {
			s.hour.Note(time.Now(), s.everywhere().Counts())
		}
	}
	note()
	s.server.Every(ctx, history.Step, note)
}

func (s *service) historyIsRead() bool {
	cfg := s.current.Load()
	return cfg != nil && cfg.Admin.Address != ""
}

// passHistory has this process go on with the history of the one that it takes over from.
func (s *service) passHistory() {
	if older := s.predecessors.processes(); len(older) > 0 && s.historyIsRead() {
		if err := older[0].Pass(&s.hour); err != nil {
			s.log.Warn("the last hour is not known", "error", err)
		}
	}
}

// Overview tells how all goes, or some sites.
func (s *service) Overview(among []string) admin.Overview {
	o := admin.Overview{Hour: s.hour.Series(among), Sites: []admin.SiteOverview{}, Upstreams: []admin.Upstream{}, Certificates: []admin.CertificateEnd{}}
	rates := s.hour.Recent(recentPoints)
	for name, c := range s.everywhere().Counts() {
		if among != nil && !slices.Contains(among, name) {
			continue
		}
		o.Tunnels += c.Tunnels
		r := rates[name]
		o.Sites = append(o.Sites, admin.SiteOverview{Site: name, Tunnels: c.Tunnels, Opened: c.Opened, Requests: r.Requests, Messages: r.Messages, Bytes: r.Bytes})
	}
	slices.SortFunc(o.Sites, func(a, b admin.SiteOverview) int {
		return cmp.Or(cmp.Compare(b.Tunnels, a.Tunnels), cmp.Compare(b.Bytes+b.Requests, a.Bytes+a.Requests), cmp.Compare(a.Site, b.Site))
	})
	o.Sites = o.Sites[:min(len(o.Sites), mostSites)]
	cfg := s.current.Load()
	if cfg == nil {
		return o
	}
	if among == nil {
		status := s.Status()
		o.Server = &status
		o.LastReload = &admin.LastReload{Time: time.Unix(s.reloaded.lastGood.Load(), 0), OK: status.ReloadError == ""}
		if status.ReloadError != "" {
			o.LastReload.Errors = strings.Split(status.ReloadError, "\n")
		}
	}
	o.Upstreams = s.Upstreams(among)
	o.Certificates = append(o.Certificates, s.certificateEnds(cfg, among)...)
	return o
}

// certificateEnds are those of all hosts, or of some sites, the first to end first.
func (s *service) certificateEnds(cfg *config.Config, among []string) (all []admin.CertificateEnd) {
	hosts := map[string]bool{}
	for i := range cfg.Sites {
		if slices.Contains(among, cfg.Sites[i].Hosts[0]) {
			for _, h := range cfg.Sites[i].Hosts {
				hosts[h] = true
			}
		}
	}
	for _, e := range s.certificates.Expiries() {
		if among == nil || hosts[e.Name] {
			all = append(all, admin.CertificateEnd{Host: e.Name, Ends: e.NotAfter, Days: int(time.Until(e.NotAfter) / (24 * time.Hour))})
		}
	}
	slices.SortStableFunc(all, func(a, b admin.CertificateEnd) int { return a.Ends.Compare(b.Ends) })
	return all
}
