package proxy

import (
	"net/netip"
	"strings"

	"wstunnel/internal/head"
)

// inbound is a request head as it came, with what is known of the connection.
type inbound struct {
	request *head.Request
	target  string     // the request target, with the slash that it lacked
	path    string     // its normalised path
	peer    netip.Addr // who connected
	client  netip.Addr // who asked: the peer, or whom trusted proxies name
	secure  bool       // over TLS
	port    string     // the port that was connected to
	// trusted says that the peer is one of trusted_proxies, whose X-Forwarded-* are believed.
	trusted bool
	// loopID is this process in CDN-Loop.
	loopID string
	// subject is whom the client's certificate names, where its site wants one; otherwise empty.
	subject string
	// What else variables stand for.
	siteName   string      // the first host of the site
	tlsVersion uint16      // as in crypto/tls; zero for a plain connection
	user       string      // who has shown a password
	id         string      // see requestID
	captures   captures    // of the location's regex
	oversized  bool        // something is too long for the conditions of a location
	answer     head.Fields // of a backend, as they came
	// granted are the fields that the server of auth_request adds to the request, instead of what the client may have sent by the names in grants.
	granted head.Fields
	grants  []string
	tags    *tags // what the server of auth_request says of a tunnel; nil for nothing
}

// returned reports a request that this process has sent itself: some target leads back to it. CDN-Loop names the proxies that a request has come
// through (RFC 8586); Via, which could do so too, makes servers behind a proxy leave compression off.
func (in *inbound) returned() bool {
	for i := range in.request.Fields {
		if f := &in.request.Fields[i]; f.ID == head.CDNLoop && strings.Contains(f.Value, in.loopID) {
			return true
		}
	}
	return false
}

// publicScheme is how the client connected: to this front end, or to the trusted proxy that says so.
func (in *inbound) publicScheme() string {
	scheme := "http"
	if in.secure {
		scheme = "https"
	}
	if in.trusted {
		scheme = firstOf(in.request.Fields, head.XForwardedProto, scheme)
	}
	return httpScheme(scheme)
}

// publicHost is the host that the client asked for, with its port.
func (in *inbound) publicHost() string {
	if in.trusted {
		return firstOf(in.request.Fields, head.XForwardedHost, in.request.Host)
	}
	return in.request.Host
}

func firstOf(fields head.Fields, id head.ID, otherwise string) string {
	if v := fields.Get(id); v != "" {
		return v
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

// publicPort is the port that the client connected to: of this front end, or of the trusted proxy that says so.
func (in *inbound) publicPort() string {
	port := in.port
	switch scheme := in.publicScheme(); {
	case scheme == "https" && !in.secure:
		port = "443"
	case scheme == "http" && in.secure:
		port = "80"
	}
	if in.trusted {
		port = firstOf(in.request.Fields, head.XForwardedPort, port)
	}
	return port
}
