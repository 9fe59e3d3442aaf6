package proxy

import (
	"net/http"
	"net/netip"
	"net/textproto"
	"slices"
	"strings"

	"wstunnel/internal/config"
	"wstunnel/internal/host"
	"wstunnel/internal/ws"
)

// inbound is a request head as it came, with what is known of the connection.
type inbound struct {
	method string
	target string // the request target as it was sent
	path   string // its normalised path
	host   string // Host, with its port, as it was sent
	header http.Header
	peer   netip.Addr // who connected
	client netip.Addr // who asked: the peer, or whom trusted proxies name
	secure bool       // over TLS
	port   string     // the port that was connected to
	// trusted says that the peer is one of trusted_proxies, whose X-Forwarded-* are believed.
	trusted bool
	// loopID is this process in CDN-Loop.
	loopID string
	// subject is whom the client's certificate names, where its site wants one; otherwise empty.
	subject string
}

// outbound is the request head that a backend is sent.
type outbound struct {
	method string
	target string
	host   string
	header http.Header
	// upgrade is the value of the Upgrade header; empty for a plain request.
	upgrade string
	// close asks the backend to end the connection after this exchange.
	close bool
}

// hopByHop are the headers that end at a proxy (RFC 9110, section 7.6.1), with those that this one
// answers itself, writes itself or never passes on: Expect, Content-Length, Proxy (httpoxy), h2c's settings.
var hopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Transfer-Encoding", "Upgrade",
	"Expect", "Http2-Settings", "Proxy", "Host", "Content-Length", "Trailer",
}

// isOwn reports a header that says who asked and how. This front end sets it, or has it from a trusted proxy; Connection cannot remove it.
func isOwn(name string) bool {
	return isClaim(name) || name == "X-Real-Ip" || name == clientSubject || name == cdnLoop
}

// isClaim reports a header by which proxies tell what a client asked for, and which ends here where an untrusted peer sends it: backends
// believe it.
func isClaim(name string) bool {
	return name == "Forwarded" || strings.HasPrefix(name, "X-Forwarded-") || name == "X-Original-Url" || name == "X-Rewrite-Url"
}

// rewriteRequest makes the head that the target of a location is sent. It is pure: in is not modified.
func rewriteRequest(in *inbound, l *location, target *config.Target) *outbound {
	out := &outbound{
		method: in.method,
		target: rewriteTarget(in, l.Match, target),
		host:   in.host,
		header: make(http.Header, len(in.header)+6),
	}
	if l.BackendHost {
		out.host = target.Host
	}
	listed := connectionListed(in.header["Connection"], isOwn)
	for name, values := range in.header {
		if endsHere(name) || listed[name] || !in.trusted && isClaim(name) {
			continue
		}
		out.header[name] = values
	}
	addForwarding(out.header, in, l.Forwarded)
	return out
}

// endsHere reports a request header that no backend is sent as the client wrote it. CGI, and PHP behind it, turn X_Real_IP, X.Real.IP and
// X-Real-IP into one variable, so that only letters, digits and hyphens go on.
func endsHere(name string) bool {
	return slices.Contains(hopByHop, name) || strings.ContainsFunc(name, func(c rune) bool {
		return c != '-' && (c > '~' || !isAlphanumeric(byte(c)))
	})
}

// rewriteTrailers returns the fields of a trailer section that go on: none that would have meant something in the
// head (RFC 9110, section 6.5.1), and none that the message's Connection lists.
func rewriteTrailers(t http.Header, connection []string) http.Header {
	listed := connectionListed(connection, func(string) bool { return false })
	out := make(http.Header, len(t))
	for name, values := range t {
		if !endsHere(name) && !isOwn(name) && !listed[name] {
			out[name] = values
		}
	}
	return out
}

// rewriteTarget maps the request target. Without a path in the location's target it goes on as it came;
// with one, that replaces the matched prefix, joined with exactly one slash, and what follows goes on as it came.
func rewriteTarget(in *inbound, match config.Match, target *config.Target) string {
	raw, query := splitTarget(in.target)
	if target.Path == "" {
		return raw + query
	}
	if match.Kind == config.MatchExact {
		return target.Path + query
	}
	prefix := strings.TrimSuffix(match.Path, "/")
	rest, ok := cutPrefix(raw, prefix)
	if !ok {
		rest = escapePath(strings.TrimPrefix(in.path, prefix))
	}
	if rest == "" {
		return target.Path + query
	}
	return strings.TrimSuffix(target.Path, "/") + rest + query
}

// connectionListed returns the canonical names of the headers that Connection lists, but those that keep says
// must stay (RFC 9110, section 7.6.1).
func connectionListed(connection []string, keep func(name string) bool) map[string]bool {
	if len(connection) == 0 {
		return nil
	}
	listed := map[string]bool{}
	for _, value := range connection {
		for token := range strings.SplitSeq(value, ",") {
			name := textproto.CanonicalMIMEHeaderKey(textproto.TrimString(token))
			if name != "" && !keep(name) {
				listed[name] = true
			}
		}
	}
	return listed
}

// addForwarding tells the backend who asked and how. What an untrusted peer says of itself is
// replaced; what a trusted proxy says is kept and added to.
func addForwarding(h http.Header, in *inbound, forwarded bool) {
	chain, port := in.peer.String(), in.port
	if in.trusted {
		if prior := strings.Join(h["X-Forwarded-For"], ", "); prior != "" {
			chain = prior + ", " + chain
		}
		port = firstOf(h, "X-Forwarded-Port", port)
	}
	h["X-Forwarded-For"] = []string{chain}
	h["X-Forwarded-Host"] = []string{in.publicHost()}
	h["X-Forwarded-Proto"] = []string{in.publicScheme()}
	h["X-Forwarded-Port"] = []string{port}
	h["X-Real-Ip"] = []string{in.client.String()}
	h[cdnLoop] = []string{strings.Join(append(slices.Clone(h[cdnLoop]), in.loopID), ", ")}
	delete(h, clientSubject)
	if in.subject != "" {
		h[clientSubject] = []string{in.subject}
	}
	if forwarded {
		element := forwardedElement(in.peer, in.host, in.secure)
		if prior := strings.Join(h["Forwarded"], ", "); prior != "" {
			element = prior + ", " + element
		}
		h["Forwarded"] = []string{element}
	}
}

// cdnLoop names the proxies that a request has come through (RFC 8586). Via, which could do so too, makes servers behind a proxy
// leave compression off.
const cdnLoop = "Cdn-Loop"

// returned reports a request that this process has sent itself: some target leads back to it.
func (in *inbound) returned() bool {
	return slices.ContainsFunc(in.header[cdnLoop], func(v string) bool { return strings.Contains(v, in.loopID) })
}

// publicScheme is how the client connected: to this front end, or to the trusted proxy that says so.
func (in *inbound) publicScheme() string {
	scheme := "http"
	if in.secure {
		scheme = "https"
	}
	if in.trusted {
		scheme = firstOf(in.header, "X-Forwarded-Proto", scheme)
	}
	return httpScheme(scheme)
}

// publicHost is the host that the client asked for, with its port.
func (in *inbound) publicHost() string {
	if in.trusted {
		return firstOf(in.header, "X-Forwarded-Host", in.host)
	}
	return in.host
}

func firstOf(h http.Header, name, otherwise string) string {
	if v := h[name]; len(v) > 0 && v[0] != "" {
		return v[0]
	}
	return otherwise
}

// httpScheme keeps to the words that applications know: never ws or wss.
func httpScheme(scheme string) string {
	switch strings.ToLower(scheme) {
	case "https", "wss":
		return "https"
	}
	return "http"
}

// forwardedElement is one element of a Forwarded header (RFC 7239, section 4).
func forwardedElement(peer netip.Addr, host string, secure bool) string {
	node := peer.String()
	if peer.Is6() {
		node = `"[` + node + `]"`
	}
	element := "for=" + node
	if host != "" {
		element += `;host="` + host + `"`
	}
	if secure {
		return element + ";proto=https"
	}
	return element + ";proto=http"
}

// append writes the head as bytes: Host first, then the headers by name, those of WebSocket spelt as in RFC 6455.
func (o *outbound) append(dst []byte) []byte {
	dst = append(dst, o.method+" "+o.target+" HTTP/1.1\r\nHost: "+o.host+"\r\n"...)
	switch {
	case o.upgrade != "":
		dst = append(dst, "Upgrade: "+o.upgrade+"\r\nConnection: Upgrade\r\n"...)
	case o.close:
		dst = append(dst, "Connection: close\r\n"...)
	}
	dst = appendHeader(dst, o.header)
	return append(dst, "\r\n"...)
}

func appendHeader(dst []byte, h http.Header) []byte {
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		spelt := ws.HeaderName(name)
		for _, value := range h[name] {
			dst = append(dst, spelt...)
			dst = append(dst, ": "...)
			dst = append(dst, value...)
			dst = append(dst, "\r\n"...)
		}
	}
	return dst
}

// responseHopByHop are the response headers that end at a proxy. Upgrade is among them: a backend's offer of
// h2c is not for the client.
var responseHopByHop = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Transfer-Encoding", "Upgrade", "Trailer",
}

// rewriteResponse changes a backend's response header to what the client is answered.
func rewriteResponse(h http.Header, status int, in *inbound, l *location, target *config.Target) {
	offersWebSocket := status == http.StatusUpgradeRequired && ws.HasToken(h["Upgrade"], "websocket")
	dropHopByHop(h)
	if status == http.StatusNoContent {
		delete(h, "Content-Length") // RFC 9110, section 8.6
	}
	if offersWebSocket {
		h["Upgrade"] = []string{"websocket"}
	}
	if l.site.HSTS > 0 {
		delete(h, "Strict-Transport-Security") // the operator has said it for the whole site, and twice is wrong (RFC 6797, section 7.1)
	}
	m := newURLMapping(in, l, target)
	if m == nil {
		return
	}
	for _, name := range []string{"Location", "Content-Location"} {
		if v := h[name]; len(v) == 1 {
			h[name] = []string{m.url(v[0])}
		}
	}
	if v := h["Refresh"]; len(v) == 1 {
		h["Refresh"] = []string{m.refresh(v[0])}
	}
	for i, cookie := range h["Set-Cookie"] {
		h["Set-Cookie"][i] = m.cookie(cookie)
	}
}

// dropHopByHop removes from a response head what ends here, and what its Connection lists.
func dropHopByHop(h http.Header) {
	listed := connectionListed(h["Connection"], func(name string) bool {
		return name == "Content-Length" || strings.HasPrefix(name, "Sec-Websocket-")
	})
	for name := range listed {
		delete(h, name)
	}
	for _, name := range responseHopByHop {
		delete(h, name)
	}
}

// urlMapping maps a backend's own URLs back to the public ones.
type urlMapping struct {
	hosts                   []string // the backend's authorities, canonical
	publicScheme            string
	publicHost              string
	backendPath, publicPath string // without trailing slash
}

// newURLMapping returns nil where the backend's URLs are the public ones.
func newURLMapping(in *inbound, l *location, target *config.Target) *urlMapping {
	if !l.RewriteResponses {
		return nil
	}
	m := &urlMapping{publicScheme: in.publicScheme(), publicHost: in.publicHost()}
	if target.Path != "" && l.Match.Path != "" {
		m.backendPath = strings.TrimSuffix(target.Path, "/")
		m.publicPath = strings.TrimSuffix(l.Match.Path, "/")
	}
	if m.backendPath == m.publicPath && !l.BackendHost {
		return nil
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
	if !l.BackendHost {
		m.hosts = append(m.hosts, host.Authority(scheme, in.host), host.Authority(m.publicScheme, m.publicHost))
	}
	return m
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

// path maps a path, with whatever query follows it, where it begins with the backend's path on a segment boundary.
func (m *urlMapping) path(p string) (string, bool) {
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
