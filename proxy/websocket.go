package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/logs"
	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

// Times that a tunnel's ends are given to answer.
const (
	// halfCloseTimeout ends a tunnel whose one direction has ended and whose other is silent.
	halfCloseTimeout = 30 * time.Second
	// closeTimeout bounds a closing handshake that this front end starts.
	closeTimeout = 5 * time.Second
	// answerTimeout bounds the writing of the 101 to the client.
	answerTimeout = 10 * time.Second
)

// upgrade opens a tunnel: the backend is dialled and its 101 read before the client is answered. Any other answer is
// passed on as an ordinary response (RFC 6455, section 4.2.2; RFC 9110, section 7.8).
func (x *exchange) upgrade(w *responseWriter, r *http.Request) {
	u := x.location.websocket
	resp, err := x.handshake(r, u)
	if err != nil {
		x.fail(w, err)
		return
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		x.refusedUpgrade(w, resp, u)
		return
	}
	if err := x.checkSwitching(fieldsOf(resp.Header)); err != nil {
		x.detach()
		resp.conn.Close()
		x.fail(w, fmt.Errorf("backend's handshake: %w", err))
		return
	}
	if !x.detach() {
		resp.conn.Close()
		x.fail(w, context.Cause(r.Context()))
		return
	}
	x.rewriteSwitching(resp.Response)
	x.server.tunnels.hold()
	there := sync.OnceFunc(x.server.tunnels.release)
	defer there()
	if x.location.Mode == config.ModeRelay {
		x.relay(w, r, resp, there)
		return
	}
	x.join(w, resp)
}

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
	switching := ws.Switching{Upgrade: answer.Values(head.Upgrade), Connection: answer.Values(head.Connection), Accept: answer.Values(head.SecWebSocketAccept)}
	return switching.Check(x.in.request.Fields.Values(head.SecWebSocketKey))
}

// handshake sends the upgrade request and reads the backend's answer. A server that breaks off before the first byte of it has not taken
// the request: it is the next one's.
func (x *exchange) handshake(r *http.Request, u *upstream) (*backendResponse, error) {
	servers := u.attempt()
	for {
		conn, err := x.askForUpgrade(r, servers)
		if conn == nil {
			return nil, err
		}
		var resp *backendResponse
		if err == nil {
			resp, err = conn.readHandshake()
		}
		if err == nil {
			return resp, nil
		}
		x.detach()
		conn.Close()
		err = fmt.Errorf("handshake with %s: %w", conn.pool.address, err)
		if conn.answered || r.Context().Err() != nil {
			return nil, err
		}
		conn.pool.delay()
		if servers.failed(conn.pool, err); len(servers.left) == 0 {
			return nil, servers.err()
		}
	}
}

// readHandshake reads the response that counts.
func (c *backendConn) readHandshake() (*backendResponse, error) {
	for range maxInformational {
		resp, err := c.readResponse(http.MethodGet)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			c.SetDeadline(time.Time{})
			return resp, nil
		}
	}
	return nil, fmt.Errorf("more than %d informational responses", maxInformational)
}

// askForUpgrade returns a connection on which the request was sent, in one write. The connection comes with an error too where the
// sending failed.
func (x *exchange) askForUpgrade(r *http.Request, servers *attempt) (*backendConn, error) {
	conn, err := servers.conn(r.Context(), x.location.Timeouts.Connect, 0)
	if err != nil {
		return nil, err
	}
	x.attach(r.Context(), conn)
	conn.SetDeadline(time.Now().Add(x.location.Timeouts.Handshake))
	_, err = conn.Write(http1.AppendRequest(make([]byte, 0, 1024), x.upgradeRequest()))
	return conn, err
}

// refusedUpgrade passes on a backend's refusal. Both connections end with it: what the client may have sent after its
// request is no request, and what the backend makes of it nobody knows.
func (x *exchange) refusedUpgrade(w *responseWriter, resp *backendResponse, u *upstream) {
	w.Header().Set("Connection", "close")
	_, err := x.respond(w, resp, u)
	x.detach()
	resp.conn.Close()
	if err != nil {
		x.abort(err)
	}
}

// join takes the client's connection over from net/http, answers it and starts the tunnel.
func (x *exchange) join(w *responseWriter, resp *backendResponse) {
	x.slot = resp.conn.slot
	client, err := hijack(w)
	if err != nil {
		resp.conn.Close()
		x.fail(w, err)
		return
	}
	client.Conn.SetWriteDeadline(time.Now().Add(answerTimeout))
	if _, err := client.Conn.Write(switchingHead(resp.Header)); err != nil {
		client.Conn.Close()
		resp.conn.Close()
		x.from.leave()
		x.err, x.clientGone = err, true
		return
	}
	client.Conn.SetDeadline(time.Time{})
	w.status = http.StatusSwitchingProtocols
	x.tunnelled = true
	opts := x.tunnelOptions(fieldsOf(resp.Header))
	x.server.doors.onLoops(&opts)
	x.server.tunnels.start(x.tunnelInfo(fieldsOf(resp.Header)), func(done func(tunnel.Result)) *tunnel.Tunnel {
		t := tunnel.New(client, resp.conn.end(), opts)
		t.Start(done)
		return t
	})
}

// rewriteSwitching changes a backend's 101 to what the client is sent.
func (x *exchange) rewriteSwitching(resp *http.Response) {
	resp.Header = headerOf(rewriteResponse(nil, fieldsOf(resp.Header), resp.StatusCode, &x.in, x.location, x.location.websocket.target))
}

// switchingHead is the head of the client's 101.
func switchingHead(h http.Header) []byte {
	head := append(make([]byte, 0, 256), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"...)
	return append(http1.AppendFields(head, fieldsOf(h), false), "\r\n"...)
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

// hijack takes the client's connection with what net/http has read of it beyond the request.
func hijack(w *responseWriter) (tunnel.End, error) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return tunnel.End{}, err
	}
	client, ok := conn.(*clientConn)
	if !ok {
		conn.Close()
		return tunnel.End{}, errors.New("the hijacked connection is not a client's")
	}
	early, err := buffered.Reader.Peek(buffered.Reader.Buffered())
	if err != nil {
		conn.Close()
		return tunnel.End{}, err
	}
	client.Conn.SetDeadline(time.Time{})
	return tunnel.End{Conn: client.Conn, Early: slices.Concat(early, client.takeAhead())}, nil
}

// maxKept is how much of a string of a peer's is kept with a tunnel.
const maxKept = 256

// tunnelInfo says what a tunnel is, for the log and for whoever asks while it is open. It keeps nothing of the heads themselves.
func (x *exchange) tunnelInfo(fields head.Fields) tunnelInfo {
	kept := func(s string) string { return strings.Clone(logs.Beginning(s, maxKept)) }
	info := tunnelInfo{
		from: x.from, slot: x.slot, Site: x.site.name, Location: x.location.pattern, Host: kept(x.in.request.Host), Path: kept(x.in.path),
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
