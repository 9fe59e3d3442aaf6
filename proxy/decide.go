package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"wstunnel/internal/access"
	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/host"
	"wstunnel/internal/rewrite"
	"wstunnel/internal/route"
)

// decision is what is to become of a request.
type decision struct {
	action   action
	status   int    // of a refusal or redirect
	reason   string // for the client to read
	location string // where a redirect leads
	// retryAfter is when the client may ask again, in seconds; empty for nothing said.
	retryAfter string
	err        error  // for the log, where the reason does not say it all
	hint       string // for the log, once an hour: what the operator may have meant
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
	servePHP
	respond    // as the location says
	giveStatus // that try_files ends in
)

func refusal(status int, reason string) decision {
	return decision{action: refuseRequest, status: status, reason: reason}
}

// decide finds out what becomes of a request, whose head its decoder has checked: it finds the site, the path and the location, which it leaves in the
// exchange. It does no I/O.
func (x *exchange) decide() decision {
	r := x.in.Request
	if d, refused := checkMethod(r); refused {
		return d
	}
	if x.extended && r.Protocol != "websocket" {
		return refusal(http.StatusNotImplemented, ":protocol "+head.Quoted(r.Protocol)+" is not served")
	}
	if x.in.Returned() {
		d := refusal(http.StatusLoopDetected, "this request has been here before")
		d.err = errors.New("the request came back from where this server had sent it: a target leads here")
		return d
	}
	if x.site = x.gen.table.site(r.Host); x.site == nil {
		return refusal(http.StatusNotFound, "no site is configured for this host")
	}
	x.in.SiteName = x.site.name
	if r.Target == "*" {
		return decision{action: answerOptions}
	}
	raw, _ := route.Split(r.Target)
	path, err := route.Normalise(raw)
	if err != nil {
		return refusal(http.StatusBadRequest, err.Error())
	}
	x.in.Path = path
	if d, decided := x.decideByTLS(); decided {
		return d
	}
	if _, err := x.rewrite(x.site.Rewrites); err != nil {
		return refuseTarget(err)
	}
	return x.route()
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
	r := x.in.Request
	if d, decided = x.decideByHandshake(); decided {
		return d, true
	}
	switch {
	case x.in.Secure && x.site.TLS.Mode == config.TLSOff:
		return refusal(http.StatusMisdirectedRequest, "this host is not served over TLS"), true
	case x.in.Path == caPath && x.site.TLS.Mode == config.TLSSelfSigned:
		return decision{action: giveCA}, true
	case !x.site.redirects() || x.in.PublicScheme() == "https":
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

// decideAt chooses between what the location is for. A GET that asks for a WebSocket goes to the backend of that as it came, whatever its key and
// version: the backend answers in its own words. By any other method it is plain HTTP, with its Upgrade dropped.
func (x *exchange) decideAt(l *location) decision {
	r := x.in.Request
	upgrade := r.Protocol != "" && r.Method == http.MethodGet
	var d decision
	switch {
	case l.Redirect != nil:
		return decision{action: redirect, status: l.Redirect.Status, reason: "this is elsewhere", location: rewrite.URL(l.Redirect.To, x.in.Value)}
	case l.Respond != nil:
		return decision{action: respond, status: l.Respond.Status}
	case l.websocket != nil && upgrade:
		return x.decideByOrigin()
	case l.php != nil:
		d.action = servePHP
	case l.Directory() != "" && (l.http == nil || mayBeFile(r) && !r.HasBody()):
		d.action = serveStatic
	case l.http != nil:
		d.action = forwardHTTP
	case l.websocket != nil:
		return refusal(http.StatusUpgradeRequired, "this location speaks only WebSocket")
	default:
		return refusal(http.StatusNotFound, "no location is configured for this path")
	}
	if upgrade {
		d.hint = hintAtWebSocket(l)
	}
	return d
}

// mayBeFile reports a request that a file can answer, where there is a backend for others.
func mayBeFile(r *head.Request) bool {
	return r.Method == http.MethodGet || r.Method == http.MethodHead
}

// decideByOrigin lets a handshake go on that comes from where it may. Browsers say that truly; programs say what they like, or nothing.
func (x *exchange) decideByOrigin() decision {
	origins := x.location.Access.Origins
	if origins == nil {
		return decision{action: openTunnel}
	}
	said := x.in.Request.Fields.Values(head.Origin)
	switch {
	case len(said) == 0 && origins.Absent:
		return decision{action: openTunnel}
	case len(said) == 1:
		origin := access.Origin(said[0])
		own := origins.Self && origin != "" && origin == access.Origin(x.in.PublicScheme()+"://"+x.in.PublicHost())
		if own || access.OriginAllowed(origin, origins.Exact) {
			return decision{action: openTunnel}
		}
	}
	d := refusal(http.StatusForbidden, "this page may not open a WebSocket here")
	d.err = fmt.Errorf("the origin %s is not one of allowed_origins", head.Quoted(strings.Join(said, ", ")))
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
