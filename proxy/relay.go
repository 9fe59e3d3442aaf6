package proxy

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/koding/websocketproxy"

	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

// relay carries a WebSocket connection message by message: fragments are put together, and the browser is offered
// permessage-deflate whether the backend knows it or not. The backend has already answered its handshake;
// websocketproxy repeats it against [relayBackend], which answers from memory.
func (x *exchange) relay(w *responseWriter, r *http.Request, resp *backendResponse) {
	session := &relaySession{timeout: x.location.Timeouts.TunnelIdle}
	session.touch()
	session.backend = newRelayConn(session, tunnel.Backend, resp.conn.end())
	answer := &relayWriter{responseWriter: w, session: session, header: relayHeader(resp.Header)}
	answer.opened = func() {
		x.tunnelled, w.status = true, http.StatusSwitchingProtocols
		session.info = x.server.tunnels.add(x.tunnelInfo(resp.Header.Get("Sec-Websocket-Protocol")), session)
	}
	proxy := &websocketproxy.WebsocketProxy{
		Backend:  func(*http.Request) *url.URL { return &url.URL{Scheme: "ws", Host: x.backend, Path: "/"} },
		Upgrader: &websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }, EnableCompression: true},
		Dialer: &websocket.Dialer{NetDialContext: func(context.Context, string, string) (net.Conn, error) {
			return &relayBackend{relayConn: session.backend, subprotocols: resp.Header["Sec-Websocket-Protocol"]}, nil
		}},
	}
	session.idle = time.AfterFunc(session.timeout, session.checkIdle)
	proxy.ServeHTTP(answer, r)
	session.idle.Stop()
	if session.client == nil { // the client could not be upgraded
		session.backend.Conn.Close()
		return
	}
	session.awaitAnswer()
	x.server.tunnels.remove(session.info, session.end())
}

// relayHeader returns what the client's 101 holds beyond what the upgrader writes itself.
func relayHeader(h http.Header) http.Header {
	own := h.Clone()
	for _, name := range []string{"Sec-Websocket-Accept", "Sec-Websocket-Protocol", "Sec-Websocket-Extensions"} {
		delete(own, name)
	}
	return own
}

// relaySession is one relayed connection: its two ends and why it ended.
type relaySession struct {
	info            tunnelInfo
	client, backend *relayConn
	timeout         time.Duration
	idle            *time.Timer
	lastActive      atomic.Int64 // Unix nanoseconds

	mu     sync.Mutex
	result tunnel.Result
	known  bool
	stop   *time.Timer
}

func (s *relaySession) touch() { s.lastActive.Store(time.Now().UnixNano()) }

func (s *relaySession) checkIdle() {
	if rest := s.timeout - time.Since(time.Unix(0, s.lastActive.Load())); rest > 0 {
		s.idle.Reset(rest)
		return
	}
	s.Close(ws.CloseGoingAway, "idle timeout", tunnel.CauseIdle, closeTimeout)
}

// note keeps the first reason for the end.
func (s *relaySession) note(r tunnel.Result) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.known {
		s.result, s.known = r, true
	}
}

// Close puts a Close frame into both directions at the next frame boundary.
func (s *relaySession) Close(code uint16, reason string, cause tunnel.Cause, timeout time.Duration) {
	s.note(tunnel.Result{By: tunnel.Proxy, Cause: cause, Code: code})
	s.mu.Lock()
	if s.stop == nil {
		s.stop = time.AfterFunc(timeout, s.closeBoth)
	}
	s.mu.Unlock()
	s.client.injectClose(code, reason)
	s.backend.injectClose(code, reason)
}

func (s *relaySession) closeBoth() {
	s.client.Conn.Close()
	s.backend.Conn.Close()
}

// awaitAnswer lets the side that did not begin the closing handshake answer it, then closes both ends. websocketproxy
// itself closes as soon as one side has ended.
func (s *relaySession) awaitAnswer() {
	timeout := time.NewTimer(closeTimeout)
	defer timeout.Stop()
	for _, c := range []*relayConn{s.client, s.backend} {
		select {
		case <-c.ended:
		case <-timeout.C:
		}
	}
	s.closeBoth()
}

func (s *relaySession) end() tunnel.Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop != nil {
		s.stop.Stop()
	}
	r := s.result
	if !s.known {
		r = tunnel.Result{By: tunnel.Proxy, Cause: tunnel.CauseReset, Code: ws.CloseAbnormal}
	}
	r.ToBackend, r.ToClient = s.client.traffic(), s.backend.traffic()
	return r
}

// relayConn is one end of a relayed connection under websocketproxy's hands. It follows the frames both ways,
// so that they are counted and a Close frame can be put between them.
type relayConn struct {
	net.Conn
	session *relaySession
	side    tunnel.Side
	early   []byte

	in         ws.Scanner // what the peer sends
	inBytes    atomic.Uint64
	inMessages atomic.Uint64
	unfinished int           // bytes of the peer's current message
	ended      chan struct{} // closed when the peer has sent a Close frame or is gone
	endOnce    sync.Once

	mu      sync.Mutex // guards the writing side
	out     ws.Scanner // what the peer is sent
	pending []byte     // a Close frame that waits for a frame boundary
	closed  bool       // a Close frame of our own was written: nothing may follow
}

func newRelayConn(s *relaySession, side tunnel.Side, end tunnel.End) *relayConn {
	return &relayConn{
		Conn: end.Conn, session: s, side: side, early: end.Early, ended: make(chan struct{}),
		in:  ws.NewScanner(ws.Role(side == tunnel.Client), true),
		out: ws.NewScanner(ws.Role(side == tunnel.Backend), true),
	}
}

func (c *relayConn) traffic() tunnel.Traffic {
	return tunnel.Traffic{Bytes: c.inBytes.Load(), Messages: c.inMessages.Load()}
}

// maxRelayMessage bounds one message, which is held in memory whole.
const maxRelayMessage = 16 << 20

var errRelayMessage = errors.New("message above 16 MiB")

func (c *relayConn) Read(p []byte) (n int, err error) {
	if len(c.early) > 0 {
		n = copy(p, c.early)
		c.early = c.early[n:]
	} else {
		n, err = c.Conn.Read(p)
	}
	if n > 0 {
		c.session.touch()
		c.in.Scan(p[:n])
		c.inBytes.Add(uint64(n))
		c.inMessages.Store(c.in.Messages())
		if code, ok := c.in.Close(); ok {
			c.peerEnded(tunnel.Result{By: c.side, Cause: tunnel.CauseClose, Code: code})
		}
		if c.unfinished += n; c.in.AtMessageBoundary() {
			c.unfinished = 0
		}
		if c.unfinished > maxRelayMessage {
			return 0, c.tooBig()
		}
	}
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		c.peerEnded(tunnel.Result{By: c.side, Cause: tunnel.CauseEOF, Code: ws.CloseAbnormal})
	default:
		c.peerEnded(tunnel.Result{By: c.side, Cause: tunnel.CauseReset, Code: ws.CloseAbnormal, Err: err})
	}
	return n, err
}

// peerEnded notes how the peer ended its stream. What websocketproxy would tell the other end of it, "1000" for a
// connection that broke and for a Close frame without a code, is not true; the other end gets just what happened.
func (c *relayConn) peerEnded(r tunnel.Result) {
	c.endOnce.Do(func() {
		c.session.note(r)
		other := c.session.client
		if c.side == tunnel.Client {
			other = c.session.backend
		}
		switch r.Code {
		case ws.CloseNoStatus, ws.CloseAbnormal:
			other.silence(r.Code == ws.CloseNoStatus)
		}
		close(c.ended)
	})
}

// silence lets nothing more be written, but for an empty Close frame where one is due.
func (c *relayConn) silence(closeFrame bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if closeFrame && c.out.AtBoundary() && !c.closed {
		c.Conn.Write(ws.AppendFrame(nil, ws.OpClose, nil, c.mask()))
	}
	c.closed = true
	if !closeFrame {
		c.Conn.Close()
	}
}

// mask returns a fresh mask for a frame to a backend, nil for one to a client.
func (c *relayConn) mask() *[4]byte {
	if c.side == tunnel.Client {
		return nil
	}
	mask := new([4]byte)
	rand.Read(mask[:])
	return mask
}

// Close leaves the connection open: the session closes it when the closing handshake is over.
func (c *relayConn) Close() error { return nil }

// tooBig ends the connection of a peer whose message can't be held.
func (c *relayConn) tooBig() error {
	c.session.Close(ws.CloseTooBig, errRelayMessage.Error(), tunnel.CauseTooBig, closeTimeout)
	return errRelayMessage
}

func (c *relayConn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return len(p), nil
	}
	if n, err := c.Conn.Write(p); err != nil {
		return n, err
	}
	c.session.touch()
	c.out.Scan(p)
	return len(p), c.writePending()
}

// injectClose writes a Close frame as soon as no frame is under way.
func (c *relayConn) injectClose(code uint16, reason string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pending = ws.AppendClose(nil, code, reason, c.mask())
	c.Conn.SetWriteDeadline(time.Now().Add(closeTimeout))
	c.writePending()
}

func (c *relayConn) writePending() error {
	if c.pending == nil || !c.out.AtBoundary() {
		return nil
	}
	_, err := c.Conn.Write(c.pending)
	c.closed, c.pending = true, nil
	return err
}

// relayWriter is the ResponseWriter that websocketproxy upgrades.
type relayWriter struct {
	*responseWriter
	session *relaySession
	header  http.Header // further headers of the 101
	opened  func()
}

func (w *relayWriter) Header() http.Header { return w.responseWriter.Header() }

// Hijack hands over the client's connection, with early frames still to be read from it.
func (w *relayWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	end, err := hijack(w.responseWriter)
	if err != nil {
		return nil, nil, err
	}
	w.session.client = newRelayConn(w.session, tunnel.Client, end)
	conn := &relayClient{relayConn: w.session.client, header: w.header}
	conn.inflated.src = bufio.NewReader(w.session.client)
	w.opened()
	return conn, bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn)), nil
}

// relayClient is the client's end: its first write is the 101, which is completed with the backend's headers, and
// what it reads is inflated within bounds.
type relayClient struct {
	*relayConn
	header   http.Header
	inflated inflater
	answered bool
}

func (c *relayClient) Read(p []byte) (int, error) {
	n, err := c.inflated.Read(p)
	if errors.Is(err, errRelayMessage) {
		err = c.tooBig()
	}
	return n, err
}

func (c *relayClient) Write(p []byte) (int, error) {
	if c.answered {
		return c.relayConn.Write(p)
	}
	c.answered = true
	head := strings.TrimSuffix(string(p), "\r\n")
	head = strings.Replace(head, "Sec-Websocket-", "Sec-WebSocket-", -1)
	_, err := c.Conn.Write(append(appendHeader([]byte(head), c.header), "\r\n"...))
	return len(p), err
}

// relayBackend is the backend's end: it answers websocketproxy's handshake itself.
type relayBackend struct {
	*relayConn
	subprotocols []string
	answer       []byte
	answered     bool
}

func (c *relayBackend) Write(p []byte) (int, error) {
	if c.answered {
		return c.relayConn.Write(p)
	}
	c.answered = true
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(p))))
	if err != nil {
		return 0, err
	}
	h := http.Header{"Sec-Websocket-Accept": {ws.Accept(req.Header.Get("Sec-Websocket-Key"))}}
	if len(c.subprotocols) > 0 {
		h["Sec-Websocket-Protocol"] = c.subprotocols
	}
	head := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	c.answer = append(appendHeader([]byte(head), h), "\r\n"...)
	return len(p), nil
}

func (c *relayBackend) Read(p []byte) (int, error) {
	if len(c.answer) > 0 {
		n := copy(p, c.answer)
		c.answer = c.answer[n:]
		return n, nil
	}
	return c.relayConn.Read(p)
}
