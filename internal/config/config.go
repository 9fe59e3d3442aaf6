// Package config reads wstunnel's YAML file into a [Config].
//
// A Config is complete and valid or it does not exist: [Load] and [Parse] report every
// mistake of the file at once as [Errors], each with its line and column. Once returned, a
// Config is never modified; a reload reads a new one.
package config

import (
	"crypto/x509"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"wstunnel/internal/template"
)

// Config is one configuration file, with every default filled in.
type Config struct {
	// File is the name the configuration was read from, as it stands in error messages.
	File string
	// Files are File and those that it includes, for [Config.Place].
	Files []string
	texts [][]byte // what stood in them

	Listen         []Listener
	TLS            TLS
	TrustedProxies []netip.Prefix

	// ShutdownTimeout bounds the time from SIGTERM to exit. Default 30s.
	ShutdownTimeout time.Duration
	Drain           Drain
	// DrainRemoved says that a reload closes the tunnels whose route it takes away. Default false: they live on.
	DrainRemoved bool
	Admin        Admin

	Timeouts Timeouts
	Limits   Limits
	// AccessLog is that of requests whose site is not known; sites and locations have their own.
	AccessLog AccessLog
	Sites     []Site
	Upstreams []Upstream

	// Metrics is where numbers for monitoring are served: host:port, empty for nowhere.
	Metrics string
}

// Pos is a place in the configuration; [Config.Place] says where that is. Columns count from 1.
type Pos struct {
	Line, Col int
}

// Listener is one address that is accepted on.
type Listener struct {
	Pos
	// Address is host:port as [net.Listen] takes it; an empty host means all addresses.
	Address string
	// TLS says that connections start with a TLS handshake.
	TLS bool
	// ProxyProtocol says that connections start with a PROXY header, of version 1 or 2, by one of TrustedProxies, that names the client.
	ProxyProtocol bool
}

// TLS holds what the sites' certificates share.
type TLS struct {
	// Storage is the directory of certificates, the account key and the local CA.
	// Default /var/lib/wstunnel/certs.
	Storage string
	ACME    ACME
}

// ACME names the certificate authority of sites with `tls: auto`.
type ACME struct {
	// Email is the contact given to the authority; may be empty.
	Email string
	// Directory is the URL of the ACME directory. Default Let's Encrypt.
	Directory string
	// CA is a PEM file with an extra root for a private ACME server; empty for none.
	CA string
	// EAB ties the account to one that the authority already knows; zero for none.
	EAB EAB
}

// EAB is an external account binding (RFC 8555, section 7.3.4), as ZeroSSL and company authorities hand it out.
type EAB struct {
	KID string
	// HMACKey is the key itself, not its base64url form. It is a secret.
	HMACKey string
}

// Timeouts of HTTP exchanges and tunnels. All are positive.
type Timeouts struct {
	RequestHead  time.Duration // first byte to end of a request's head; default 10s
	KeepAlive    time.Duration // idle client connection between requests; default 75s
	Connect      time.Duration // TCP connect (and TLS handshake) to a backend; default 5s
	ResponseHead time.Duration // request sent to end of the backend's response head; default 60s
	ResponseBody time.Duration // no byte of the backend's response body; default 60s
	Handshake    time.Duration // upgrade request sent to the backend's 101; default 10s
	TunnelIdle   time.Duration // no byte in either direction of a tunnel; default 1h
}

// Limits on what clients may hold open. Of connections zero means no limit but that of the descriptors that the process may open.
type Limits struct {
	// MaxConnections is the number of client connections, tunnels included.
	MaxConnections int
	// MaxConnectionsPerClient is the number of connections from one address; an IPv6 client is its /64.
	MaxConnectionsPerClient int
	// BufferMemory is how many bytes of bodies may be kept in memory for slow clients in all. Beyond it they go to temporary files. Default 256 MiB, at
	// least 8 MiB.
	BufferMemory int64
	// SpoolSpace is how many bytes all temporary files may take together. Beyond it backends wait for their clients. Default 16 GiB.
	SpoolSpace int64
	// RelayMemory is how many bytes the messages under way in all relays may take together. Default 256 MiB, at least 8 MiB.
	RelayMemory int64
}

// Site is a set of hosts that share a certificate and locations.
type Site struct {
	Pos
	// Hosts are lower-case ASCII names (IDNs as punycode, no trailing dot): exact,
	// "*.example.com", "mail.*", or "_" which answers when nothing else does.
	Hosts         []string
	TLS           SiteTLS
	RedirectHTTPS bool
	// RedirectWhenReady lets plain HTTP be served until the site's first certificate is there (`redirect_https: when_ready`); without it
	// a page asks for patience meanwhile. It comes with RedirectHTTPS, and with ClientCAs it has no effect.
	RedirectWhenReady bool
	// HSTS is how long browsers are told to use https only (RFC 6797). Zero: they are told nothing.
	HSTS time.Duration
	// MinVersion is the lowest TLS version that is spoken, as in [crypto/tls]; zero for TLS 1.2.
	MinVersion uint16
	// ClientCAs are the roots that clients' certificates are checked with, and each client needs one; nil for none.
	ClientCAs *x509.CertPool
	// ClientCA is the file ClientCAs came from.
	ClientCA  string
	AccessLog AccessLog
	// Admins are users who see and reach this site's tunnels over the control socket.
	Admins []User
	// Rewrites come before a location is looked for; the first that matches counts.
	Rewrites []Rewrite
	Rules
	Locations []Location
}

// TLSMode says where a site's certificate comes from.
type TLSMode int

// The TLS modes of a site.
const (
	TLSOff        TLSMode = iota // the site is not served over TLS (default)
	TLSAuto                      // ordered from the ACME authority
	TLSSelfSigned                // signed by the local CA, for each name asked
	TLSFiles                     // certificate and key files
)

func (m TLSMode) String() string {
	switch m {
	case TLSAuto:
		return "auto"
	case TLSSelfSigned:
		return "self-signed"
	case TLSFiles:
		return "files"
	}
	return "off"
}

// SiteTLS is a site's certificate source.
type SiteTLS struct {
	Pos
	Mode TLSMode
	// Pairs are the files of TLSFiles; at least one. Of several, a client gets the first that it can use, ECDSA before RSA.
	Pairs []CertPair
	// OnDemand says, with TLSAuto, that a certificate is ordered when a client asks for its name, if Ask allows it.
	OnDemand bool
	// Ask is the URL that is asked, with the name as the parameter domain; any 2xx allows it.
	Ask string
}

// CertPair is a certificate with its chain and the key of it: two PEM files.
type CertPair struct {
	Pos
	Cert, Key string
}

// MatchKind is how a location's path matches.
type MatchKind int

// The match kinds, written as nginx writes them.
const (
	MatchPrefix     MatchKind = iota // /path
	MatchExact                       // = /path
	MatchPrefixStop                  // ^~ /path
	MatchRegex                       // ~ regex
	MatchRegexFold                   // ~* regex
)

// String returns the kind as it stands before a path in the configuration.
func (k MatchKind) String() string {
	switch k {
	case MatchExact:
		return "= "
	case MatchPrefixStop:
		return "^~ "
	case MatchRegex:
		return "~ "
	case MatchRegexFold:
		return "~* "
	}
	return ""
}

// Match is a location's path pattern.
type Match struct {
	Kind MatchKind
	// Path is the literal path, for the kinds that are no regex.
	Path string
	// Regexp is the compiled pattern of a regex kind (RE2 syntax); it matches anywhere in the path unless anchored.
	Regexp *regexp.Regexp
}

// String returns the pattern as it is written in the configuration.
func (m Match) String() string {
	if m.Regexp != nil {
		return m.Kind.String() + strings.TrimPrefix(m.Regexp.String(), "(?i)")
	}
	return m.Kind.String() + m.Path
}

// Mode is how a location carries WebSocket connections.
type Mode int

// The WebSocket modes.
const (
	ModeTunnel Mode = iota // bytes are spliced (default)
	ModeRelay              // WebSocket is terminated on both sides, message by message
)

func (m Mode) String() string {
	if m == ModeRelay {
		return "relay"
	}
	return "tunnel"
}

// Location is one routing rule of a site. At least one of WebSocket, HTTP, Redirect, Respond, Rewrites and a directory is set. Redirect and Respond exclude
// the others. With a directory beside HTTP files go before the backend; PHP has a directory beside it, and no HTTP.
type Location struct {
	Pos
	Match Match
	// When are conditions beside the path; nil for none.
	When      *When
	WebSocket *Target // upgrade requests; nil if the location has none
	HTTP      *Target // all other requests; nil if the location has none
	Files
	PHP      *PHP // what runs the scripts of the directory; nil if the location has none
	Redirect *Redirect
	Respond  *Respond
	// Rewrites are tried in turn, and the first that matches counts.
	Rewrites []Rewrite
	Rules
	AccessLog AccessLog
	SlowClients
	Mode Mode
	// MaxMessage is the size of the longest message that ModeRelay passes on, in bytes, inflated. Default 1 MiB, an eighth of
	// Limits.RelayMemory at most; zero with ModeTunnel.
	MaxMessage int64
	// Ping is how often a silent end of a tunnel is asked whether it is still there; an end that has sent nothing for two
	// periods is taken for dead. Zero: never.
	Ping time.Duration
	// BackendHost sends the target's own name as Host (`host: backend`); otherwise the
	// client's Host goes on unchanged (`host: keep`, the default).
	BackendHost bool
	// RewriteResponses maps the backend's own URLs in Location, Content-Location, Refresh and
	// Set-Cookie back to the public ones: its name, and its paths where the target's differs from the location's. Default true.
	RewriteResponses bool
	// Forwarded adds the Forwarded header of RFC 7239. Default false.
	Forwarded bool
	Timeouts  Timeouts // the global ones, with the location's own put over them
}

// Target is where a location sends its requests.
type Target struct {
	Pos
	// URL is the target as it was written, for messages and tables.
	URL string
	// Scheme is http, https, ws, wss or unix.
	Scheme string
	// Servers are tried in turn, starting with the next one for each request.
	Servers []Server
	// Upstream is the name of the upstream that Servers come from; empty if the target names a server itself.
	Upstream string
	// Host is the target's authority, for `host: backend` and for TLS server names:
	// host[:port] as written, the upstream's name, or "localhost" for a unix socket.
	Host string
	// Path replaces the matched prefix; empty: the request URI goes on as it came.
	Path string
	// PathTemplate is what Path is made of, with the captures of the location's regex; empty for a Path that is fixed. It replaces the whole path.
	PathTemplate template.Template
	// TLS says that the backend is spoken to over TLS (https, wss).
	TLS bool
	// TLSVerify is false where the backend's certificate is not to be checked. Default true.
	TLSVerify bool
	// RootCAs are the roots of `tls_ca`; nil for the system's.
	RootCAs *x509.CertPool
	// CAFile is the file RootCAs came from.
	CAFile string
	// KeepAlive is how many idle connections to each server wait for their next request; zero: none does, and each request
	// has a connection of its own. Default 16, or what the upstream has.
	KeepAlive int
	// ProxyProtocol is the version of the PROXY header that each connection to a server starts with, 1 or 2; zero for none. It names one
	// client, so that connections with it are not kept.
	ProxyProtocol int
	// MaxConnections and Queue are the upstream's; zero where the target names a server itself.
	MaxConnections int
	Queue          time.Duration
	// Health is the upstream's; zero where the target names a server itself.
	Health
	// Balancing is the upstream's; nothing of it is set where the target names a server itself.
	Balancing
}

// DefaultKeepAlive is the number of idle connections to a server where the configuration has none.
const DefaultKeepAlive = 16

// Server is one backend address.
type Server struct {
	Network string // tcp or unix
	Address string // host:port or a socket's path
	// Weight is its share beside the others', from 1; zero counts as 1.
	Weight int
	// MaxConnections bounds the connections to it, tunnels included; zero: the upstream's bound.
	MaxConnections int
	// Backup: it is used while no other server can be.
	Backup bool
	// Down: it is not used at all.
	Down bool
}

// String is the server's address as it is written: host:port or unix:/path.
func (s Server) String() string {
	if s.Network == "unix" {
		return "unix:" + s.Address
	}
	return s.Address
}

// Upstream is a named set of servers.
type Upstream struct {
	Pos
	Name    string
	Servers []Server
	// KeepAlive is as a target's.
	KeepAlive int
	// MaxConnections bounds the connections to each server, tunnels included; zero for no bound.
	MaxConnections int
	// Queue is how long a request waits for a connection where each server has as many as it may. Default 30s; zero where no server is bounded.
	Queue time.Duration
	Health
	Balancing
}
