package migrate

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// nginxServer is a server block while it is translated.
type nginxServer struct {
	*nginx
	*server
	scope *scope
	vars  variables
	// block is the directive of the server itself.
	block *directive
	// named are the locations whose names begin with @; inner those that only nginx itself leads to.
	named map[string]*directive
	inner map[string]*directive
	used  map[*directive]bool // of both, those that others have made use of
	php   *nginxPHP
	extra []*server // for names that are led elsewhere
	// first are locations that go before all others.
	first []*location
	// fallback is where what is no file leads to, for all locations; otherwise empty.
	fallback string
	// gates are its conditions for all methods but some.
	gates []methodGate
	// ended says that the server answers all requests without a location.
	ended bool
}

// server translates a server block. What it does for some of its names only makes servers of their own.
func (n *nginx) server(d *directive) []*server {
	s := &nginxServer{
		nginx: n, server: &server{Place: d.Place, opts: &mapping{}}, scope: n.http.within(d.block), vars: variables{}, block: d,
		named: map[string]*directive{}, inner: map[string]*directive{}, used: map[*directive]bool{},
	}
	s.readNames()
	if !s.readListens() {
		n.skip(d.block)
		return nil
	}
	s.readTLS()
	s.index(s.scope)
	s.findPHP()
	s.rewritePhase()
	if s.ended {
		n.unreached(d.block)
		n.skip(d.block)
	} else {
		s.allLocations()
	}
	s.closeGates()
	s.onlyLoopback()
	if len(s.names) == 0 && len(s.extra) > 0 && s.redirects {
		return s.extra // nothing is left for it to answer
	}
	return append([]*server{s.server}, s.extra...)
}

// readNames reads server_name.
func (s *nginxServer) readNames() {
	for _, d := range s.scope.here("server_name") {
		s.ledger.took(d)
		for _, name := range d.args {
			hosts, ok := nginxNames(name)
			if !ok {
				s.note(s.ledger.note(d, "matches hosts by "+strconv.Quote(name), "list the hosts"))
			}
			for _, h := range hosts {
				if !slices.Contains(s.names, h) {
					s.names = append(s.names, h)
				}
			}
		}
	}
}

// nginxNames returns the hosts that an argument of server_name stands for.
func nginxNames(name string) ([]string, bool) {
	switch {
	case name == "" || name == "_" || name == "*":
		return nil, true
	case strings.HasPrefix(name, "~"):
		return hostsOf(name[1:])
	case strings.HasPrefix(name, "."):
		if host, ok := hostOf(name[1:]); ok {
			return []string{host, "*." + host}, true
		}
		return nil, false
	case name == "$hostname":
		return nil, false
	}
	host, ok := hostOf(name)
	if !ok {
		if strings.Trim(name, "-_0123456789") == "" || !strings.ContainsAny(name, "*$~") {
			return nil, true // a name that no client can ask for
		}
		return nil, false
	}
	return []string{host}, true
}

// readListens reads listen; it reports false where a server listens on nothing that we can listen on.
func (s *nginxServer) readListens() bool {
	ds := s.scope.here("listen")
	for _, d := range ds {
		l, ok := s.readListen(d)
		if !ok {
			continue
		}
		s.ledger.took(d)
		if i := slices.IndexFunc(s.listens, func(o listen) bool { return o.address == l.address }); i >= 0 {
			s.listens[i].tls = s.listens[i].tls || l.tls
			s.listens[i].standard = s.listens[i].standard || l.standard
			continue
		}
		s.listens = append(s.listens, l)
	}
	if len(ds) == 0 {
		s.listens = []listen{{address: ":80"}}
	}
	if d := s.scope.find("ssl"); d != nil && d.arg(0) == "on" {
		s.ledger.took(d)
		for i := range s.listens {
			s.listens[i].tls = true
		}
	}
	return len(s.listens) > 0
}

func (s *nginxServer) readListen(d *directive) (l listen, ok bool) {
	address := d.arg(0)
	flags := d.args[min(1, len(d.args)):]
	if slices.Contains(flags, "quic") {
		s.ledger.needless(d) // TLS on the same port is what browsers try first
		return l, false
	}
	if strings.HasPrefix(address, "unix:") {
		s.nginx.doc.notes = append(s.nginx.doc.notes, s.ledger.refuse(d, "listens on a socket file", "let who connects there connect to an address"))
		return l, false
	}
	l.address, ok = listenAddress(address)
	if !ok {
		s.nginx.doc.notes = append(s.nginx.doc.notes, s.ledger.refuse(d, "listens on no address that is known here", "write an address under listen"))
		return l, false
	}
	l.tls = slices.Contains(flags, "ssl")
	l.proxied = slices.Contains(flags, "proxy_protocol")
	l.standard = slices.Contains(flags, "default_server") || slices.Contains(flags, "default")
	return l, true
}

// listenAddress returns an address as our listeners have it: all addresses of a port are ":80", in IPv4 and IPv6.
func listenAddress(s string) (string, bool) {
	host, port := strings.TrimSuffix(s, ":"), "80"
	if digits(host, "") != "" {
		host, port = "", host
	} else if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') && (strings.Count(host, ":") == 1 || host[0] == '[') {
		host, port = host[:i], host[i+1:]
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "", false
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	switch host {
	case "", "*", "0.0.0.0", "::", "_default_":
		return ":" + port, true
	case "localhost":
		return "127.0.0.1:" + port, true
	}
	addr, err := netip.ParseAddr(host)
	if err != nil || addr.Zone() != "" {
		return "", false
	}
	number, _ := strconv.ParseUint(port, 10, 16)
	return netip.AddrPortFrom(addr, uint16(number)).String(), true
}

// onlyLoopback closes a server to others that listens for this machine only: here each listener serves each site.
func (s *server) onlyLoopback() {
	for _, l := range s.listens {
		address, err := netip.ParseAddrPort(l.address)
		if err != nil || !address.Addr().IsLoopback() {
			return
		}
	}
	for _, l := range s.locations {
		if !l.opts.has("allow") && !l.opts.has("deny") {
			setAccess(l.opts, []string{"127.0.0.0/8", "::1"}, nil)
		}
	}
}

// readTLS reads certificates and what TLS asks of clients.
func (s *nginxServer) readTLS() {
	if !s.secure() {
		return
	}
	certs, keys := s.scope.all("ssl_certificate"), s.scope.all("ssl_certificate_key")
	for i := range min(len(certs), len(keys)) {
		if strings.Contains(certs[i].arg(0)+keys[i].arg(0), "$") || strings.HasPrefix(keys[i].arg(0), "engine:") ||
			strings.HasPrefix(certs[i].arg(0), "data:") {
			s.note(s.ledger.note(certs[i], "names certificates by variables or of an engine", "name their files, or write tls: auto"))
			continue
		}
		s.ledger.took(certs[i], keys[i])
		s.certs = append(s.certs, certPair{joinName(s.dir, certs[i].arg(0)), joinName(s.dir, keys[i].arg(0))})
	}
	if d := s.scope.find("ssl_protocols"); d != nil {
		s.ledger.took(d)
		if slices.Contains(d.args, "TLSv1.3") && len(d.args) == 1 {
			s.opts.set("min_version", text("1.3"))
		}
	}
	s.clientCerts()
}

func (s *nginxServer) clientCerts() {
	verify := s.scope.find("ssl_verify_client")
	if verify == nil || verify.arg(0) == "off" {
		return
	}
	ca := s.scope.find("ssl_client_certificate")
	if verify.arg(0) != "on" || ca == nil {
		s.note(s.ledger.note(verify, "asks clients for a certificate that they need not have", "client_ca asks for one and refuses clients without"))
		return
	}
	s.ledger.took(verify, ca)
	s.opts.set("client_ca", text(joinName(s.dir, ca.arg(0))))
}

// index finds the locations that others name.
func (s *nginxServer) index(sc *scope) {
	for _, d := range sc.here("location") {
		modifier, pattern := nginxPattern(d)
		inner := &scope{own: d.block}
		switch {
		case strings.HasPrefix(pattern, "@"):
			s.named[pattern] = d
		case len(inner.here("internal")) > 0 && !strings.HasPrefix(modifier, "~"):
			s.inner[pattern] = d
		}
		s.index(inner)
	}
}

// nginxPattern splits what stands behind location.
func nginxPattern(d *directive) (modifier, pattern string) {
	if len(d.args) > 1 {
		return d.args[0], d.args[1]
	}
	pattern = d.arg(0)
	for _, m := range []string{"=", "^~", "~*", "~"} {
		if rest, ok := strings.CutPrefix(pattern, m); ok {
			return m, rest
		}
	}
	return "", pattern
}

// use says that a location is part of others.
func (s *nginxServer) use(d *directive) {
	s.used[d] = true
	s.ledger.took(d)
}
