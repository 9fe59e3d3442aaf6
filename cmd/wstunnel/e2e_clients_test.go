//go:build linux

package main_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// newClient makes an HTTP client that trusts roots, speaks HTTP/2 over TLS and follows no redirect.
func newClient(roots *x509.CertPool) *http.Client {
	return &http.Client{
		Timeout: patience,
		Transport: &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: roots},
			ForceAttemptHTTP2: true,
			DisableKeepAlives: roots == nil,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// secureClient makes a client that trusts the front's own CA.
func (f *front) secureClient(t *testing.T) *http.Client {
	t.Helper()
	c := newClient(f.roots(t))
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// roots downloads the local CA's certificate, as users do.
func (f *front) roots(t *testing.T) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	if pem := f.get(t, "/.well-known/wstunnel/ca.pem"); !pool.AppendCertsFromPEM([]byte(pem)) {
		t.Fatalf("no certificate: %s", pem)
	}
	return pool
}

func readAll(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func decode[T any](t *testing.T, text string) T {
	t.Helper()
	var v T
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

// socket is a WebSocket client.
type socket struct {
	*websocket.Conn
	t *testing.T
}

// dialSocket opens ws:// to the plain listener, or wss:// to the one with TLS.
func (f *front) dialSocket(t *testing.T, scheme, path string) socket {
	t.Helper()
	conn, resp, err := f.tryDial(t, scheme, path)
	if err != nil {
		status := ""
		if resp != nil {
			status = resp.Status
		}
		t.Fatalf("%s %s: %v %s", scheme, path, err, status)
	}
	t.Cleanup(func() { conn.Close() })
	return socket{conn, t}
}

func (f *front) tryDial(t *testing.T, scheme, path string) (*websocket.Conn, *http.Response, error) {
	t.Helper()
	d, base := f.webSocketDialer(t, scheme)
	return d.Dial(base+path, nil)
}

// webSocketDialer returns how to open WebSockets on one of the listeners, and what their URLs begin with.
func (f *front) webSocketDialer(t *testing.T, scheme string) (d websocket.Dialer, base string) {
	t.Helper()
	d = websocket.Dialer{HandshakeTimeout: patience}
	if scheme == "ws" {
		return d, "ws://" + f.http
	}
	d.TLSClientConfig = &tls.Config{RootCAs: f.roots(t), ClientSessionCache: tls.NewLRUClientSessionCache(1)}
	return d, "wss://" + f.https
}

// echo sends a message and requires it back.
func (s socket) echo(text string) {
	s.t.Helper()
	if err := s.WriteMessage(websocket.TextMessage, []byte(text)); err != nil {
		s.t.Fatalf("sending %.100q: %v", text, err)
	}
	s.SetReadDeadline(time.Now().Add(patience))
	if _, got, err := s.ReadMessage(); err != nil || string(got) != text {
		s.t.Fatalf("echo %.100q, %v, want %.100q", got, err, text)
	}
}

// awaitClose requires that a Close frame with this code is the next that comes.
func (s socket) awaitClose(code int) {
	s.t.Helper()
	s.SetReadDeadline(time.Now().Add(patience))
	_, message, err := s.ReadMessage()
	if closed, ok := errors.AsType[*websocket.CloseError](err); !ok || closed.Code != code {
		s.t.Fatalf("got %.100q, %v, want a Close frame with %d", message, err, code)
	}
}

// tap stands between two programs and keeps what they say to each other on one connection.
type tap struct {
	address  string
	mu       sync.Mutex
	up, down bytes.Buffer // what the client and the server sent
}

// newTap listens for a connection and passes it on to target.
func newTap(t *testing.T, target string) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tp := &tap{address: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		client, err := l.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		server, err := net.Dial("tcp", target)
		if err != nil {
			t.Error(err)
			return
		}
		defer server.Close()
		var both sync.WaitGroup
		both.Go(func() { tp.pass(server, client, &tp.up) })
		both.Go(func() { tp.pass(client, server, &tp.down) })
		both.Wait()
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return tp
}

func (tp *tap) pass(dst, src net.Conn, record *bytes.Buffer) {
	buf := make([]byte, 32<<10)
	for {
		n, err := src.Read(buf)
		tp.mu.Lock()
		record.Write(buf[:n])
		tp.mu.Unlock()
		if _, writeErr := dst.Write(buf[:n]); writeErr != nil || err != nil {
			dst.(*net.TCPConn).CloseWrite()
			return
		}
	}
}

// split returns the heads and what followed them.
func (tp *tap) split(t *testing.T) (upHead, up, downHead, down []byte) {
	t.Helper()
	tp.mu.Lock()
	defer tp.mu.Unlock()
	upHead, up, ok := bytes.Cut(bytes.Clone(tp.up.Bytes()), []byte("\r\n\r\n"))
	downHead, down, also := bytes.Cut(bytes.Clone(tp.down.Bytes()), []byte("\r\n\r\n"))
	if !ok || !also {
		t.Fatalf("no whole handshake: %q %q", upHead, downHead)
	}
	return upHead, up, downHead, down
}

// caFile is where the local CA's certificate stands, next to the configuration.
func caFile(f *front) string { return filepath.Join(filepath.Dir(f.config), "certs", "ca.pem") }
