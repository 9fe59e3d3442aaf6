package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	ctls "crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/leaks"
	"wstunnel/internal/logs"
	"wstunnel/proxy"
	"wstunnel/tls"
)

func TestMain(m *testing.M) {
	debug.SetGCPercent(400) // as the binary has it while little lives: a loop that makes garbage has to help collect it
	leaks.Verify(m)
}

const (
	// patience bounds whatever a test waits for.
	patience = 10 * time.Second
	// lifetime bounds a backend's connection, on which many things may be waited for.
	lifetime = 6 * patience
)

// logBuffer collects the server's log.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// front is a server under test.
type front struct {
	t       *testing.T
	server  *proxy.Server
	log     *logBuffer
	plain   string // the address of the plain listener
	secure  string // and of the TLS listener, if there is one
	stopped bool
}

const (
	plainListener = "listen: [{address: \"127.0.0.1:0\"}]\n"
	// streaming lets a backend have requests as they come.
	streaming     = "buffer: {request: off}\n"
	bothListeners = "listen: [{address: \"127.0.0.1:0\"}, {address: \"127.0.0.2:0\", tls: true}]\n"
)

// start runs a server with a plain listener until the test ends.
func start(t *testing.T, yaml string) *front {
	t.Helper()
	return startWith(t, plainListener+yaml)
}

// startTLS runs a server with a plain and a TLS listener until the test ends.
func startTLS(t *testing.T, yaml string) *front {
	t.Helper()
	return startWith(t, bothListeners+"tls: {storage: "+t.TempDir()+"}\n"+yaml)
}

func startWith(t *testing.T, yaml string) *front {
	t.Helper()
	return startWrapped(t, yaml, same)
}

func same[T any](v T) T { return v }

// startWrapped runs a server whose certificates are changed before it gets them.
func startWrapped(t *testing.T, yaml string, wrap func(proxy.Certificates) proxy.Certificates) *front {
	t.Helper()
	return startLogging(t, yaml, same, wrap)
}

// startLogging is startWrapped with a log that is changed too.
func startLogging(t *testing.T, yaml string, log func(io.Writer) io.Writer, wrap func(proxy.Certificates) proxy.Certificates) *front {
	t.Helper()
	f := &front{t: t, log: &logBuffer{}}
	own := logs.New(log(f.log), logs.JSON)
	cfg, err := config.Parse("wstunnel.yaml", []byte(yaml), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatalf("%v\n%s", err, yaml)
	}
	certs, err := tls.NewManager(own.Logger()).Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.server = proxy.New(own, nil)
	if err := f.server.Apply(cfg, wrap(certs)); err != nil {
		t.Fatal(err)
	}
	f.watchLoops()
	addresses := f.server.Addresses()
	f.plain = addresses[0].String()
	if len(addresses) > 1 {
		f.secure = addresses[1].String()
	}
	t.Cleanup(f.stop)
	return f
}

// watchLoops fails the test if events hold loops. A single one may have done the collector's work, or an interrupt's, whose time is the thread's too.
func (f *front) watchLoops() {
	const most, single, several = 5 * time.Millisecond, 25 * time.Millisecond, 3
	if raceFactor > 1 {
		return
	}
	var long atomic.Int32
	f.server.WatchLoops(func(held time.Duration) {
		switch {
		case held <= most || time.Since(time.Unix(0, collected.Load())) <= 2*held || held <= slowedNow(most):
		case held <= single && long.Add(1) < several:
			f.t.Logf("a loop was held for %s", held)
		default:
			f.t.Errorf("a loop was held for %s", held)
		}
	})
}

// apply makes the server take another configuration.
func (f *front) apply(t *testing.T, yaml string) {
	t.Helper()
	if err := f.try(t, yaml); err != nil {
		t.Fatal(err)
	}
}

// try makes the server take another configuration, which it may refuse.
func (f *front) try(t *testing.T, yaml string) error {
	t.Helper()
	cfg, err := config.Parse("wstunnel.yaml", []byte(yaml), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	certs, err := tls.NewManager(slog.New(slog.DiscardHandler)).Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return f.server.Apply(cfg, certs)
}

func (f *front) stop() {
	if f.stopped {
		return
	}
	f.stopped = true
	f.server.WatchLoops(nil)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	f.server.Shutdown(ctx)
	if f.t.Failed() {
		log := f.log.String()
		f.t.Logf("the end of the log:\n%s", log[max(0, len(log)-2000):])
	}
}

// oneSite is the configuration of example.com with the given locations, each a YAML flow mapping.
func oneSite(locations ...string) string {
	return "sites:\n  - hosts: [example.com]\n    locations:\n      - " + strings.Join(locations, "\n      - ") + "\n"
}

// secureSite is oneSite with a certificate by the local CA.
func secureSite(locations ...string) string {
	return strings.Replace(oneSite(locations...), "    locations:", "    tls: self-signed\n    locations:", 1)
}

func httpTo(address string) string { return `{path: /, http: "http://` + address + `"}` }

func socketTo(address string) string { return `{path: /ws, websocket: "ws://` + address + `"}` }

// await waits until a condition holds.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// client is a raw connection to the server, or to whatever speaks like one.
type client struct {
	*patient
	t  *testing.T
	br *bufio.Reader
}

func (f *front) dial() *client {
	f.t.Helper()
	return dial(f.t, f.plain)
}

func dial(t *testing.T, address string) *client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	return clientOver(t, conn)
}

// clientOver is a client on a connection, which it closes when the test ends.
func clientOver(t *testing.T, conn net.Conn) *client {
	t.Cleanup(func() { conn.Close() })
	p := &patient{Conn: conn}
	return &client{patient: p, t: t, br: bufio.NewReader(p)}
}

// send writes text. A peer that has closed already is no failure; what it answered says more.
func (c *client) send(text ...string) { io.WriteString(c, strings.Join(text, "")) }

// head reads a response head as it stands on the wire.
func (c *client) head() string {
	c.t.Helper()
	head, err := rawHead(c.br)
	if err != nil {
		c.t.Fatalf("reading a response head: %v after %q", err, head)
	}
	return head
}

// answer is one response, read to its end.
type answer struct {
	*http.Response
	body string
	err  error // from reading the body
}

// answer reads the response to a request of the given method.
func (c *client) answer(method string) answer {
	c.t.Helper()
	resp, err := http.ReadResponse(c.br, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("reading a response: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	return answer{Response: resp, body: string(body), err: err}
}

// expect reads a response and checks its status.
func (c *client) expect(status int) answer {
	c.t.Helper()
	a := c.answer(http.MethodGet)
	if a.StatusCode != status {
		c.t.Errorf("got %s %q, want %d", a.Status, a.body, status)
	}
	return a
}

// rest reads until the connection ends, and fails if it does not end in time.
func (c *client) rest() string {
	c.t.Helper()
	rest, err := io.ReadAll(c.br)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Fatalf("the connection was left open after %q", rest)
	}
	return string(rest)
}

// rawHead reads up to the empty line.
func rawHead(br *bufio.Reader) (string, error) {
	var head strings.Builder
	for {
		line, err := br.ReadString('\n')
		head.WriteString(line)
		if err != nil {
			return head.String(), err
		}
		if strings.TrimRight(line, "\r\n") == "" {
			return head.String(), nil
		}
	}
}

// backend is a hand-written server.
type backend struct {
	address string

	mu      sync.Mutex
	accepts int
	heads   []string // of the requests, for backends that note them
}

// startBackend hands each connection to serve, in a goroutine of its own, until the test ends.
func startBackend(t *testing.T, serve func(*backend, net.Conn)) *backend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return startBackendOn(t, l, serve)
}

// startSecureBackend is startBackend over TLS.
func startSecureBackend(t *testing.T, serve func(*backend, net.Conn)) *backend {
	t.Helper()
	certificate := httptest.NewTLSServer(nil)
	t.Cleanup(certificate.Close)
	l, err := ctls.Listen("tcp", "127.0.0.1:0", &ctls.Config{Certificates: certificate.TLS.Certificates})
	if err != nil {
		t.Fatal(err)
	}
	return startBackendOn(t, l, serve)
}

func startBackendOn(t *testing.T, l net.Listener, serve func(*backend, net.Conn)) *backend {
	b := &backend{address: l.Addr().String()}
	var running sync.WaitGroup
	var open sync.Map
	running.Go(func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, syscall.EMFILE) { // a test made them scarce
				time.Sleep(time.Millisecond)
				continue
			}
			if err != nil {
				return
			}
			b.mu.Lock()
			b.accepts++
			b.mu.Unlock()
			open.Store(conn, true)
			conn.SetDeadline(time.Now().Add(lifetime))
			running.Go(func() {
				defer conn.Close()
				serve(b, conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		open.Range(func(conn, _ any) bool { conn.(net.Conn).Close(); return true })
		ended := make(chan struct{})
		go func() {
			running.Wait()
			close(ended)
		}()
		select {
		case <-ended:
		case <-time.After(patience):
			t.Error("a backend goes on though its connections are closed")
		}
	})
	return b
}

// startHeads is a backend that takes no interest in bodies: it reads one head after the other, notes it, and writes the
// answer that answer makes of it. An empty answer closes the connection.
func startHeads(t *testing.T, answer func(head string) string) *backend {
	t.Helper()
	return startBackend(t, func(b *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		for {
			head, err := rawHead(br)
			if head != "" {
				b.note(head)
			}
			if err != nil {
				return
			}
			text := answer(head)
			if text == "" {
				return
			}
			io.WriteString(conn, text)
		}
	})
}

// always is an answer to every request.
func always(text string) func(string) string { return func(string) string { return text } }

// startEcho is a backend that answers each request, when it has read it whole, with its request line and body.
func startEcho(t *testing.T) *backend {
	t.Helper()
	return startBackend(t, serveEcho)
}

func serveEcho(b *backend, conn net.Conn) {
	br := bufio.NewReader(conn)
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		b.note(req.Method + " " + req.RequestURI)
		if err != nil {
			return
		}
		text := req.Method + " " + req.RequestURI + " " + string(body)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(text))
		if req.Method != http.MethodHead {
			io.WriteString(conn, text)
		}
	}
}

func (b *backend) note(head string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.heads = append(b.heads, head)
}

// seen returns the heads noted so far.
func (b *backend) seen() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.heads...)
}

// accepted returns how many connections were made.
func (b *backend) accepted() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.accepts
}

// ok is a small whole response.
const ok = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// get is a small whole request.
const get = "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"

// startHeld is a backend that gives each answer when it is let.
func startHeld(t *testing.T, release <-chan bool) *backend {
	return startHeads(t, func(string) string {
		pass(release)
		return ok
	})
}

// awaitRequests waits until a backend has seen so many.
func (b *backend) awaitRequests(t *testing.T, n int) {
	t.Helper()
	await(t, fmt.Sprint("request ", n), func() bool { return len(b.seen()) == n })
}

// readUntilLastChunk serves one chunked request and hands its bytes over as they came.
func readUntilLastChunk(got chan<- string) func(*backend, net.Conn) {
	return func(_ *backend, conn net.Conn) {
		var all strings.Builder
		br := bufio.NewReader(conn)
		for !strings.HasSuffix(all.String(), "\r\n\r\n") || !strings.Contains(all.String(), "\r\n0\r\n") {
			line, err := br.ReadString('\n')
			all.WriteString(line)
			if err != nil {
				break
			}
		}
		got <- all.String()
		io.WriteString(conn, ok)
	}
}
