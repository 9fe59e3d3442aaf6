package relay

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/gorilla/websocket"
	"github.com/koding/websocketproxy"

	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

// answerTimeout bounds the writing of the 101 to the client.
const answerTimeout = 10 * time.Second

// CheckRequest checks, beyond what a tunnel needs, the upgrade request of a client that a relay itself is to answer (RFC 6455, section
// 4.2.1).
func CheckRequest(fields head.Fields) error {
	key, err := base64.StdEncoding.DecodeString(fields.Get(head.SecWebSocketKey))
	switch {
	case !fields.HasToken(head.SecWebSocketVersion, ws.Version):
		return errors.New("Sec-WebSocket-Version is not " + ws.Version)
	case err != nil || len(key) != 16:
		return errors.New("Sec-WebSocket-Key is not 16 bytes in base64")
	}
	return nil
}

// CheckAnswer checks a backend's 101 for what was not asked for (RFC 6455, section 4.1).
func CheckAnswer(request, answer head.Fields) error {
	if got := answer.Values(head.SecWebSocketExtensions); len(got) > 0 {
		return errors.New("the 101 has extensions that nobody asked for: " + head.Quoted(strings.Join(got, ", ")))
	}
	if got := answer.Values(head.SecWebSocketProtocol); len(got) > 1 || len(got) == 1 && !request.HasToken(head.SecWebSocketProtocol, got[0]) {
		return errors.New("the 101 has a subprotocol that nobody asked for: " + head.Quoted(strings.Join(got, ", ")))
	}
	return nil
}

// Start answers the client's upgrade request with the fields of the backend's 101 and relays messages until both ends are done, which closes
// them. Once the client is answered opened is called, and what that returns with how the session ended; where it could not be answered, lost
// is called. Both heads are to be checked before. Start returns at once.
func (s *Session) Start(request, answer head.Fields, opened func() (ended func(tunnel.Result)), lost func(error)) {
	s.ended = func(r tunnel.Result) { lost(r.Err) }
	w := &hijacker{&clientEnd{endpoint: s.client, answer: answer, opened: opened}}
	go s.carry(s.proxy(request, answer), w, upgradeRequest(request))
}

// proxy makes what repeats the handshake with both ends and moves the messages. websocketproxy is not left to do the closing handshake: it
// makes up codes, and writes nothing to a side that it has already answered.
func (s *Session) proxy(request, answer head.Fields) *websocketproxy.WebsocketProxy {
	backend := &backendEnd{endpoint: s.backend, subprotocol: strings.Clone(answer.Get(head.SecWebSocketProtocol))}
	return &websocketproxy.WebsocketProxy{
		Backend:  func(*http.Request) *url.URL { return &url.URL{Scheme: "ws", Host: "backend", Path: "/"} },
		Upgrader: &websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }, EnableCompression: mayDeflate(request)},
		Dialer: &websocket.Dialer{NetDialContext: func(context.Context, string, string) (net.Conn, error) {
			return backend, nil
		}},
	}
}

// carry runs a session to its end.
func (s *Session) carry(proxy *websocketproxy.WebsocketProxy, w *hijacker, r *http.Request) {
	proxy.ServeHTTP(w, r)
	result := s.finish()
	s.ended(result)
}

// mayDeflate reports whether the client can be offered permessage-deflate: the upgrader does not know how to accept an
// offer that limits the server's window (RFC 7692, section 7.1.2.1).
func mayDeflate(request head.Fields) bool {
	return !strings.Contains(request.Joined(head.SecWebSocketExtensions), "server_max_window_bits")
}

// upgradeRequest returns the request as far as websocketproxy needs it: all else has been sent to the backend.
func upgradeRequest(fields head.Fields) *http.Request {
	return &http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: "/"}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{
			"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {ws.Version},
			"Sec-Websocket-Key":        {strings.Clone(fields.Get(head.SecWebSocketKey))},
			"Sec-Websocket-Extensions": {strings.Clone(fields.Joined(head.SecWebSocketExtensions))},
		},
	}
}

// hijacker is the ResponseWriter that websocketproxy upgrades. It answers nothing else.
type hijacker struct{ conn *clientEnd }

// Hijack hands over the client's connection.
func (w *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	return w.conn, bufio.NewReadWriter(bufio.NewReader(w.conn), bufio.NewWriter(w.conn)), nil
}

// Header returns a header that nobody reads.
func (w *hijacker) Header() http.Header { return http.Header{} }

// Write drops p.
func (w *hijacker) Write(p []byte) (int, error) { return len(p), nil }

// WriteHeader drops a status.
func (w *hijacker) WriteHeader(int) {}

// clientEnd is the client's end: its first write is the 101, which is completed with the backend's fields.
type clientEnd struct {
	*endpoint
	answer   head.Fields
	opened   func() (ended func(tunnel.Result))
	answered bool
}

func (c *clientEnd) Write(p []byte) (int, error) {
	if c.answered {
		return c.endpoint.Write(p)
	}
	c.answered = true
	c.expectDeflate(bytes.Contains(p, []byte("permessage-deflate")))
	c.Conn.SetWriteDeadline(c.session.clock.Now().Add(answerTimeout))
	if _, err := c.Conn.Write(c.complete(p)); err != nil {
		return 0, c.lostReading(err)
	}
	c.Conn.SetWriteDeadline(time.Time{})
	c.session.watchIdle()
	c.session.ended = c.opened()
	c.answer, c.opened = nil, nil // a session may live for days
	return len(p), nil
}

// ownFields are those of a 101 that the upgrader writes itself.
var ownFields = head.SetOf(head.SecWebSocketAccept, head.SecWebSocketProtocol, head.SecWebSocketExtensions)

// complete adds to a 101 what the backend's holds beyond those.
func (c *clientEnd) complete(switching []byte) []byte {
	text := append([]byte(nil), bytes.TrimSuffix(switching, []byte("\r\n"))...)
	for i, f := range c.answer {
		if !ownFields.Has(f.ID) {
			text = http1.AppendFields(text, c.answer[i:i+1], false)
		}
	}
	return append(text, "\r\n"...)
}

// expectDeflate says whether the client has permessage-deflate, before the first frame.
func (c *clientEnd) expectDeflate(deflate bool) {
	c.frames.expectDeflate(deflate)
	if deflate {
		c.session.backend.frames.limits.toll = deflaterMemory
	}
}
