package config

import (
	"crypto/x509"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"

	"wstunnel/internal/template"
)

// tlsCheck is how a backend's certificate is checked.
type tlsCheck struct {
	verify bool
	roots  *x509.CertPool
	caFile string
}

// tlsCheck reads tls_verify and tls_ca of a location.
func (d *decoder) tlsCheck(o object) tlsCheck {
	c := tlsCheck{verify: true}
	d.overrideTLSCheck(o, &c)
	return c
}

// overrideTLSCheck reads tls_verify and tls_ca over what c has.
func (d *decoder) overrideTLSCheck(o object, c *tlsCheck) {
	if n := o.get("tls_verify"); n != nil {
		d.boolean(n, &c.verify)
	}
	if n := o.get("tls_ca"); n != nil {
		c.roots, c.caFile = d.rootCAs(n)
	}
}

// target reads a target, a URL or a mapping with one; plain and secure are the schemes it
// may have beside unix. It returns nil after a mistake in the URL.
func (d *decoder) target(n *yaml.Node, check tlsCheck, plain, secure string) *Target {
	return d.targetOf(n, check, plain, secure, false)
}

// proxyTarget reads the target of proxy, for pages and for sockets.
func (d *decoder) proxyTarget(n *yaml.Node, check tlsCheck) (pages, sockets *Target) {
	if pages = d.targetOf(n, check, "http", "https", true); pages == nil {
		return nil, nil
	}
	t := *pages
	t.Scheme = strings.Replace(t.Scheme, "http", "ws", 1)
	return pages, &t
}

// targetOf is target; where bare is set, plain may be left out.
func (d *decoder) targetOf(n *yaml.Node, check tlsCheck, plain, secure string, bare bool) *Target {
	allowed := plain + "://HOST:PORT, " + secure + "://HOST:PORT or unix:/PATH"
	var o object
	isMapping := deref(n).Kind == yaml.MappingNode
	if isMapping {
		var ok bool
		if o, ok = d.object(n, inTarget); !ok {
			return nil
		}
		d.overrideTLSCheck(o, &check)
		if n = o.get("url"); n == nil {
			d.add(o.pos, `no "url"`, "url: and "+allowed)
			return nil
		}
	}
	s, ok := d.scalar(n, allowed)
	if !ok {
		return nil
	}
	t, p := d.parseTarget(s, plain, secure, bare)
	if p != nil {
		d.addProblem(s.pos, *p)
		return nil
	}
	if v := o.get("keepalive"); v != nil {
		if plain == "ws" {
			d.add(o.keyPos("keepalive"), "keepalive on a target of websocket", "keepalive only on a target of http: a WebSocket has its connection for itself")
		}
		d.keepAlive(v, &t.KeepAlive)
	}
	if v := o.get("proxy_protocol"); v != nil {
		if o.get("keepalive") != nil && t.KeepAlive > 0 {
			d.add(o.keyPos("keepalive"), "keepalive beside proxy_protocol", "keepalive: off, or none: the header names one client, for whom the connection is")
		}
		t.ProxyProtocol, t.KeepAlive = d.word(v, "v1", "v2")+1, 0
	}
	t.TLSVerify, t.RootCAs, t.CAFile = check.verify, check.roots, check.caFile
	if !t.TLS {
		t.TLSVerify, t.RootCAs, t.CAFile = true, nil, ""
		if isMapping {
			d.checkNoTLSKeys(o, "a target without TLS")
		}
	}
	return t
}

// otherGateways are schemes of protocols between a web server and a program.
var otherGateways = []string{"fastcgi", "fcgi", "scgi", "uwsgi", "ajp"}

// parseTarget reads a target's URL.
func (d *decoder) parseTarget(s scalar, plain, secure string, bare bool) (*Target, *problem) {
	bad := func(found, allowed string) (*Target, *problem) {
		return nil, &problem{"target " + s.shown() + " " + found, allowed}
	}
	if strings.HasPrefix(s.text, "unix:") {
		server, p := parseUnix(s)
		if p != nil {
			return nil, p
		}
		return &Target{
			Pos: s.pos, URL: s.written, Scheme: "unix", Servers: []Server{server}, Host: "localhost", KeepAlive: DefaultKeepAlive,
		}, nil
	}
	scheme, rest, ok := strings.Cut(s.text, "://")
	if bare && !ok {
		scheme, rest, ok = plain, s.text, true
	}
	scheme = strings.ToLower(scheme)
	both := plain + ":// or " + secure + "://"
	switch {
	case !ok:
		return bad("has no scheme", both+" and host:port or an upstream's name, or unix:/path")
	case scheme == plain || scheme == secure:
	case scheme == "http" || scheme == "ws":
		return bad("has scheme "+scheme, "write "+plain+":// here")
	case scheme == "https" || scheme == "wss":
		return bad("has scheme "+scheme, "write "+secure+":// here")
	case plain == "http" && (scheme == "fastcgi" || scheme == "fcgi"):
		return bad("has scheme "+scheme, "php: and the address alone, with root: and the directory of the scripts")
	case slices.Contains(otherGateways, scheme):
		return bad("has scheme "+scheme+", which is not spoken here",
			both+" to a server that speaks HTTP and runs the program, such as Apache, nginx or FrankenPHP on 127.0.0.1:8080")
	default:
		return bad("has an unknown scheme", both+", or unix:/path; HTTP/2 to backends, gRPC and plain TCP are not spoken")
	}
	authority, path := rest, ""
	if i := strings.IndexByte(rest, '/'); i >= 0 {
		authority, path = rest[:i], rest[i:]
	}
	switch {
	case strings.ContainsAny(rest, "?#") && !strings.Contains(path, "$"):
		return bad("has a query or fragment", "a target without; the client's query is passed on")
	case strings.Contains(authority, "@"):
		return nil, &problem{"a target with a user name or password", "a target without; it would not be sent"}
	}
	t := &Target{Pos: s.pos, URL: s.written, Scheme: scheme, Path: path, TLS: scheme == secure, KeepAlive: DefaultKeepAlive}
	if strings.Contains(path, "$") {
		var err error
		if t.PathTemplate, err = template.Parse(path, scope{captures: d.captures}.known); err != nil {
			p := scope{captures: d.captures}.unknown(s.written, s.env, err)
			return nil, &p
		}
	} else if found, allowed := checkTargetPath(path); found != "" {
		return bad(found, allowed)
	}
	if p := d.resolveAuthority(s, authority, t); p != nil {
		return nil, p
	}
	return t, nil
}

// resolveAuthority finds a target's servers: an upstream's, or the one it names itself.
func (d *decoder) resolveAuthority(s scalar, authority string, t *Target) *problem {
	if up := d.upstreams[strings.ToLower(authority)]; up != nil {
		t.Upstream, t.Host, t.Servers = up.Name, up.Name, up.Servers
		t.KeepAlive, t.MaxConnections, t.Queue, t.Health, t.Balancing = up.KeepAlive, up.MaxConnections, up.Queue, up.Health, up.Balancing
		return nil
	}
	defaultPort, example := "80", t.Scheme+"://127.0.0.1:9000"
	switch {
	case t.TLS:
		defaultPort = "443"
	case t.Scheme == FastCGI:
		defaultPort, example = "9000", "127.0.0.1:9000"
	}
	host, port, p := splitHostPort(s, authority, defaultPort)
	if p != nil {
		return p
	}
	isName := !strings.ContainsAny(host, ".:") && !strings.EqualFold(host, "localhost")
	if isName && !strings.Contains(authority, ":") {
		allowed := "a host with a port, such as " + example + ", or a name defined under upstreams"
		if len(d.upstreamNames) > 0 {
			allowed = "an upstream (" + quoteList(d.upstreamNames) + "), or a host with a port"
			if !s.env {
				allowed += misspelt(host, d.upstreamNames...)
			}
		}
		return &problem{"target " + s.shown() + " names no upstream", allowed}
	}
	t.Host = strings.TrimSuffix(net.JoinHostPort(host, ""), ":")
	if strings.HasSuffix(authority, ":"+port) {
		t.Host = net.JoinHostPort(host, port)
	}
	t.Servers = []Server{{Network: "tcp", Address: net.JoinHostPort(host, port)}}
	d.backends = append(d.backends, backendPlace{s, t.Servers[0].Address})
	return nil
}

// splitHostPort reads host[:port] of a backend; the host comes back in ASCII and without brackets.
func splitHostPort(s scalar, authority, defaultPort string) (host, port string, p *problem) {
	bad := func(found, allowed string) (string, string, *problem) {
		return "", "", &problem{s.shown() + " has " + found, allowed}
	}
	const wanted = "host:port such as 127.0.0.1:9000, [::1]:9000 or backend.example:9000"
	if addr, err := netip.ParseAddr(authority); err == nil && addr.Is6() {
		return bad("an IPv6 address without brackets", "brackets around it: [::1]:9000")
	}
	host, port = authority, defaultPort
	if i := strings.LastIndexByte(authority, ':'); i > strings.LastIndexByte(authority, ']') {
		host, port = authority[:i], authority[i+1:]
	}
	switch n, ok := parsePort(port); {
	case port == "" && authority == host:
		return bad("no port", wanted)
	case !ok || n == 0:
		return bad("a bad port", "a port from 1 to 65535")
	case host == "":
		return bad("no host", wanted)
	}
	if ip, ok := parseIP(host); ok && (strings.Contains(ip, ":") == strings.HasPrefix(host, "[")) {
		return ip, port, nil
	}
	name, ok := host, isDNSName(host)
	if !ok {
		name, ok = asciiName(host)
	}
	if !ok {
		return bad("a bad host", wanted)
	}
	return name, port, nil
}

// checkTargetPath says what is wrong with a target's path, which is sent as written.
func checkTargetPath(p string) (found, allowed string) {
	if p == "" {
		return "", ""
	}
	for _, c := range []byte(p) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte("\"<>\\^`{|}", c) >= 0 {
			return "has characters in its path that a URL cannot hold", "such characters as percent escapes"
		}
	}
	decoded, err := url.PathUnescape(p)
	if err != nil {
		return "has a bad percent escape in its path", "% and two hex digits; %25 is a literal %"
	}
	if !isNormalised(p) || !isNormalised(decoded) {
		return "has a path that is not normalised", "a path without //, /./ and /../"
	}
	return "", ""
}

// parseUnix reads unix:/path.
func parseUnix(s scalar) (Server, *problem) {
	path := strings.TrimPrefix(s.text, "unix:")
	switch {
	case !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//"):
		return Server{}, &problem{"bad unix socket " + s.shown(), "unix: and an absolute path, such as unix:/run/chat.sock"}
	case strings.IndexByte(path, 0) >= 0:
		return Server{}, &problem{"unix socket " + s.shown() + " holds a NUL byte", "a path without it"}
	case len(path) > maxSocketPath:
		return Server{}, &problem{"unix socket " + s.shown() + " is too long", "a path of at most " + strconv.Itoa(maxSocketPath) + " bytes"}
	}
	return Server{Network: "unix", Address: path}, nil
}

// upstreamMapping reads all upstreams. One with mistakes is registered all the same, so
// that targets with its name are not reported too.
func (d *decoder) upstreamMapping(n *yaml.Node) []Upstream {
	entries, ok := d.mapping(n, "a mapping of names to upstreams, such as chat: {servers: [127.0.0.1:9000]}")
	if !ok {
		return nil
	}
	upstreams := make([]Upstream, 0, len(entries))
	for _, e := range entries {
		up := Upstream{Pos: posOf(e.keyNode), Name: e.key, KeepAlive: DefaultKeepAlive}
		if other := d.upstreams[up.Name]; other != nil {
			d.add(up.Pos, "upstream "+quote(up.Name)+" is already on "+d.lineText(other.Line), "each upstream once")
		}
		if !isUpstreamName(up.Name) {
			d.add(up.Pos, "bad upstream name "+quote(up.Name), "lower-case letters, digits, dots, underscores and hyphens, and no IP address")
		}
		if o, ok := d.object(e.value, inUpstream); ok {
			if servers := o.get("servers"); servers != nil {
				up.Servers = d.servers(servers)
			} else {
				d.add(o.pos, `no "servers"`, "servers: and a list of host:port or unix:/path")
			}
			d.connections(o, &up)
			d.health(o, &up.Health)
			d.balancing(o, &up)
		}
		upstreams = append(upstreams, up)
		d.upstreams[up.Name] = &up
		d.upstreamNames = append(d.upstreamNames, up.Name)
	}
	return upstreams
}

// defaultQueue is how long a request waits where max_connections are open.
const defaultQueue = 30 * time.Second

// connections reads how many connections an upstream's servers are to have.
func (d *decoder) connections(o object, up *Upstream) {
	if v := o.get("keepalive"); v != nil {
		d.keepAlive(v, &up.KeepAlive)
	}
	if v := o.get("max_connections"); v != nil {
		d.count(v, &up.MaxConnections)
	}
	bounded := up.MaxConnections > 0 || slices.ContainsFunc(up.Servers, func(s Server) bool { return s.MaxConnections > 0 })
	if bounded {
		up.Queue = defaultQueue
	}
	if v := o.get("queue"); v != nil {
		if !bounded && o.get("max_connections") == nil {
			d.add(o.keyPos("queue"), "queue on an upstream without max_connections", "queue only beside max_connections: without, no request waits")
		}
		d.duration(v, &up.Queue)
	}
}

// keepAlive reads a number of idle connections into v; "off" is zero.
func (d *decoder) keepAlive(n *yaml.Node, v *int) {
	const allowed = "a number of idle connections above zero, or off"
	s, ok := d.scalar(n, allowed)
	if !ok {
		return
	}
	got, err := strconv.ParseInt(s.text, 10, 32)
	switch {
	case s.text == "off":
		*v = 0
	case err != nil || got <= 0:
		d.add(s.pos, "bad keepalive "+s.shown(), allowed)
	default:
		*v = int(got)
	}
}

func isUpstreamName(s string) bool {
	if _, isIP := parseIP(s); isIP || s == "" {
		return false
	}
	return !strings.ContainsFunc(s, func(r rune) bool {
		return r > 0x7f || r != '.' && r != '-' && (!isWordByte(byte(r)) || 'A' <= r && r <= 'Z')
	})
}

// servers reads an upstream's servers.
func (d *decoder) servers(n *yaml.Node) []Server {
	var servers []Server
	var lines []int
	for _, item := range d.nonEmptyList(n, "a list with at least one server, such as [127.0.0.1:9000]") {
		server, s, ok := d.server(item)
		if !ok {
			continue
		}
		same := func(other Server) bool { return other.Network == server.Network && other.Address == server.Address }
		if i := slices.IndexFunc(servers, same); i >= 0 {
			d.add(s.pos, "server "+s.shown()+" is already on "+d.lineText(lines[i]), "each server once in an upstream")
			continue
		}
		servers = append(servers, server)
		lines = append(lines, s.pos.Line)
		if server.Network == "tcp" {
			d.backends = append(d.backends, backendPlace{s, server.Address})
		}
	}
	return servers
}

func parseServer(s scalar) (Server, *problem) {
	switch {
	case strings.HasPrefix(s.text, "unix:"):
		return parseUnix(s)
	case strings.Contains(s.text, "/"):
		return Server{}, &problem{"server " + s.shown() + " has a scheme or a path", "host:port or unix:/path; scheme and path go to the target"}
	}
	host, port, p := splitHostPort(s, s.text, "")
	if p != nil {
		return Server{}, p
	}
	return Server{Network: "tcp", Address: net.JoinHostPort(host, port)}, nil
}
