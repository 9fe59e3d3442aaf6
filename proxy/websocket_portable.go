//go:build !linux || portable

package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/http1"
	"wstunnel/internal/relay"
	"wstunnel/internal/tunnel"
)

// answerTimeout bounds the writing of the 101 to the client.
const answerTimeout = 10 * time.Second

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
		resp.conn.detach()
		resp.conn.Close()
		x.fail(w, fmt.Errorf("backend's handshake: %w", err))
		return
	}
	if x.location.Mode == config.ModeRelay {
		if err := relay.CheckRequest(x.in.request.Fields); err != nil {
			resp.conn.detach()
			resp.conn.Close()
			x.answer(w, http.StatusBadRequest, err.Error())
			return
		}
	}
	if !resp.conn.detach() {
		resp.conn.Close()
		x.fail(w, context.Cause(r.Context()))
		return
	}
	x.rewriteSwitching(resp.Response)
	x.slot = resp.conn.slot
	x.server.tunnels.hold()
	defer x.server.tunnels.release()
	if x.location.Mode == config.ModeRelay {
		x.relayHijacked(w, resp)
		return
	}
	x.join(w, resp)
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
		conn.detach()
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
	resp.conn.detach()
	resp.conn.Close()
	if err != nil {
		x.abort(w, err)
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

// relayHijacked takes the client's connection over from net/http and relays. It returns when net/http, and all that it keeps of the request, is
// not needed any more.
func (x *exchange) relayHijacked(w *responseWriter, resp *backendResponse) {
	client, err := hijack(w)
	if err != nil {
		resp.conn.Close()
		x.fail(w, err)
		return
	}
	finished := make(chan struct{})
	x.relay(&hijacked{client.Conn, client.Early}, &hijacked{resp.conn.Conn, resp.conn.end().Early}, fieldsOf(resp.Header), func() { close(finished) })
	<-finished
}

// hijacked is a connection of package net as a relay takes it.
type hijacked struct {
	net.Conn
	early []byte // to be read first
}

func (c *hijacked) Read(p []byte) (int, error) {
	if len(c.early) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.early)
	c.early = c.early[n:]
	return n, nil
}

// CloseWrite ends the stream to the peer.
func (c *hijacked) CloseWrite() error {
	conn := c.Conn
	if secure, ok := conn.(*tls.Conn); ok {
		secure.CloseWrite()
		conn = socketUnder(secure)
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

// HungUp reports whether the peer has ended its stream.
func (c *hijacked) HungUp() bool { return hasHungUp(c.Conn) }

// alertTimeout is how long a peer may take to accept the alert that ends its TLS connection.
const alertTimeout = time.Second

// Close closes the connection, in the background.
func (c *hijacked) Close() error {
	go func() {
		if secure, ok := c.Conn.(*tls.Conn); ok {
			hard := time.AfterFunc(alertTimeout, func() { secure.NetConn().Close() })
			defer hard.Stop()
		}
		c.Conn.Close()
	}()
	return nil
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
