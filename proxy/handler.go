package proxy

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"wstunnel/internal/head"
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

	status int   // that was answered; 0 for none
	sent   int64 // bytes of the answer's body

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
	w := newResponseWriter(rw, r, client)
	x := s.newExchange(r.Context(), headOf(r), client.origin)
	x.client = client
	defer w.sendHeld()
	defer func() {
		x.status, x.sent = w.status, w.written
		x.log()
	}()
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
		peer: peer, client: peer, secure: from.secure, port: from.port(),
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
			x.send(w, x.answerFor(refusal(http.StatusBadRequest, "request framing is ambiguous")))
			return
		}
		if x.in.request.Protocol != "" {
			// Frames may follow that request, whatever becomes of it; net/http must not take them for requests.
			w.Header().Set("Connection", "close")
		}
	}
	if r.ProtoMajor > 1 && contradicts(r) {
		x.answer(w, http.StatusBadRequest, "the request's Content-Length is ambiguous")
		return
	}
	if a := x.answerForChallenge(); a != nil {
		x.send(w, a)
		return
	}
	d := x.decide()
	x.tell(d)
	var hsts head.Fields
	x.addHSTS(&hsts)
	for _, f := range hsts {
		w.Header()[f.Name] = []string{f.Value}
	}
	switch d.action {
	case openTunnel:
		x.upgrade(w, r)
	case forwardHTTP:
		x.forward(w, r, x.location.http)
	case serveStatic:
		x.static(w)
	default:
		x.send(w, x.answerFor(d))
	}
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
