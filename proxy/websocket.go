package proxy

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"wstunnel/internal/config"
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
	key := r.Header["Sec-Websocket-Key"][0]
	out := rewriteRequest(&x.in, x.location, u.target)
	out.upgrade = "websocket"
	// A client cannot drop these by naming them in Connection.
	out.header["Sec-Websocket-Key"] = []string{key}
	out.header["Sec-Websocket-Version"] = []string{ws.Version}
	if x.location.Mode == config.ModeRelay {
		delete(out.header, "Sec-Websocket-Extensions") // each side has its own
	}
	resp, err := x.handshake(r, u, out)
	if err != nil {
		x.fail(w, err)
		return
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		x.refusedUpgrade(w, resp, u)
		return
	}
	if err := ws.CheckResponse(resp.Response, key); err != nil {
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
	rewriteResponse(resp.Header, resp.StatusCode, &x.in, x.location, u.target)
	delete(resp.Header, "Content-Length")
	if x.location.Mode == config.ModeRelay {
		x.relay(w, r, resp)
		return
	}
	x.join(w, resp)
}

// handshake sends the upgrade request, in one write, and reads the backend's answer.
func (x *exchange) handshake(r *http.Request, u *upstream, out *outbound) (*backendResponse, error) {
	conn, err := u.conn(r.Context(), x.location.Timeouts.Connect, 0)
	if err != nil {
		return nil, err
	}
	x.attach(r.Context(), conn)
	conn.SetDeadline(time.Now().Add(x.location.Timeouts.Handshake))
	_, err = conn.Write(out.append(make([]byte, 0, 1024)))
	for range maxInformational {
		if err != nil {
			break
		}
		var resp *backendResponse
		resp, err = conn.readResponse(http.MethodGet)
		if err == nil && (resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols) {
			conn.SetDeadline(time.Time{})
			return resp, nil
		}
	}
	x.detach()
	conn.Close()
	if err == nil {
		err = fmt.Errorf("more than %d informational responses", maxInformational)
	}
	return nil, fmt.Errorf("handshake with %s: %w", conn.pool.address, err)
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
	client, err := hijack(w)
	if err != nil {
		resp.conn.Close()
		x.fail(w, err)
		return
	}
	head := append([]byte(nil), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"...)
	head = append(appendHeader(head, resp.Header), "\r\n"...)
	client.Conn.SetWriteDeadline(time.Now().Add(answerTimeout))
	if _, err := client.Conn.Write(head); err != nil {
		client.Conn.Close()
		resp.conn.Close()
		x.err, x.clientGone = err, true
		return
	}
	client.Conn.SetDeadline(time.Time{})
	t := tunnel.New(client, resp.conn.end(), tunnel.Options{
		Extensions:       len(resp.Header["Sec-Websocket-Extensions"]) > 0,
		IdleTimeout:      x.location.Timeouts.TunnelIdle,
		HalfCloseTimeout: halfCloseTimeout,
		CloseTimeout:     closeTimeout,
	})
	w.status = http.StatusSwitchingProtocols
	x.tunnelled = true
	x.server.tunnels.start(x.tunnelInfo(resp.Header.Get("Sec-Websocket-Protocol")), t)
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
	return tunnel.End{Conn: client.Conn, Early: append([]byte(nil), early...)}, nil
}

// end hands the connection over with what was read of it beyond the response head.
func (c *backendConn) end() tunnel.End {
	early, _ := c.br.Peek(c.br.Buffered())
	return tunnel.End{Conn: c.Conn, Early: append([]byte(nil), early...)}
}

// tunnelInfo says what a tunnel is, for the log and for whoever asks while it is open.
func (x *exchange) tunnelInfo(subprotocol string) tunnelInfo {
	client := x.in.client.String()
	if x.in.client == x.in.peer {
		client = x.from.remote.String()
	}
	return tunnelInfo{
		Site: x.site.name, Location: x.location.pattern, Host: x.in.host, Path: x.in.path,
		Client: client, Backend: x.backend, Subprotocol: subprotocol, Mode: x.location.Mode.String(),
		Secure: x.in.secure,
	}
}
