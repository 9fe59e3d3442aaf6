package proxy

import (
	"context"
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

	"wstunnel/internal/head"
	"wstunnel/internal/ws"
)

// exchange is one request, and what becomes of it.
type exchange struct {
	server     *Server
	gen        *generation
	from       origin
	client     *clientConn
	ctx        context.Context
	start      time.Time
	protoMajor int
	proto10    bool

	in       inbound
	site     *site
	location *location
	backend  string // the address that was used
	slot     *slot  // the right to that connection, once it is a tunnel's; nil where there is no limit

	stopCancel func() bool // see attach

	err        error // what went wrong, for the log
	clientGone bool
	tunnelled  bool // a tunnel logs for itself
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
	x := s.newExchange(r.Context(), headOf(r), client.origin)
	x.client = client
	defer x.log(w)
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

func (s *Server) newExchange(ctx context.Context, r *head.Request, from origin) *exchange {
	x := &exchange{
		server: s, gen: s.gen.Load(), from: from, ctx: ctx,
		start: time.Now(), protoMajor: r.Major, proto10: !r.AtLeast11(),
	}
	peer := from.remote.Addr()
	x.in = inbound{
		request: r, target: r.Target,
		peer: peer, client: peer, secure: from.secure, port: from.listener.port,
		trusted: x.gen.trusts(peer), loopID: s.loopID,
	}
	if x.in.trusted {
		x.in.client = x.gen.clientOf(peer, r.Fields.Joined(head.XForwardedFor))
	}
	return x
}

// serve answers the request in the way that was decided for it.
func (x *exchange) serve(w *responseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		if !x.client.handled() {
			x.refuse(w, refusal(http.StatusBadRequest, "request framing is ambiguous"))
			return
		}
		if ws.WantsUpgrade(r) {
			// Frames may follow that request, whatever becomes of it; net/http must not take them for requests.
			w.Header().Set("Connection", "close")
		}
	}
	if r.ProtoMajor > 1 && contradicts(r) {
		x.answer(w, http.StatusBadRequest, "the request's Content-Length is ambiguous")
		return
	}
	if x.answerChallenge(w, r) {
		return
	}
	d := x.decide()
	x.addHSTS(w)
	x.err = d.err
	if d.hint != "" {
		x.server.hints.tell(x.server.log, d.hint, "site", x.site.name, "location", x.location.pattern)
	}
	switch d.action {
	case answerOptions:
		w.Header().Set("Content-Length", "0")
		w.WriteHeader(http.StatusOK)
	case giveCA:
		w.Header().Set("Content-Type", "application/x-x509-ca-cert")
		w.Header().Set("Content-Disposition", `attachment; filename="wstunnel-ca.pem"`)
		w.Write(x.gen.ca)
	case redirect:
		w.Header().Set("Location", d.location)
		x.answer(w, d.status, d.reason)
	case awaitCertificate:
		x.awaitCertificate(w)
	case openTunnel:
		x.upgrade(w, r)
	case forwardHTTP:
		x.forward(w, r, x.location.http)
	case serveStatic:
		x.static(w, r)
	default:
		x.refuse(w, d)
	}
}

func (x *exchange) refuse(w *responseWriter, d decision) {
	switch d.status {
	case http.StatusUpgradeRequired:
		w.Header()["Sec-WebSocket-Version"] = []string{ws.Version}
		x.offerWebSocket(w)
	case http.StatusLoopDetected:
		w.Header().Set("Cache-Control", "no-store")
	case http.StatusBadRequest:
		if x.protoMajor == 1 {
			w.Header().Set("Connection", "close")
		}
	}
	x.answer(w, d.status, d.reason)
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
func (g *generation) clientOf(peer netip.Addr, forwardedFor string) netip.Addr {
	chain := strings.Split(forwardedFor, ",")
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
