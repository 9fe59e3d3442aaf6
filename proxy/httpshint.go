package proxy

import (
	"net/http"
	"strings"

	"wstunnel/internal/head"
	"wstunnel/internal/host"
	"wstunnel/internal/route"
)

// hintAtHTTPS looks for the redirect of a backend that does not know that its clients come over https: to the https URL that they have
// asked for, again and again, or to plain http, which this site redirects to https.
func (x *exchange) hintAtHTTPS(status int, fields head.Fields) {
	method := x.in.Request.Method
	if status/100 != 3 || x.in.PublicScheme() != "https" || method != http.MethodGet && method != http.MethodHead {
		return
	}
	// One that sets a cookie may mean to see whether it comes back.
	if fields.Count(head.Location) == 1 && !fields.Has(head.SetCookie) && x.isOwnURL(fields.Get(head.Location)) {
		x.server.hints.tell(x.server.log, "a backend redirects an https request to its own URL, and browsers give up: it takes the request for "+
			"plain http, since TLS ends at this server; write `SetEnvIf X-Forwarded-Proto https HTTPS=on` in Apache's configuration; or in PHP, of WordPress at the top of wp-config.php, "+
			"`if (($_SERVER['HTTP_X_FORWARDED_PROTO'] ?? '') === 'https') $_SERVER['HTTPS'] = 'on';`", "site", x.site.name, "location", x.location.pattern)
	}
}

// isOwnURL reports whether a URL leads to what was asked for.
func (x *exchange) isOwnURL(url string) bool {
	scheme, rest, ok := strings.Cut(url, "://")
	scheme = strings.ToLower(scheme)
	if !ok || scheme != "https" && (scheme != "http" || !x.site.redirects()) {
		return false
	}
	authority, target := rest, "/"
	if i := strings.IndexAny(rest, "/?"); i >= 0 {
		authority, target = rest[:i], rest[i:]
	}
	path, query := route.Split(x.in.Target)
	return target == path+query && host.Authority(scheme, authority) == host.Authority(scheme, x.in.PublicHost())
}
