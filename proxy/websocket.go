package proxy

import (
	"net/http"
	"slices"
	"strings"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/logs"
	"wstunnel/internal/relay"
	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

// Times that a tunnel's ends are given to answer.
const (
	// halfCloseTimeout ends a tunnel whose one direction has ended and whose other is silent.
	halfCloseTimeout = 30 * time.Second
	// closeTimeout bounds a closing handshake that this front end starts.
	closeTimeout = 5 * time.Second
)

// upgradeRequest makes the head that a backend is sent.
func (x *exchange) upgradeRequest() *head.Request {
	out := rewriteRequest(nil, &x.in, x.location, x.location.websocket.target, x.in.request.Protocol)
	if x.location.Mode == config.ModeRelay { // each side has extensions of its own
		out.Fields = slices.DeleteFunc(out.Fields, func(f head.Field) bool { return f.ID == head.SecWebSocketExtensions })
	}
	return out
}

// checkSwitching checks a backend's 101.
func (x *exchange) checkSwitching(answer head.Fields) error {
	request := x.in.request.Fields
	switching := ws.Switching{Upgrade: answer.Values(head.Upgrade), Connection: answer.Values(head.Connection), Accept: answer.Values(head.SecWebSocketAccept)}
	if err := switching.Check(request.Values(head.SecWebSocketKey)); err != nil || x.location.Mode != config.ModeRelay {
		return err
	}
	return relay.CheckAnswer(request, answer)
}

// tunnelOptions are those of a tunnel whose handshake ended with the given header.
func (x *exchange) tunnelOptions(fields head.Fields) tunnel.Options {
	return tunnel.Options{
		Extensions:       fields.Has(head.SecWebSocketExtensions),
		IdleTimeout:      x.location.Timeouts.TunnelIdle,
		HalfCloseTimeout: halfCloseTimeout,
		CloseTimeout:     closeTimeout,
		Ping:             x.location.Ping,
	}
}

// maxKept is how much of a string of a peer's is kept with a tunnel.
const maxKept = 256

// tunnelInfo says what a tunnel is, for the log and for whoever asks while it is open. It keeps nothing of the heads themselves.
func (x *exchange) tunnelInfo(fields head.Fields) tunnelInfo {
	kept := func(s string) string { return strings.Clone(logs.Beginning(s, maxKept)) }
	info := tunnelInfo{
		holder: *x.holder(), slot: x.slot, Site: x.site.name, Location: x.location.pattern, Host: kept(x.in.request.Host), Path: kept(x.in.path),
		Backend: x.backend, access: x.accessLog(), Subprotocol: kept(fields.Get(head.SecWebSocketProtocol)), Mode: x.location.Mode,
	}
	info.from.handshake = nil // of no more use
	if log := x.accessLog(); log != nil && log.Format() == logs.Combined {
		r := x.logged(log)
		info.line = &logs.Request{
			Client: r.Client, Method: http.MethodGet, Proto: r.Proto, Status: http.StatusSwitchingProtocols,
			Target: kept(r.Target), Referer: kept(r.Referer), UserAgent: kept(r.UserAgent),
		}
	}
	if x.in.client != x.in.peer {
		info.Named = x.in.client
	}
	return info
}
