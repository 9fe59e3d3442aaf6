package proxy

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"

	"wstunnel/internal/config"
	"wstunnel/internal/fastcgi"
	"wstunnel/internal/http1"
	"wstunnel/internal/upstream"
)

// hint tells what is likely to be wrong with the target of the exchange's location.
func (x *reply) hint(text string) {
	x.server.hints.tell(x.server.log, text, "site", x.site.name, "location", x.location.pattern, "target", x.upstream.Target.URL)
}

// hintAtFailure tells of a server that speaks something else than its target says.
func (x *reply) hintAtFailure(err error) {
	language := upstream.Language("")
	if e, ok := errors.AsType[*upstream.LanguageError](err); ok {
		language = e.Language
	}
	if e, ok := errors.AsType[*http1.NotHTTPError](err); ok {
		language = upstream.LanguageOf([]byte(e.Began))
	}
	if e, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		language = upstream.LanguageOf(e.RecordHeader[:])
	}
	socket := x.in.Request.Protocol != ""
	switch {
	case errors.Is(err, fastcgi.ErrNotFastCGI):
		x.hint("the target of php: speaks no FastCGI: if it is an HTTP server, write `proxy: " + bareTarget(x.upstream.Target) + "` in place of php:")
	case language != "":
		x.hint(hintAtLanguage(language, x.upstream.Target, socket))
	case socket && errors.Is(err, io.EOF):
		x.hint("the target closes the connection at a WebSocket's handshake without a word; its own log may say why: it may know no such path, or be no WebSocket server")
	}
}

// hintAtLanguage says what to write for a target that speaks another language.
func hintAtLanguage(language upstream.Language, target *config.Target, socket bool) string {
	switch {
	case language == upstream.FastCGI && socket:
		return "the target speaks FastCGI, as PHP-FPM does, which knows no WebSockets: a WebSocket server has a port of its own, and that is what to write"
	case language == upstream.FastCGI:
		return "the target speaks FastCGI, as PHP-FPM does, not HTTP: write `php: " + bareTarget(target) + "` in place of http: or proxy:, and `root:` with the directory of the scripts"
	case language == upstream.TLS && target.Scheme == "unix":
		return "the target speaks TLS, in which no Unix socket is asked: let it speak plain HTTP there"
	case language == upstream.TLS:
		return "the target speaks TLS, and was asked without: write `" + withScheme(target, "https", "wss") + "`, and below it tls_ca: with the file of its authority, if that is no public one"
	case language == upstream.PlainHTTP:
		return "the target speaks plain HTTP, and was asked over TLS: write `" + withScheme(target, "http", "ws") + "`"
	}
	return "the target speaks " + string(language) + ", not HTTP: it may be another port that is meant"
}

// bareTarget is a target without its scheme: host:port, a Unix socket or an upstream's name.
func bareTarget(target *config.Target) string {
	if _, rest, ok := strings.Cut(target.URL, "://"); ok {
		return rest
	}
	return target.URL
}

// withScheme is a target with one scheme for pages or another for sockets.
func withScheme(target *config.Target, pages, sockets string) string {
	switch target.Scheme {
	case "ws", "wss":
		return sockets + "://" + bareTarget(target)
	}
	return pages + "://" + bareTarget(target)
}

// hintAtWebSocket says what to write where a location for pages was asked for a WebSocket.
func hintAtWebSocket(l *location) string {
	const asked = "a WebSocket was asked for on a location that has none; "
	if l.HTTP == nil {
		return asked + "if there is a backend for it, write `websocket: ws://127.0.0.1:PORT` in that location"
	}
	socket := "ws://" + bareTarget(l.HTTP)
	switch {
	case l.HTTP.Scheme == "unix":
		socket = l.HTTP.URL
	case l.HTTP.TLS:
		socket = "wss://" + bareTarget(l.HTTP)
	}
	return asked + "if its backend takes them too, write `proxy: " + l.HTTP.URL + "` in place of http:, or `websocket: " + socket + "` beside it"
}

// hintAtLoop tells of a target that is this server itself: what it answers 508 came back.
func (x *reply) hintAtLoop(status int) {
	if status == http.StatusLoopDetected && x.in.Request.Method != "PROPFIND" { // which may be answered so for links (RFC 5842, section 7.2)
		x.hint("the target leads back to this server, or to a proxy that leads back to it; write the backend's own port")
	}
}

// hintAtRefusal tells of a backend that answers a handshake with a page.
func (x *upgrade) hintAtRefusal(status int) {
	switch {
	case status >= 200 && status < 300:
		x.hint("the target answers a WebSocket's handshake with a page: it is a server of pages, whose WebSockets have another port or path, or a proxy that drops the Upgrade")
	case status == http.StatusNotFound:
		x.hint("the target knows no WebSocket at the path that it was asked for (404); a path in the target, as in `" + examplePath(x.upstream.Target) + "`, takes the place of the location's")
	case status == http.StatusUpgradeRequired:
		x.hint("the target got the Upgrade of a handshake and asks for one (426): it is a proxy that drops the Upgrade, or has another version of WebSocket than the client")
	}
}

// examplePath is a target with a path.
func examplePath(target *config.Target) string {
	switch {
	case target.Path != "" || target.Scheme == "unix":
		return "ws://127.0.0.1:9000/socket"
	}
	return target.URL + "/socket"
}

// hintAtComplaint tells of a server with TLS that says in plain HTTP that it was asked without.
func (x *reply) hintAtComplaint(p []byte) {
	if x.status == http.StatusBadRequest && x.sent == 0 && !x.upstream.Target.TLS && upstream.ComplainsOfPlainHTTP(p) {
		x.hint(hintAtLanguage(upstream.TLS, x.upstream.Target, false))
	}
}
