package probe

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"wstunnel/internal/upstream"
	"wstunnel/internal/ws"
)

// refused says why an answer has another status than 101.
func (p *probe) refused(a *answer) *failure {
	switch a.Status {
	case http.StatusBadRequest:
		return p.badRequest(a)
	case http.StatusUnauthorized:
		return p.unauthorized(a)
	case http.StatusForbidden:
		return p.forbidden(a)
	case http.StatusNotFound, http.StatusGone:
		if front := a.frontEnd(); front != "" {
			return fail(Refused, fmt.Sprintf("There is nothing at %s on this server (%d): %s itself says so, and has asked no backend.", p.path(), a.Status, front),
				"see whether the path is right to the letter, with its slash at the end or without",
				"see whether the name leads to the right site of "+front+", and whether that has a location of this path that leads to the WebSocket's port")
		}
		return fail(Refused, fmt.Sprintf("There is nothing at %s on this server (%d).", p.path(), a.Status),
			"see whether the path is right to the letter, with its slash at the end or without",
			"see whether the name leads to the right site of the server: its log tells of this request, or does not",
			"in wstunnel `wstunnel explain "+p.Target.String()+"` says which site and location take it",
			"where the backend knows another path than the public one, the front end has to map it: probe the backend itself")
	case http.StatusMethodNotAllowed:
		return fail(Refused, "What is at "+p.path()+" takes no GET (405), with which each WebSocket begins: it is no WebSocket server.",
			"see whether the path is right", "see whether a proxy on the way sends this path to the WebSocket's port")
	case http.StatusMisdirectedRequest:
		return fail(Refused, "The server was asked for another host than the TLS handshake was made for (421).",
			"the name in the URL and -H 'Host: ...' have to be one", "where they are, the server's certificate or site does not cover the name: see its log")
	case http.StatusUpgradeRequired:
		return p.upgradeRequired(a)
	case http.StatusTooManyRequests:
		advice := "wait before the next try, and see who else asks from this address"
		if after := a.field("Retry-After"); after != "" {
			advice = "wait for what Retry-After says (" + shortened(after) + ") before the next try"
		}
		return fail(Refused, "The server was asked too often (429).", advice, "a page that opens a socket again at once after each failure causes this: let it wait longer each time")
	}
	switch a.Status / 100 {
	case 2:
		return fail(Refused, fmt.Sprintf("A page was served in place of a WebSocket (%d): what answers does not know that %s is one, or a proxy on the way has dropped the Upgrade header.",
			a.Status, p.path()), append([]string{"see whether the path is right"}, p.passOn(a)...)...)
	case 3:
		return p.redirected(a)
	case 5:
		return p.serverFailed(a)
	}
	return fail(Refused, fmt.Sprintf("The server refuses the request (%d %s).", a.Status, http.StatusText(a.Status)), "see the log of whoever answered")
}

// path is what was asked for, without its query.
func (p *probe) path() string { return p.Target.url.EscapedPath() }

// passOn says how a proxy is told to pass an upgrade on; where it is known which one answered, of that one alone.
func (p *probe) passOn(a *answer) []string {
	path := p.path()
	nginx := `where nginx is on the way, its location needs: proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";`
	apache := fmt.Sprintf(`where Apache is on the way, before ProxyPass "/", with mod_proxy_wstunnel: ProxyPass "%s" "ws://127.0.0.1:PORT%s"`, path, path)
	switch server := strings.ToLower(a.field("Server")); {
	case strings.HasPrefix(server, "nginx"), strings.HasPrefix(server, "openresty"):
		return []string{nginx}
	case strings.HasPrefix(server, "apache"):
		return []string{apache}
	}
	return []string{nginx, apache, "where wstunnel is on the way, its location needs `websocket:` or `proxy:` with the target, not only `http:`"}
}

// badRequest says why a handshake is taken for no request.
func (p *probe) badRequest(a *answer) *failure {
	body := strings.ToLower(string(a.body))
	says := func(texts ...string) bool {
		return slices.ContainsFunc(texts, func(text string) bool { return strings.Contains(body, text) })
	}
	switch {
	case upstream.ComplainsOfPlainHTTP(a.body):
		return fail(Refused, "The port "+p.port()+" speaks TLS, and was asked without (400).", "write "+p.Target.withScheme(true))
	case says("no required ssl certificate"):
		return fail(Refused, "The server wants a certificate of its clients, and this probe has none (400).", withoutCertificate)
	case says("transport unknown"):
		return fail(Refused, "This is socket.io (or Engine.IO), which was asked without its parameters (400).", "probe with ?EIO=4&transport=websocket behind the path")
	case says("session id unknown"):
		return fail(Refused, "This is socket.io, and the server that answered does not know the session (400).",
			"where there are several servers behind a proxy, one client's requests have to reach the same one", "leave sid out of the URL")
	case says("upgrade", "connection header", "valid http request", "websocket"):
		return fail(Refused, "The WebSocket server takes this for no handshake (400): a proxy on the way has dropped the Upgrade header, or asks over HTTP/1.0.", p.passOn(a)...)
	}
	advice := []string{
		"see the log of whoever answered",
		"see whether -H 'Host: ...' names a host that the server knows",
	}
	if a.field("Server") != "" {
		advice = append(advice, p.passOn(a)...)
	}
	return fail(Refused, "The server takes the request for malformed (400).", advice...)
}

func (p *probe) unauthorized(a *answer) *failure {
	cause := "The server wants to know who asks (401)."
	advice := []string{
		"probe with what the page sends: -H 'Cookie: ...' as its browser has it, or -H 'Authorization: ...'",
		"a page cannot set headers on a WebSocket: a token has to be in a cookie, in the URL, in a subprotocol or in the first message",
	}
	if scheme := a.field("WWW-Authenticate"); strings.HasPrefix(strings.ToLower(scheme), "basic") {
		advice[0] = "probe with user and password in the URL: " + strings.Replace(p.Target.String(), "://", "://USER:PASSWORD@", 1)
	}
	return fail(Refused, cause, advice...)
}

func (p *probe) forbidden(a *answer) *failure {
	front := a.frontEnd()
	switch {
	case front != "":
		return fail(Refused, front+" itself refuses this client (403), and has asked no backend.",
			"see which rule its error log names: addresses (deny, Require ip), users, or a directory without an index",
			"see whether a location of this path leads to the WebSocket's port")
	case !p.Target.secure && strings.Contains(string(a.body), "use wss://"):
		return fail(Refused, "The site is served over https only (403).", "write "+p.Target.withScheme(true))
	case p.sentOrigin() == "":
		return fail(Refused, "The server lets this request in from nobody, or not without an Origin (403): browsers always send one.",
			"probe with the page's origin: --origin https://example.com", "see whether addresses or users are refused: the log of whoever answered")
	}
	return fail(Refused, "The server refuses this client (403): as a rule the origin, which was "+p.sentOrigin()+".",
		"let the server allow the origin of the page, scheme and port included (allowed_origins in wstunnel, CheckOrigin, allowedOrigins, ALLOWED_HOSTS)",
		"where the page is of another origin, probe with that: --origin https://example.com",
		"see whether addresses are refused, or a login is missing: the log of whoever answered")
}

// frontEnd names the front end whose own error page an answer is; empty for any other answer.
func (a *answer) frontEnd() string {
	body := string(a.body)
	switch {
	case strings.Contains(body, "<center>nginx"):
		return "nginx"
	case strings.Contains(body, "<p>You don't have permission to access this resource."), strings.Contains(body, "<p>The requested URL was not found on this server."):
		return "Apache"
	}
	return ""
}

// sentOrigin is the Origin of the request.
func (p *probe) sentOrigin() string {
	value, _ := p.request().Fields.Lookup("Origin")
	return value
}

func (p *probe) upgradeRequired(a *answer) *failure {
	if versions := a.field("Sec-WebSocket-Version"); versions != "" && !ws.HasToken([]string{versions}, ws.Version) {
		return fail(Refused, "The server speaks only the versions "+shortened(versions)+" of WebSocket (426), and browsers only "+ws.Version+".", "let the server have a library of this decade")
	}
	return fail(Refused, "The WebSocket server got no Upgrade header (426), which was sent: a proxy on the way has dropped it.", p.passOn(a)...)
}

// serverFailed says what failed behind a status of the 5xx.
func (p *probe) serverFailed(a *answer) *failure {
	log := "the log of the front end says which backend it asked, and what went wrong (journalctl -u wstunnel; error.log of nginx and Apache)"
	backend := "probe the backend itself, where the front end runs: wstunnel probe ws://127.0.0.1:PORT" + p.path()
	switch a.Status {
	case http.StatusBadGateway:
		return fail(Refused, "The front end could not reach its backend, or got no valid answer of HTTP from it (502).",
			"see whether the backend runs, and on the port that the front end asks", log, backend)
	case http.StatusServiceUnavailable:
		advice := []string{"see whether the backend runs, or has too much to do", log, backend}
		if strings.HasPrefix(strings.ToLower(a.field("Server")), "apache") {
			advice = append(advice, "Apache leaves a backend alone for 60 s that did not answer once: retry=0 behind ProxyPass lets it try again")
		}
		if after := a.field("Retry-After"); after != "" {
			advice = append(advice, "the server itself says when to try again: Retry-After "+shortened(after))
		}
		return fail(Refused, "Nobody serves this at the moment (503): the backend is down, in maintenance, or has too much to do.", advice...)
	case http.StatusGatewayTimeout:
		return fail(Refused, "The backend behind the front end did not answer in time (504).",
			"see what the backend does while it is asked: it may wait for a database, or speak another protocol", log, backend)
	case http.StatusLoopDetected:
		return fail(Refused, "The request came back to the front end that had sent it (508): a target of the front end leads to the front end itself.",
			"the front end's log says which location; its target has to be the backend's own port")
	case http.StatusHTTPVersionNotSupported:
		return fail(Refused, "The server does not speak HTTP/1.1 (505).", "see what program answers there")
	}
	return fail(Refused, fmt.Sprintf("The server failed while it answered (%d %s).", a.Status, http.StatusText(a.Status)),
		"see the log of the backend: its handler for "+p.path()+" failed", backend)
}

// redirected says where a redirect leads; no client of WebSocket follows one.
func (p *probe) redirected(a *answer) *failure {
	const rule = "browsers follow no redirect of a WebSocket"
	to, err := p.page().Parse(a.field("Location"))
	if a.field("Location") == "" || err != nil {
		return fail(Refused, fmt.Sprintf("The server redirects (%d) to nowhere; %s.", a.Status, rule), "see the log of whoever answered")
	}
	from := p.page()
	cause := func(what string) string {
		return fmt.Sprintf("The server redirects (%d) %s; %s.", a.Status, what, rule)
	}
	sameHost := strings.EqualFold(to.Hostname(), from.Hostname())
	sameURI := to.RequestURI() == from.RequestURI()
	secure := to.Scheme == "https" || to.Scheme == "wss"
	switch {
	case sameHost && sameURI && secure && !p.Target.secure:
		return fail(Refused, cause("from http to https"), "write "+asWebSocket(to))
	case sameHost && sameURI && p.Target.secure:
		return fail(Refused, cause("to its own URL ("+shortened(to.String())+")"),
			"the backend takes the request for plain http, since the TLS ended at a front end: let it look at X-Forwarded-Proto",
			"in Apache: SetEnvIf X-Forwarded-Proto https HTTPS=on; in PHP: if (($_SERVER['HTTP_X_FORWARDED_PROTO'] ?? '') === 'https') $_SERVER['HTTPS'] = 'on';")
	case sameHost && to.EscapedPath() == from.EscapedPath()+"/":
		return fail(Refused, cause("to the same path with a slash at its end"), "write "+asWebSocket(to))
	case looksLikeLogin(to.EscapedPath()):
		return fail(Refused, cause("to a page to log in at ("+shortened(to.String())+")"),
			"probe with the cookie of somebody who has: -H 'Cookie: ...'", "see whether the cookie reaches this path: its Path, Domain, Secure and SameSite")
	}
	return fail(Refused, cause("to "+shortened(to.String())), "write "+asWebSocket(to)+" if that is where the WebSocket is", "see whether the path is right")
}

// page is the URL as HTTP has it.
func (p *probe) page() *url.URL {
	u := *p.Target.url
	u.Scheme, u.Host, u.User, u.Fragment = "http", p.Target.authority, nil, ""
	if p.Target.secure {
		u.Scheme = "https"
	}
	return &u
}

// asWebSocket shows a URL with the scheme of a WebSocket.
func asWebSocket(u *url.URL) string {
	shown := *u
	switch shown.Scheme {
	case "https":
		shown.Scheme = "wss"
	case "http":
		shown.Scheme = "ws"
	}
	return shortened(shown.String())
}

// looksLikeLogin reports a path whose name says that one logs in there.
func looksLikeLogin(path string) bool {
	path = strings.ToLower(path)
	return slices.ContainsFunc([]string{"login", "signin", "sign_in", "sign-in", "auth", "sso"}, func(word string) bool { return strings.Contains(path, word) })
}
