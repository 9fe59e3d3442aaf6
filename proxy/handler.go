package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/ws"
)

// exchange is one request, and what becomes of it.
type exchange struct {
	server     *Server
	gen        *generation
	client     *clientConn
	ctx        context.Context
	start      time.Time
	protoMajor int
	proto10    bool

	in       inbound
	site     *site
	location *location
	backend  string // the address that was used

	stopCancel func() bool // see attach

	err        error // what went wrong, for the log
	clientGone bool
	tunnelled  bool // a tunnel logs for itself
	logged     bool // so was a refused head
}

// ServeHTTP answers one request of any protocol version.
func (s *Server) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	client, streams := clientConnOf(r)
	if streams != nil {
		streams.begun()
		defer streams.answered()
	} else {
		defer client.answered()
	}
	w := newResponseWriter(rw, r)
	x := s.newExchange(r, client)
	defer x.log(w, r)
	defer x.recover()
	defer w.end()
	x.serve(w, r)
}

// recover keeps a fault in the handling of one request to that request: its client's connection ends, and the log says where.
func (x *exchange) recover() {
	fault := recover()
	if fault == nil {
		return
	}
	if fault != http.ErrAbortHandler {
		x.err = fmt.Errorf("internal fault: %v", fault)
		x.server.log.Error("internal fault", "fault", fault, "path", x.in.path, "stack", string(debug.Stack()))
	}
	panic(http.ErrAbortHandler)
}

func (s *Server) newExchange(r *http.Request, c *clientConn) *exchange {
	x := &exchange{
		server: s, gen: s.gen.Load(), client: c, ctx: r.Context(),
		start: time.Now(), protoMajor: r.ProtoMajor, proto10: !r.ProtoAtLeast(1, 1),
	}
	peer := c.remote.Addr()
	x.in = inbound{
		method: r.Method, target: r.RequestURI, host: r.Host, header: r.Header,
		peer: peer, client: peer, secure: c.tls != nil, port: c.listener.port,
		trusted: x.gen.trusts(peer),
	}
	if x.in.trusted {
		x.in.client = x.gen.clientOf(peer, r.Header["X-Forwarded-For"])
	}
	return x
}

// serve decides who answers. It reads straight down: the head, the site, the path, the location.
func (x *exchange) serve(w *responseWriter, r *http.Request) {
	if err := x.checkHead(r); err != nil {
		if r.ProtoMajor == 1 {
			w.Header().Set("Connection", "close")
		}
		x.answer(w, err.status, err.reason)
		return
	}
	if x.site = x.gen.table.site(r.Host); x.site == nil {
		x.answer(w, http.StatusNotFound, "no site is configured for this host")
		return
	}
	if r.RequestURI == "*" {
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
		return
	}
	raw, _ := splitTarget(r.RequestURI)
	path, err := normalisePath(raw)
	if err != nil {
		x.answer(w, http.StatusBadRequest, err.Error())
		return
	}
	x.in.path = path
	if x.servedByTLS(w, r) {
		return
	}
	if x.location = x.site.location(path); x.location == nil {
		x.answer(w, http.StatusNotFound, "no location is configured for this path")
		return
	}
	x.dispatch(w, r)
}

// checkHead refuses what no site is to see.
func (x *exchange) checkHead(r *http.Request) *headError {
	if r.ProtoMajor == 1 {
		if err := x.client.verdict(); err != nil {
			x.logged = true
			return err
		}
	} else if err := checkPseudoHeaders(r); err != nil {
		return err
	}
	switch {
	case !validHost(r.Host) || r.Host == "" && r.ProtoMajor > 1:
		return badHead("Host is no host name or address")
	case r.Method == http.MethodConnect || r.Method == http.MethodTrace:
		return &headError{http.StatusMethodNotAllowed, r.Method + " is not served"}
	case r.RequestURI == "*" && r.Method != http.MethodOptions:
		return badHead("request target * is for OPTIONS only")
	}
	return nil
}

// checkPseudoHeaders checks what an HTTP/2 request line will be made of (RFC 9113, section 8.3.1).
func checkPseudoHeaders(r *http.Request) *headError {
	if other := r.Header["Host"]; len(other) > 0 && !strings.EqualFold(other[0], r.Host) {
		return badHead("Host contradicts :authority")
	}
	if r.Method != http.MethodConnect && r.RequestURI != "*" && !strings.HasPrefix(r.RequestURI, "/") {
		return badHead(":path %s does not begin with a slash", quoted(r.RequestURI))
	}
	return checkTarget(r.Method, r.RequestURI)
}

// caPath is where a self-signed site offers the certificate of the local CA, for browsers to trust.
const caPath = "/.well-known/wstunnel/ca.pem"

// servedByTLS answers what the site's TLS settings decide: whether the request came by the right door.
func (x *exchange) servedByTLS(w *responseWriter, r *http.Request) bool {
	hasTLS := x.site.TLS.Mode != config.TLSOff
	switch {
	case x.in.secure && !hasTLS:
		x.answer(w, http.StatusMisdirectedRequest, "this host is not served over TLS")
	case x.in.path == caPath && x.site.TLS.Mode == config.TLSSelfSigned:
		w.Header().Set("Content-Type", "application/x-x509-ca-cert")
		w.Header().Set("Content-Disposition", `attachment; filename="wstunnel-ca.pem"`)
		w.Write(x.gen.ca)
	case !x.in.secure && x.site.RedirectHTTPS && x.forwardedProto(r) != "https":
		x.redirectHTTPS(w, r)
	default:
		return false
	}
	return true
}

// forwardedProto is what a trusted proxy says of how the client connected to it.
func (x *exchange) forwardedProto(r *http.Request) string {
	if !x.in.trusted {
		return ""
	}
	return httpScheme(firstOf(r.Header, "X-Forwarded-Proto", "http"))
}

func (x *exchange) redirectHTTPS(w *responseWriter, r *http.Request) {
	if ws.WantsUpgrade(r) {
		x.err = errors.New("ws:// was asked for on a site with redirect_https; the page should use wss://")
		w.Header().Set("Connection", "close")
		x.answer(w, http.StatusForbidden, "use wss://")
		return
	}
	if r.Host == "" {
		x.answer(w, http.StatusBadRequest, "this site is served over https, and the request names no host to redirect to")
		return
	}
	host, _ := splitHostPort(r.Host)
	if port := x.gen.tlsPort; port != "443" {
		host += ":" + port
	}
	raw, query := splitTarget(r.RequestURI)
	w.Header().Set("Location", "https://"+host+raw+query)
	x.answer(w, http.StatusPermanentRedirect, "this site is served over https")
}

// dispatch hands the request to what its location is for.
func (x *exchange) dispatch(w *responseWriter, r *http.Request) {
	l := x.location
	wants := ws.WantsUpgrade(r)
	if wants {
		// Frames may follow that request, whatever becomes of it; net/http must not take them for requests.
		w.Header().Set("Connection", "close")
	}
	if wants && l.websocket != nil {
		err := ws.CheckRequest(r)
		switch {
		case err == nil && r.ContentLength != 0:
			x.answer(w, http.StatusBadRequest, "an upgrade request with a body")
			return
		case err == nil:
			x.upgrade(w, r)
			return
		case l.http == nil && l.Static == "":
			x.refuseHandshake(w, err)
			return
		}
	}
	switch {
	case l.http != nil:
		x.forward(w, r, l.http)
	case l.Static != "":
		x.static(w, r)
	default:
		x.offerWebSocket(w)
		x.answer(w, http.StatusUpgradeRequired, "this location speaks only WebSocket")
	}
}

func (x *exchange) refuseHandshake(w *responseWriter, err error) {
	x.err = err
	status := http.StatusBadRequest
	if bad, ok := errors.AsType[*ws.HandshakeError](err); ok {
		status = bad.Status
	}
	if status == http.StatusUpgradeRequired {
		w.Header()["Sec-WebSocket-Version"] = []string{ws.Version}
		x.offerWebSocket(w)
	}
	x.answer(w, status, err.Error())
}

// offerWebSocket names the protocol that a 426 asks for (RFC 9110, section 15.5.22). HTTP/2 knows no Upgrade header (RFC 9113, section 8.2.2).
func (x *exchange) offerWebSocket(w *responseWriter) {
	if x.protoMajor == 1 {
		w.Header().Set("Upgrade", "websocket")
		w.Header().Add("Connection", "Upgrade")
	}
}

// answer sends a short text of this front end's own. The reason is for the client to read; what the operator needs beyond it
// stands in the log.
func (x *exchange) answer(w *responseWriter, status int, reason string) {
	body := fmt.Sprintf("%d %s: %s\n", status, http.StatusText(status), reason)
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	io.WriteString(w, body)
}

// trusts reports whether an address is one of trusted_proxies.
func (g *generation) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(g.cfg.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// clientOf walks X-Forwarded-For from its end, past the proxies that are trusted, to the address that the last
// of them saw.
func (g *generation) clientOf(peer netip.Addr, forwardedFor []string) netip.Addr {
	chain := strings.Split(strings.Join(forwardedFor, ","), ",")
	client := peer
	for _, hop := range slices.Backward(chain) {
		hop = strings.TrimSpace(hop)
		if host, _, err := net.SplitHostPort(hop); err == nil {
			hop = host
		}
		addr, err := netip.ParseAddr(strings.Trim(hop, "[]"))
		if err != nil {
			break
		}
		client = addr.Unmap()
		if !g.trusts(client) {
			break
		}
	}
	return client
}
