package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
	"github.com/koding/websocketproxy"

	"wstunnel/internal/http1"
	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

// relay carries a WebSocket connection message by message: fragments are put together, and the browser is offered
// permessage-deflate whether the backend knows it or not. The backend has already answered its handshake;
// websocketproxy repeats it against [relayBackend], which answers from memory, and then moves the messages. Close frames
// are not left to it: it makes up codes, and writes nothing to a side that it has already answered. there is called when
// the connection is one of the live ones.
func (x *exchange) relay(w *responseWriter, r *http.Request, resp *backendResponse, there func()) {
	if got := resp.Header["Sec-Websocket-Extensions"]; len(got) > 0 {
		resp.conn.Close()
		x.fail(w, fmt.Errorf("backend's handshake: the 101 has extensions that nobody asked for: %s", quoted(strings.Join(got, ", "))))
		return
	}
	if got := resp.Header["Sec-Websocket-Protocol"]; len(got) > 0 && (len(got) > 1 || !ws.HasToken(r.Header["Sec-Websocket-Protocol"], got[0])) {
		resp.conn.Close()
		x.fail(w, fmt.Errorf("backend's handshake: the 101 has a subprotocol that nobody asked for: %s", quoted(strings.Join(got, ", "))))
		return
	}
	x.slot = resp.conn.slot
	session := newRelaySession(x, resp.conn.end())
	opened, over := make(chan struct{}), make(chan tunnel.Result, 1)
	answer := &relayWriter{responseWriter: w, session: session, header: relayHeader(resp.Header), opened: func() {
		x.tunnelled, w.status = true, http.StatusSwitchingProtocols
		session.live = x.server.tunnels.announce(x.tunnelInfo(fieldsOf(resp.Header)))
		session.live.register(session)
		there()
		close(opened)
	}}
	go session.carry(relayProxy(session, r, resp), answer, relayRequest(r), over)
	select {
	case <-opened: // net/http, and all that it keeps of the request, is not needed any more
	case result := <-over:
		x.slot.free()
		if session.client != nil { // it was gone before it could be answered
			x.err, x.clientGone = result.Err, true
			x.from.leave()
		}
	}
}

// relayProxy makes what repeats the handshake with both ends of a session and moves its messages.
func relayProxy(s *relaySession, r *http.Request, resp *backendResponse) *websocketproxy.WebsocketProxy {
	subprotocols := resp.Header["Sec-Websocket-Protocol"]
	return &websocketproxy.WebsocketProxy{
		Backend:  func(*http.Request) *url.URL { return &url.URL{Scheme: "ws", Host: "backend", Path: "/"} },
		Upgrader: &websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }, EnableCompression: mayDeflate(r.Header)},
		Dialer: &websocket.Dialer{NetDialContext: func(context.Context, string, string) (net.Conn, error) {
			return &relayBackend{relayConn: s.backend, subprotocols: subprotocols}, nil
		}},
	}
}

// carry runs a session to its end, and hands over how it ended where it never became a live connection.
func (s *relaySession) carry(proxy *websocketproxy.WebsocketProxy, w *relayWriter, r *http.Request, over chan<- tunnel.Result) {
	proxy.ServeHTTP(w, r)
	result := s.finish()
	if s.live != nil {
		s.live.ended(result)
		return
	}
	over <- result
}

// mayDeflate reports whether the client can be offered permessage-deflate: the upgrader does not know how to accept an
// offer that limits the server's window (RFC 7692, section 7.1.2.1).
func mayDeflate(h http.Header) bool {
	return !strings.Contains(strings.Join(h["Sec-Websocket-Extensions"], ","), "server_max_window_bits")
}

// relayRequest returns the request as far as websocketproxy needs it: all else has been sent to the backend.
func relayRequest(r *http.Request) *http.Request {
	own := &http.Request{
		Method: http.MethodGet, URL: &url.URL{Path: "/"}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{},
	}
	for _, name := range []string{
		"Connection", "Upgrade", "Sec-Websocket-Key", "Sec-Websocket-Version", "Sec-Websocket-Extensions",
	} {
		for _, value := range r.Header[name] {
			own.Header.Add(name, strings.Clone(value))
		}
	}
	return own
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
	live            *liveTunnel
	client, backend *relayConn // client is nil before the connection is taken over
	memory          *relayMemory
	maxMessage      uint64
	stallTimeout    time.Duration
	idleTimeout     time.Duration
	idle            *time.Timer
	began           time.Time
	lastActive      atomic.Int64 // nanoseconds since began

	mu     sync.Mutex
	result tunnel.Result // what ended the session first
	known  bool
	stop   *time.Timer // closes both ends
	late   *time.Timer // answers a Close frame that the other side has not answered
}

func newRelaySession(x *exchange, backend tunnel.End) *relaySession {
	s := &relaySession{
		memory: &x.server.relays, maxMessage: uint64(x.location.MaxMessage), stallTimeout: x.server.relayStall,
		idleTimeout: x.location.Timeouts.TunnelIdle, began: time.Now(),
	}
	s.idle = time.AfterFunc(math.MaxInt64, s.checkIdle)
	s.backend = newRelayConn(s, tunnel.Backend, backend)
	return s
}

// Stats returns what has gone through so far.
func (s *relaySession) Stats() tunnel.Stats {
	return tunnel.Stats{
		ToBackend: s.client.traffic(), ToClient: s.backend.traffic(),
		Idle: time.Since(s.began) - time.Duration(s.lastActive.Load()),
	}
}

func (s *relaySession) touch() { s.lastActive.Store(int64(time.Since(s.began))) }

// watchIdle starts the idle timer.
func (s *relaySession) watchIdle() {
	s.touch()
	if s.idleTimeout > 0 {
		s.idle.Reset(s.idleTimeout)
	}
}

func (s *relaySession) checkIdle() {
	if rest := s.idleTimeout - (time.Since(s.began) - time.Duration(s.lastActive.Load())); rest > 0 {
		s.idle.Reset(rest)
		return
	}
	s.Close(ws.CloseGoingAway, "idle timeout", tunnel.CauseIdle, closeTimeout)
}

// note keeps the first reason for the end. It reports whether this is it.
func (s *relaySession) note(r tunnel.Result) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known {
		return false
	}
	s.result, s.known = r, true
	return true
}

// Close puts a Close frame into both directions at the next frame boundary.
func (s *relaySession) Close(code uint16, reason string, cause tunnel.Cause, timeout time.Duration) {
	s.end(tunnel.Result{By: tunnel.Proxy, Cause: cause, Code: code}, reason, timeout)
}

// end begins the closing handshake with both sides.
func (s *relaySession) end(r tunnel.Result, reason string, timeout time.Duration) {
	s.note(r)
	s.endWithin(timeout)
	for _, c := range []*relayConn{s.client, s.backend} {
		c.order(ws.AppendClose(nil, r.Code, reason, c.mask()))
	}
}

// endWithin bounds the rest of the session's life. Whatever begins its end calls it; the first call counts.
func (s *relaySession) endWithin(timeout time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop == nil {
		s.stop = time.AfterFunc(timeout, s.closeBoth)
	}
}

// echoLater answers a side's Close frame itself, unless the other side does so soon. The first call counts.
func (s *relaySession) echoLater(c *relayConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.late == nil {
		s.late = time.AfterFunc(echoDelay, func() { c.order(*c.echo.Load()) })
	}
}

func (s *relaySession) closeBoth() {
	for _, c := range []*relayConn{s.client, s.backend} {
		if c != nil {
			c.cut()
		}
	}
}

// finish waits until no more is to come from either side, closes both and returns how the session ended. websocketproxy
// returns as soon as one side has ended.
func (s *relaySession) finish() tunnel.Result {
	defer s.idle.Stop()
	defer s.backend.frames.limits.share.leave()
	if s.client == nil {
		s.closeBoth()
		return tunnel.Result{}
	}
	defer s.client.frames.limits.share.leave()
	s.endWithin(closeTimeout)
	<-s.client.over
	<-s.backend.over
	s.closeBoth()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop.Stop()
	if s.late != nil {
		s.late.Stop()
	}
	r := s.result
	if !s.known {
		r = tunnel.Result{By: tunnel.Proxy, Cause: tunnel.CauseReset, Code: ws.CloseAbnormal}
	}
	r.ToBackend, r.ToClient = s.client.traffic(), s.backend.traffic()
	return r
}

// relayWriter is the ResponseWriter that websocketproxy upgrades.
type relayWriter struct {
	*responseWriter
	session *relaySession
	header  http.Header // further headers of the 101
	opened  func()      // called when the 101 has been written
}

// Hijack hands over the client's connection, with early frames still to be read from it.
func (w *relayWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	end, err := hijack(w.responseWriter)
	if err != nil {
		return nil, nil, err
	}
	w.session.client = newRelayConn(w.session, tunnel.Client, end)
	conn := &relayClient{relayConn: w.session.client, header: w.header, opened: w.opened}
	w.responseWriter, w.header, w.opened = nil, nil, nil
	return conn, bufio.NewReadWriter(bufio.NewReader(conn), bufio.NewWriter(conn)), nil
}

// relayClient is the client's end: its first write is the 101, which is completed with the backend's headers.
type relayClient struct {
	*relayConn
	header   http.Header
	opened   func()
	answered bool
}

func (c *relayClient) Write(p []byte) (int, error) {
	if c.answered {
		return c.relayConn.Write(p)
	}
	c.answered = true
	c.expectDeflate(bytes.Contains(p, []byte("permessage-deflate")))
	head := append([]byte(nil), bytes.TrimSuffix(p, []byte("\r\n"))...)
	head = append(http1.AppendFields(head, fieldsOf(c.header), false), "\r\n"...)
	c.Conn.SetWriteDeadline(time.Now().Add(answerTimeout))
	if _, err := c.Conn.Write(head); err != nil {
		return 0, c.lostReading(err)
	}
	c.Conn.SetWriteDeadline(time.Time{})
	c.opened()
	c.header, c.opened = nil, nil
	c.session.watchIdle()
	return len(p), nil
}

// relayBackend is the backend's end: it answers websocketproxy's handshake itself, and puts together the fragments that
// a long message is written in.
type relayBackend struct {
	*relayConn
	subprotocols []string
	answer       []byte
	answered     bool

	message []byte // the fragments so far, masked, after room for a frame header
	opcode  ws.Opcode
	key     [4]byte
}

func (c *relayBackend) Write(p []byte) (int, error) {
	if !c.answered {
		c.answered = true
		return len(p), c.handshake(p)
	}
	if whole := c.assemble(p); whole != nil {
		if _, err := c.relayConn.Write(whole); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

func (c *relayBackend) handshake(head []byte) error {
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(string(head))))
	if err != nil {
		return err
	}
	h := http.Header{"Sec-Websocket-Accept": {ws.Accept(req.Header.Get("Sec-Websocket-Key"))}}
	if len(c.subprotocols) > 0 {
		h["Sec-Websocket-Protocol"] = c.subprotocols
	}
	answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	c.answer = append(http1.AppendFields([]byte(answer), fieldsOf(h), false), "\r\n"...)
	return nil
}

func (c *relayBackend) Read(p []byte) (int, error) {
	if len(c.answer) > 0 {
		n := copy(p, c.answer)
		c.answer = c.answer[n:]
		return n, nil
	}
	return c.relayConn.Read(p)
}

// maxFrameHead is the length of the longest frame header.
const maxFrameHead = 14

// assemble takes one frame, as websocketproxy writes them, and returns what is to be written of it now: frames that stand
// for themselves as they are, a fragmented message as one frame when it is complete.
func (c *relayBackend) assemble(frame []byte) []byte {
	op, final := ws.Opcode(frame[0]&0x0F), frame[0]&finBit != 0
	if final && op != ws.OpContinuation {
		return frame
	}
	if op != ws.OpContinuation {
		size := int(c.session.client.frames.size) // of the message that is being passed on
		c.message, c.opcode, c.key = make([]byte, maxFrameHead, maxFrameHead+size), op, *c.mask()
	}
	head := 2 + restOfHead(frame[1])
	payload, key, at := frame[head:], frame[head-4:head], len(c.message)
	c.message = append(c.message, payload...)
	for i := range payload {
		c.message[at+i] ^= key[i&3] ^ c.key[(at-maxFrameHead+i)&3]
	}
	if !final {
		return nil
	}
	whole := c.message
	c.message = nil
	return putFrameHead(whole, c.opcode, c.key)
}

// putFrameHead puts the header of a masked frame before a payload that has room for it.
func putFrameHead(frame []byte, op ws.Opcode, key [4]byte) []byte {
	head := append(make([]byte, 0, maxFrameHead), finBit|byte(op))
	switch n := len(frame) - maxFrameHead; {
	case n <= 125:
		head = append(head, maskBit|byte(n))
	case n <= 0xFFFF:
		head = binary.BigEndian.AppendUint16(append(head, maskBit|126), uint16(n))
	default:
		head = binary.BigEndian.AppendUint64(append(head, maskBit|127), uint64(n))
	}
	head = append(head, key[:]...)
	frame = frame[maxFrameHead-len(head):]
	copy(frame, head)
	return frame
}
