package rewrite

import (
	"fmt"
	"slices"
	"strings"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/host"
)

// mayNameURL are the fields of a response that urlMapping knows.
var mayNameURL = head.SetOf(head.Location, head.ContentLocation, head.Refresh, head.SetCookie)

// urlMapping maps a backend's own URLs back to the public ones.
type urlMapping struct {
	hosts                   []string // the backend's authorities, canonical
	publicScheme            string
	publicHost              string
	backendPath, publicPath string // without trailing slash
}

// NewURLMapping returns nil where they are to stay as they are.
func NewURLMapping(in *Inbound, l *config.Location, target *config.Target) *urlMapping {
	if !l.RewriteResponses {
		return nil
	}
	m := &urlMapping{publicScheme: in.PublicScheme(), publicHost: in.PublicHost()}
	if target.Path != "" && l.Match.Path != "" {
		m.backendPath = strings.TrimSuffix(target.Path, "/")
		m.publicPath = strings.TrimSuffix(l.Match.Path, "/")
	}
	scheme := "http"
	if target.TLS {
		scheme = "https"
	}
	m.hosts = append(m.hosts, host.Authority(scheme, target.Host))
	for _, server := range target.Servers {
		if server.Network == "tcp" {
			m.hosts = append(m.hosts, host.Authority(scheme, server.Address))
		}
	}
	if !l.BackendHost && m.backendPath != m.publicPath {
		m.hosts = append(m.hosts, host.Authority(scheme, in.Request.Host), host.Authority(m.publicScheme, m.publicHost))
	}
	return m
}

// String says what becomes what.
func (m *urlMapping) String() string {
	return fmt.Sprintf("%s/ of %s becomes %s://%s%s/", m.backendPath, strings.Join(slices.Compact(slices.Sorted(slices.Values(m.hosts))), ", "),
		m.publicScheme, m.publicHost, m.publicPath)
}

// field returns a field's value as it goes on. Of several Locations none is known to be right, so that they stay as they are.
func (m *urlMapping) field(f *head.Field, fields head.Fields) string {
	switch f.ID {
	case head.Location, head.ContentLocation:
		if fields.Count(f.ID) == 1 {
			return m.url(f.Value)
		}
	case head.Refresh:
		if fields.Count(f.ID) == 1 {
			return m.refresh(f.Value)
		}
	case head.SetCookie:
		return m.cookie(f.Value)
	}
	return f.Value
}

// url maps an absolute URL of the backend (ws counts as http), or a path. Anything else is returned as it is.
func (m *urlMapping) url(u string) string {
	if strings.HasPrefix(u, "/") && !strings.HasPrefix(u, "//") {
		if mapped, ok := m.path(u); ok {
			return mapped
		}
		return u
	}
	scheme, rest, ok := strings.Cut(u, "://")
	if !ok {
		return u
	}
	switch strings.ToLower(scheme) {
	case "http", "https", "ws", "wss":
	default:
		return u
	}
	authority, path := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	canonical := host.Authority(httpScheme(scheme), authority)
	if !slices.Contains(m.hosts, canonical) {
		return u
	}
	if canonical == host.Authority(m.publicScheme, m.publicHost) && beginsPath(path, m.publicPath) && m.publicPath != "" {
		return u // the backend knows its public URL
	}
	if mapped, ok := m.path(path); ok {
		return m.publicScheme + "://" + m.publicHost + mapped
	}
	return u
}

// path maps a path, with whatever query follows it, where it begins with the backend's path on a segment boundary. One that begins with the public path, where that
// is the longer one, is public already: the backend was told it.
func (m *urlMapping) path(p string) (string, bool) {
	if len(m.publicPath) > len(m.backendPath) && beginsPath(p, m.publicPath) {
		return p, true
	}
	if !beginsPath(p, m.backendPath) {
		return p, false
	}
	rest := p[len(m.backendPath):]
	if m.publicPath == "" && !strings.HasPrefix(rest, "/") {
		rest = "/" + rest
	}
	return m.publicPath + rest, true
}

// beginsPath reports whether p, with whatever query follows it, begins with prefix on a segment boundary.
func beginsPath(p, prefix string) bool {
	rest, ok := strings.CutPrefix(p, prefix)
	return ok && (rest == "" || strings.ContainsRune("/?#", rune(rest[0])))
}

// refresh maps the URL of a Refresh header: `5; url=/login`.
func (m *urlMapping) refresh(v string) string {
	i := strings.Index(strings.ToLower(v), "url=")
	if i < 0 {
		return v
	}
	i += len("url=")
	return v[:i] + m.url(v[i:])
}

// cookie maps the Path and Domain of a Set-Cookie header.
func (m *urlMapping) cookie(v string) string {
	parts := strings.Split(v, ";")
	for i, part := range parts[1:] {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch strings.ToLower(name) {
		case "path":
			if mapped, ok := m.path(value); ok {
				if value == m.backendPath+"/" && m.publicPath != "" {
					mapped = m.publicPath // without a slash it covers the location itself too
				}
				parts[i+1] = " " + name + "=" + mapped
			}
		case "domain":
			if m.ownDomain(value) {
				own, _ := host.Split(m.publicHost)
				parts[i+1] = " " + name + "=" + own
			}
		}
	}
	return strings.Join(parts, ";")
}

func (m *urlMapping) ownDomain(domain string) bool {
	domain = host.Canonical(strings.TrimPrefix(domain, "."))
	return slices.ContainsFunc(m.hosts, func(authority string) bool {
		own, _ := host.Split(authority)
		return own == domain
	})
}
