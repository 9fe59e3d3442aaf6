package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
)

// acmeTLS is the ALPN protocol of an ACME authority that checks a TLS-ALPN-01 challenge (RFC 8737, section 6.2).
const acmeTLS = "acme-tls/1"

// challengePath is where an ACME authority asks for the answer to an HTTP-01 challenge (RFC 8555, section 8.3).
const challengePath = "/.well-known/acme-challenge/"

// handshakeInfo is what a client said of itself in its TLS handshake.
type handshakeInfo struct {
	serverName string              // empty if it gave none
	version    uint16              // of TLS, as in crypto/tls
	shown      []*x509.Certificate // with its own first; empty if it was not asked for one
	subject    string              // whom that names (RFC 2253), in printable ASCII
	roots      atomic.Pointer[x509.CertPool]
}

func handshakeInfoOf(state tls.ConnectionState) *handshakeInfo {
	info := &handshakeInfo{serverName: state.ServerName, version: state.Version}
	if len(state.VerifiedChains) > 0 {
		info.shown = state.PeerCertificates
		info.subject = headerText(info.shown[0].Subject.String())
	}
	return info
}

// verifiedBy tells whether the client's certificate is by one of the roots. The handshake has verified it, but for the site
// and the configuration of that moment: it is verified again for each other set of roots, and that is remembered.
func (h *handshakeInfo) verifiedBy(roots *x509.CertPool) bool {
	if h == nil || len(h.shown) == 0 {
		return false
	}
	if h.roots.Load() == roots {
		return true
	}
	options := x509.VerifyOptions{
		Roots: roots, Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	for _, cert := range h.shown[1:] {
		options.Intermediates.AddCert(cert)
	}
	if _, err := h.shown[0].Verify(options); err != nil {
		return false
	}
	h.roots.Store(roots)
	return true
}

// headerText makes a distinguished name fit for a header: bytes that are not printable ASCII become \XX (RFC 2253, section
// 2.4). Who issues certificates for clients may put line ends into names.
func headerText(name string) string {
	var text strings.Builder
	for _, b := range []byte(name) {
		if b < ' ' || b > '~' {
			fmt.Fprintf(&text, `\%02X`, b)
		} else {
			text.WriteByte(b)
		}
	}
	return text.String()
}

// decideByHandshake refuses requests that the connection's handshake was not made for. A site with certificates for clients is
// never served to one that has shown none, be it over plain HTTP behind a trusted proxy.
func (x *exchange) decideByHandshake() (d decision, decided bool) {
	r := x.in.Request
	switch {
	case x.in.Secure && x.gen.certs.Misdirected(x.from.handshake.serverName, r.Host):
		return refusal(http.StatusMisdirectedRequest, "the connection was made for another host"), true
	case x.site.ClientCAs == nil:
		return decision{}, false
	case x.in.Secure && !x.from.handshake.verifiedBy(x.site.ClientCAs):
		// The connection is older than the rule, or was made for another site: a new one is asked for the right certificate.
		return refusal(http.StatusMisdirectedRequest, "this host wants a certificate of its clients"), true
	case !x.in.Secure && (x.in.PublicScheme() == "https" || r.Protocol != ""):
		d = refusal(http.StatusForbidden, "this host wants a certificate of its clients")
		d.err = errors.New("a site with client_ca was asked for over plain HTTP")
		return d, true
	}
	if x.in.Secure {
		x.in.Subject = x.from.handshake.subject
	}
	return decision{}, false
}

// redirects tells whether the site's plain HTTP leads to https. Where clients need a certificate there is no other way.
func (s *site) redirects() bool { return s.RedirectHTTPS || s.ClientCAs != nil }

// firstCertificatePause is how long a client waits before it asks again for a site whose certificate is on its way, in seconds.
const firstCertificatePause = "5"

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
