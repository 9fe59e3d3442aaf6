package migrate

import (
	"strings"
)

// server is a server block of nginx or a virtual host of Apache, as we would say it.
type server struct {
	Place
	names   []string // as a site's hosts
	listens []listen
	// opts are the keys of a site, without hosts, tls and locations.
	opts  *mapping
	certs []certPair
	// redirectsAll says that it does nothing but lead to https, for all names that it answers.
	redirectsAll bool
	// leadsTo is the host that it leads to if it is always the same, by the only one of its locations; empty for the host that was asked for.
	leadsTo string
	// redirects says that plain HTTP leads to https, whatever else is said.
	redirects bool
	locations []*location
	notes     []Note
}

type listen struct {
	address string // of the listener as we write it, such as ":80"
	tls     bool
	proxied bool // with a PROXY header
	// standard says that it answers hosts that no other does there.
	standard bool
}

type certPair struct{ cert, key string }

func (s *server) note(n Note) { s.notes = append(s.notes, n) }

// secure reports whether any of its listeners speaks TLS.
func (s *server) secure() bool {
	for _, l := range s.listens {
		if l.tls {
			return true
		}
	}
	return false
}

// plain reports whether any of its listeners speaks plain HTTP.
func (s *server) plain() bool {
	for _, l := range s.listens {
		if !l.tls {
			return true
		}
	}
	return false
}

// location is one of ours.
type location struct {
	Place
	path string // as it is written, with its modifier
	// source is how the place it came from calls itself, such as `location /ws`.
	source string
	// under is the prefix that a regex is put together with, if it is.
	under string
	opts  *mapping
	notes []Note
}

func (l *location) note(n Note) { l.notes = append(l.notes, n) }

// isPrefix reports a path without modifier.
func (l *location) isPrefix() bool { return strings.HasPrefix(l.path, "/") }

// isRegex reports a path that is a regex.
func (l *location) isRegex() bool { return strings.HasPrefix(l.path, "~") }

// literal is the path of a location that is no regex, without its modifier.
func (l *location) literal() string {
	return strings.TrimLeft(strings.TrimPrefix(strings.TrimPrefix(l.path, "^~"), "="), " ")
}

// same reports whether two locations do the same, whereever they come from.
func (l *location) same(o *location) bool {
	return l.path == o.path && l.opts.flow() == o.opts.flow()
}

// site is one of ours.
type site struct {
	hosts     []string
	places    []Place
	opts      *mapping
	certs     []certPair
	tls       bool
	locations []*location
	notes     []Note
}

// upstream is one of ours.
type upstream struct {
	Place
	name  string
	opts  *mapping
	notes []Note
	// single is the only server where nothing is said of it but its address; otherwise empty.
	single string
	used   bool
}

// document is a whole configuration.
type document struct {
	file      string // the main one
	listens   []listen
	opts      *mapping
	sites     []*site
	upstreams []*upstream
	notes     []Note
}

// The order of keys in what is written.
var (
	fileOrder = []string{"trusted_proxies", "timeouts", "limits", "access_log", "headers", "allow", "deny", "max_body", "compress"}
	siteOrder = []string{
		"hosts", "tls", "redirect_https", "hsts", "min_version", "client_ca", "access_log", "redirect", "respond", "proxy", "php", "root", "static",
		"index", "front_controller", "params", "deny_scripts_in", "host", "headers", "allow", "deny", "basic_auth", "satisfy", "auth_request",
		"max_body", "compress", "error_pages", "intercept_errors", "expires", "rewrite", "locations",
	}
	locationOrder = []string{
		"path", "when", "redirect", "respond", "rewrite", "proxy", "websocket", "http", "php", "root", "static", "index", "listing", "try_files",
		"front_controller", "params", "host", "rewrite_responses", "tls_verify", "tls_ca", "timeouts", "headers", "allow", "deny", "basic_auth", "satisfy",
		"auth_request", "max_body", "buffer", "compress", "error_pages", "intercept_errors", "expires", "serve_sources", "access_log",
	}
)

// siteKeys are the keys of a location that may stand on its site as well, for all its locations.
var siteKeys = []string{
	"headers", "allow", "deny", "basic_auth", "satisfy", "auth_request", "max_body", "compress", "error_pages", "intercept_errors", "expires",
	"access_log", "buffer",
}

// closed makes a location that could not be translated answer with a refusal.
func (l *location) closed(status string) {
	l.opts = &mapping{}
	l.opts.set("respond", word(status))
}
