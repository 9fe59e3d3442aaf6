package proxy

import (
	"errors"
	"net/http"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/host"
	"wstunnel/internal/route"
)

// decision is what is to become of a request.
type decision struct {
	action   action
	status   int    // of a refusal or redirect
	reason   string // for the client to read
	location string // where a redirect leads
	err      error  // for the log, where the reason does not say it all
	hint     string // for the log, once an hour: what the operator may have meant
}

type action int

const (
	refuseRequest action = iota
	answerOptions        // OPTIONS *
	giveCA               // the local CA's certificate
	redirect
	awaitCertificate // a page that comes again until there is something to redirect to
	openTunnel
	forwardHTTP
	serveStatic
)

func refusal(status int, reason string) decision {
	return decision{action: refuseRequest, status: status, reason: reason}
}

// decide finds out what becomes of a request, whose head its decoder has checked: it finds the site, the path and the location, which it leaves in the
// exchange. It does no I/O.
func (x *exchange) decide() decision {
	r := x.in.request
	if d, refused := checkMethod(r); refused {
		return d
	}
	if x.extended && r.Protocol != "websocket" {
		return refusal(http.StatusNotImplemented, ":protocol "+head.Quoted(r.Protocol)+" is not served")
	}
	if x.in.returned() {
		d := refusal(http.StatusLoopDetected, "this request has been here before")
		d.err = errors.New("the request came back from where this server had sent it: a target leads here")
		return d
	}
	if x.site = x.gen.table.site(r.Host); x.site == nil {
		return refusal(http.StatusNotFound, "no site is configured for this host")
	}
	if r.Target == "*" {
		return decision{action: answerOptions}
	}
	raw, query := route.Split(r.Target)
	path, err := route.Normalise(raw)
	if err != nil {
		return refusal(http.StatusBadRequest, err.Error())
	}
	x.in.path = path
	if d, decided := x.decideByTLS(); decided {
		return d
	}
	location, lacksSlash, err := x.site.locations.Find(path)
	x.location = location
	switch {
	case err != nil:
		return refusal(http.StatusRequestURITooLong, err.Error())
	case location == nil:
		return refusal(http.StatusNotFound, "no location is configured for this path")
	case lacksSlash && r.Protocol == "":
		return decision{
			action: redirect, status: http.StatusMovedPermanently, reason: "this path ends in a slash",
			location: route.Escape(path) + "/" + query,
		}
	case lacksSlash: // clients of WebSocket follow no redirects
		x.in.path, x.in.target = path+"/", raw+"/"+query
	}
	return location.decide(r)
}

// checkMethod refuses what no site is to see.
func checkMethod(r *head.Request) (d decision, refused bool) {
	if r.Method != http.MethodConnect && r.Method != http.MethodTrace {
		return decision{}, false
	}
	return refusal(http.StatusMethodNotAllowed, r.Method+" is not served"), true
}

// caPath is where a self-signed site offers the certificate of the local CA, for browsers to trust.
const caPath = "/.well-known/wstunnel/ca.pem"

// decideByTLS decides what the site's TLS settings do: whether the request came by the right door.
func (x *exchange) decideByTLS() (d decision, decided bool) {
	r := x.in.request
	if d, decided = x.decideByHandshake(); decided {
		return d, true
	}
	switch {
	case x.in.secure && x.site.TLS.Mode == config.TLSOff:
		return refusal(http.StatusMisdirectedRequest, "this host is not served over TLS"), true
	case x.in.path == caPath && x.site.TLS.Mode == config.TLSSelfSigned:
		return decision{action: giveCA}, true
	case !x.site.redirects() || x.in.publicScheme() == "https":
		return decision{}, false
	case x.gen.certs.Pending(r.Host):
		plainly := x.site.RedirectWhenReady && x.site.ClientCAs == nil
		return decision{action: awaitCertificate}, !plainly
	case r.Protocol != "":
		d = refusal(http.StatusForbidden, "use wss://")
		d.err = errors.New("ws:// was asked for on a site with redirect_https; the page should use wss://")
		return d, true
	case r.Host == "":
		return refusal(http.StatusBadRequest, "this site is served over https, and the request names no host to redirect to"), true
	}
	public, _ := host.Split(r.Host)
	if port := x.gen.tlsPort; port != "443" {
		public += ":" + port
	}
	raw, query := route.Split(r.Target)
	return decision{
		action: redirect, status: http.StatusPermanentRedirect, reason: "this site is served over https",
		location: "https://" + public + raw + query,
	}, true
}

// decide chooses between what a location is for. A GET that asks for a WebSocket goes to the backend of that as it came, whatever its key and
// version: the backend answers in its own words. By any other method it is plain HTTP, with its Upgrade dropped.
func (l *location) decide(r *head.Request) decision {
	upgrade := r.Protocol != "" && r.Method == http.MethodGet
	var d decision
	switch {
	case l.websocket != nil && upgrade:
		return decision{action: openTunnel}
	case l.http != nil:
		d.action = forwardHTTP
	case l.Static != "":
		d.action = serveStatic
	default:
		return refusal(http.StatusUpgradeRequired, "this location speaks only WebSocket")
	}
	if upgrade {
		d.hint = "a WebSocket was asked for on a location that has none; if there is a backend for it, write websocket: and its URL in that location"
	}
	return d
}

// onlyTunnel refuses to do anything else for an extended CONNECT, of which any 2xx says that it is open (RFC 8441, section 4).
func onlyTunnel(d decision) decision {
	switch d.action {
	case openTunnel, refuseRequest, redirect:
		return d
	}
	refused := refusal(http.StatusNotImplemented, "no WebSocket is served here")
	refused.hint = d.hint
	return refused
}
