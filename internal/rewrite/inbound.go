package rewrite

import (
	"net/netip"
	"strings"

	"wstunnel/internal/head"
	"wstunnel/internal/tags"
)

// Inbound is a request head as it came, with what is known of the connection.
type Inbound struct {
	Request *head.Request
	Target  string     // the request target, with the slash that it lacked
	Path    string     // its normalised path
	Peer    netip.Addr // who connected
	Client  netip.Addr // who asked: the peer, or whom trusted proxies name
	Secure  bool       // over TLS
	Port    string     // the port that was connected to
	// Trusted says that the peer is one of trusted_proxies, whose X-Forwarded-* are believed.
	Trusted bool
	// LoopID is this process in CDN-Loop.
	LoopID string
	// Subject is whom the client's certificate names, where its site wants one; otherwise empty.
	Subject string
	// What else variables stand for.
	SiteName   string      // the first host of the site
	TLSVersion uint16      // as in crypto/tls; zero for a plain connection
	User       string      // who has shown a password
	ID         string      // see RequestID
	Captures   Captures    // of the location's regex
	Oversized  bool        // something is too long for the conditions of a location
	Answer     head.Fields // of a backend, as they came
	// Granted are the fields that the server of auth_request adds to the request, instead of what the client may have sent by the names in grants.
	Granted head.Fields
	Grants  []string
	Tags    *tags.Tags // what the server of auth_request says of a tunnel; nil for nothing
}

// Returned reports a request that this process has sent itself: some target leads back to it. CDN-Loop names the proxies that a request has come
// through (RFC 8586); Via, which could do so too, makes servers behind a proxy leave compression off.
func (in *Inbound) Returned() bool {
	for i := range in.Request.Fields {
		if f := &in.Request.Fields[i]; f.ID == head.CDNLoop && strings.Contains(f.Value, in.LoopID) {
			return true
		}
	}
	return false
}

// PublicScheme is how the client connected: to this front end, or to the trusted proxy that says so.
func (in *Inbound) PublicScheme() string {
	scheme := "http"
	if in.Secure {
		scheme = "https"
	}
	if in.Trusted {
		scheme = firstOf(in.Request.Fields, head.XForwardedProto, scheme)
	}
	return httpScheme(scheme)
}

// PublicHost is the host that the client asked for, with its port.
func (in *Inbound) PublicHost() string {
	if in.Trusted {
		return firstOf(in.Request.Fields, head.XForwardedHost, in.Request.Host)
	}
	return in.Request.Host
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

// PublicPort is the port that the client connected to: of this front end, or of the trusted proxy that says so.
func (in *Inbound) PublicPort() string {
	port := in.Port
	switch scheme := in.PublicScheme(); {
	case scheme == "https" && !in.Secure:
		port = "443"
	case scheme == "http" && in.Secure:
		port = "80"
	}
	if in.Trusted {
		port = firstOf(in.Request.Fields, head.XForwardedPort, port)
	}
	return port
}
