package health

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/ws"
)

// closePatience is how long a checked WebSocket is given to answer the Close. What it does with it is no part of the check.
const closePatience = time.Second

// run makes a check. It ends with ctx.
func run(ctx context.Context, check *config.Check, server Server) error {
	conn, err := connect(ctx, server)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	defer conn.Close()
	switch check.Kind {
	case config.CheckHTTP:
		return checkHTTP(conn, check, server)
	case config.CheckWebSocket:
		return checkWebSocket(conn, check, server)
	}
	return nil
}

// connect connects with a server, through TLS where it speaks that.
func connect(ctx context.Context, server Server) (net.Conn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, server.Network, server.Address)
	if err != nil {
		if number, ok := errors.AsType[syscall.Errno](err); ok {
			return nil, fmt.Errorf("connecting: %w", number)
		}
		return nil, err
	}
	if server.TLS == nil {
		return conn, nil
	}
	secured := tls.Client(conn, server.TLS)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return secured, nil
}

// request returns the head of a check's request.
func request(check *config.Check, server Server) *head.Request {
	r := &head.Request{Method: http.MethodGet, Target: check.Path, Host: check.Host, Major: 1, Minor: 1}
	if r.Host == "" {
		r.Host = server.Host
	}
	r.Fields = head.Fields{{Name: "User-Agent", Value: "wstunnel-health"}}
	return r
}

// checkHTTP asks for a page, and looks at the status of the answer.
func checkHTTP(conn net.Conn, check *config.Check, server Server) error {
	r := request(check, server)
	r.Close = true
	answer, err := exchange(conn, r)
	if err != nil {
		return err
	}
	for _, span := range check.Expect {
		if span.From <= answer.Status && answer.Status <= span.To {
			return nil
		}
	}
	return fmt.Errorf("%s was answered with %d", check.Path, answer.Status)
}

// checkWebSocket opens a WebSocket as a client does (RFC 6455, section 4.1), and closes it with 1000.
func checkWebSocket(conn net.Conn, check *config.Check, server Server) error {
	var nonce [16]byte
	rand.Read(nonce[:])
	key := base64.StdEncoding.EncodeToString(nonce[:])
	r := request(check, server)
	r.Protocol = "websocket"
	r.Fields.Add(head.SecWebSocketVersion, ws.Version)
	r.Fields.Add(head.SecWebSocketKey, key)
	answer, err := exchange(conn, r)
	if err != nil {
		return err
	}
	if answer.Status != http.StatusSwitchingProtocols {
		return fmt.Errorf("the handshake at %s was answered with %d", check.Path, answer.Status)
	}
	fields := answer.Fields
	switched := ws.Switching{
		Upgrade: fields.Values(head.Upgrade), Connection: fields.Values(head.Connection), Accept: fields.Values(head.SecWebSocketAccept),
	}
	if err := switched.Check([]string{key}); err != nil {
		return err
	}
	closeWebSocket(conn)
	return nil
}

// closeWebSocket takes leave, and waits a moment for the server to do so too.
func closeWebSocket(conn net.Conn) {
	var mask [4]byte
	rand.Read(mask[:])
	conn.SetDeadline(time.Now().Add(closePatience))
	if _, err := conn.Write(ws.AppendClose(nil, ws.CloseNormal, "health check", &mask)); err == nil {
		io.Copy(io.Discard, conn)
	}
}

// exchange sends a request and returns the head of the answer.
func exchange(conn net.Conn, r *head.Request) (*head.Response, error) {
	conn.Write(http1.AppendRequest(nil, r)) // a server that does not read on may have answered all the same
	var decoder http1.ResponseDecoder
	decoder.Expect(r.Method)
	for buffer := make([]byte, 4<<10); ; {
		n, err := conn.Read(buffer)
		for came, more := buffer[:n], n > 0; more; {
			n, event, bad := decoder.Next(came)
			came = came[n:]
			switch answer := decoder.Response; {
			case bad != nil:
				return nil, bad
			case event != http1.Head:
				more = false
			case answer.Status >= http.StatusOK, answer.Status == http.StatusSwitchingProtocols:
				return answer, nil
			}
		}
		switch {
		case errors.Is(err, io.EOF) && decoder.Began():
			return nil, decoder.EOF()
		case errors.Is(err, io.EOF):
			return nil, errors.New("the server closed the connection without a word")
		case err != nil:
			if number, ok := errors.AsType[syscall.Errno](err); ok {
				err = number
			}
			return nil, fmt.Errorf("waiting for the answer: %w", err)
		}
	}
}
