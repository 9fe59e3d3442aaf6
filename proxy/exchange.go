package proxy

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"wstunnel/internal/head"
)

// exchange is one request, and what becomes of it.
type exchange struct {
	server *Server
	gen    *generation
	from   origin
	ctx    context.Context
	start  time.Time

	in       inbound
	site     *site
	location *location
	backend  string // the address that was used
	slot     *slot  // the right to that connection, once it is a tunnel's; nil where there is no limit

	status int   // that was answered; 0 for none
	sent   int64 // bytes of the answer's body

	err        error // what went wrong, for the log
	brokeOff   bool  // after the answer's head, through no fault of the client's
	clientGone bool
	extended   bool // it began with an extended CONNECT (RFC 8441)
	tunnelled  bool // a tunnel logs for itself
}

func (s *Server) newExchange(ctx context.Context, r *head.Request, from origin) *exchange {
	x := &exchange{
		server: s, gen: s.gen.Load(), from: from, ctx: ctx,
		start: time.Now(),
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

// holder returns what counts as the client's end of the exchange's tunnel.
func (x *exchange) holder() *holder { return &holder{from: x.from, shared: x.extended} }

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

// idempotent reports whether a request can be sent again after a connection broke under it (RFC 9110, section 9.2.2).
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}
