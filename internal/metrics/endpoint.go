package metrics

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bounds of what those who ask can make the process hold.
const (
	maxConnections = 32
	maxHead        = 8 << 10
	headTimeout    = 5 * time.Second
	answerTimeout  = 30 * time.Second
	idleTimeout    = 2 * time.Minute
	// farewell is how long those who are being answered have when the listener goes.
	farewell = 5 * time.Second
)

// Source is what is told.
type Source struct {
	// Collect writes all there is to tell.
	Collect func(w *Writer)
	// Alive says what hangs, if anything does, until ctx is done.
	Alive func(ctx context.Context) error
	// Ready says whether new clients are welcome.
	Ready func() bool
}

// Endpoint answers /metrics, /healthz and /readyz on an address that reloads may change.
type Endpoint struct {
	log    *slog.Logger
	source Source
	scrape sync.Mutex // held while the numbers are gathered, so that many who ask cost no more memory than one

	mu      sync.Mutex // guards what follows
	current *service   // nil for none
}

// service is the listener of one address.
type service struct {
	address string // as configured
	socket  net.Listener
	http    *http.Server
}

// NewEndpoint returns an endpoint that listens nowhere yet.
func NewEndpoint(log *slog.Logger, source Source) *Endpoint {
	return &Endpoint{log: log, source: source}
}

// Move opens an address, host:port, or none if it is empty. Nothing else changes before settle is called: with true the endpoint is there from now on, and with
// false it stays where it was. An address that it listens on already is kept as it is.
func (e *Endpoint) Move(address string) (settle func(move bool), err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current != nil && e.current.address == address {
		return func(bool) {}, nil
	}
	var next *service
	if address != "" {
		socket, err := listen(address)
		if err != nil {
			return nil, fmt.Errorf("metrics: listening on %s: %w", address, err)
		}
		next = &service{address: address, socket: socket}
	}
	return func(move bool) {
		switch {
		case move:
			e.use(next)
		case next != nil:
			next.socket.Close()
		}
	}, nil
}

// listen opens an address, which another process of the same user may have open too: the one that is about to be relieved by this one.
func listen(address string) (net.Listener, error) {
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var failed error
		err := c.Control(func(fd uintptr) { failed = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1) })
		return cmp.Or(err, failed)
	}}
	return config.Listen(context.Background(), "tcp", address)
}

// use begins to serve on a listener, and ends the one before; nil is none.
func (e *Endpoint) use(next *service) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current != nil {
		go e.current.end()
	}
	if e.current = next; next == nil {
		return
	}
	room := newBounded(next.socket, maxConnections)
	next.http = &http.Server{
		Handler: room.passing(e.handler(next.address)), ReadHeaderTimeout: headTimeout, ReadTimeout: headTimeout, WriteTimeout: answerTimeout, IdleTimeout: idleTimeout,
		MaxHeaderBytes: maxHead, ErrorLog: slog.NewLogLogger(e.log.Handler(), slog.LevelDebug),
	}
	e.log.Info("metrics are served", "address", next.socket.Addr().String())
	go next.http.Serve(room)
}

// end closes the listener, and lets those have their answer who wait for it.
func (s *service) end() {
	ctx, cancel := context.WithTimeout(context.Background(), farewell)
	defer cancel()
	if s.http.Shutdown(ctx) != nil {
		s.http.Close()
	}
}

// Addr returns where the endpoint listens, or nil.
func (e *Endpoint) Addr() net.Addr {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current == nil {
		return nil
	}
	return e.current.socket.Addr()
}

// Close ends the endpoint, with whoever is being answered.
func (e *Endpoint) Close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.current != nil {
		e.current.http.Close()
		e.current = nil
	}
}

// handler answers on an address, as it is configured.
func (e *Endpoint) handler(address string) http.Handler {
	paths := map[string]func(w http.ResponseWriter, r *http.Request){"/metrics": e.metrics, "/healthz": e.healthz, "/readyz": e.readyz}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serve := paths[r.URL.Path]
		switch {
		case !mayAsk(r, address):
			answer(w, http.StatusMisdirectedRequest, "this is no host of the metrics; ask by address, or as localhost")
		case serve == nil:
			answer(w, http.StatusNotFound, "there are /metrics, /healthz and /readyz")
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			answer(w, http.StatusMethodNotAllowed, "GET or HEAD")
		default:
			serve(w, r)
		}
	})
}

// mayAsk reports whether a request is for us. A page in a browser of this machine can have a name of its own lead to 127.0.0.1 (DNS rebinding) and then read
// what is there: on loopback connections only addresses, localhost and the configured host are asked for by right.
func mayAsk(r *http.Request, address string) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if ok && !local.IP.IsLoopback() {
		return true
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.Trim(host, "[]"), ".")
	own, _, _ := net.SplitHostPort(address)
	_, err := netip.ParseAddr(host)
	return err == nil || host == "" || strings.EqualFold(host, "localhost") || strings.EqualFold(host, own)
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	io.WriteString(w, text+"\n")
}

func (e *Endpoint) metrics(w http.ResponseWriter, _ *http.Request) {
	text := e.gather()
	w.Header().Set("Content-Type", ContentType)
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	bytes.NewReader(text).WriteTo(w)
}

func (e *Endpoint) gather() []byte {
	e.scrape.Lock()
	defer e.scrape.Unlock()
	var w Writer
	e.source.Collect(&w)
	return w.Text()
}

// healthTimeout is how long what hangs may take to answer before it is told of.
const healthTimeout = 2 * time.Second

func (e *Endpoint) healthz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), healthTimeout)
	defer cancel()
	if err := e.source.Alive(ctx); err != nil {
		answer(w, http.StatusServiceUnavailable, err.Error())
		return
	}
	answer(w, http.StatusOK, "ok")
}

func (e *Endpoint) readyz(w http.ResponseWriter, _ *http.Request) {
	if !e.source.Ready() {
		answer(w, http.StatusServiceUnavailable, "not ready: starting, or draining")
		return
	}
	answer(w, http.StatusOK, "ready")
}

// bounded is a listener of which so many connections are open at a time; the others wait in the system's queue.
type bounded struct {
	net.Listener
	free chan struct{}
	done chan struct{}
	once sync.Once
}

func newBounded(l net.Listener, most int) *bounded {
	return &bounded{Listener: l, free: make(chan struct{}, most), done: make(chan struct{})}
}

// Accept waits until another connection may be open.
func (b *bounded) Accept() (net.Conn, error) {
	select {
	case b.free <- struct{}{}:
	case <-b.done:
		return nil, net.ErrClosed
	}
	c, err := b.Listener.Accept()
	if err != nil {
		<-b.free
		return nil, err
	}
	return &counted{Conn: c, free: b.free}, nil
}

// passing has connections end with their answer while more than half of those that may be open are: idle ones are to keep nobody waiting.
func (b *bounded) passing(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(b.free) > cap(b.free)/2 {
			w.Header().Set("Connection", "close")
		}
		h.ServeHTTP(w, r)
	})
}

// Close closes the listener.
func (b *bounded) Close() error {
	b.once.Do(func() { close(b.done) })
	return b.Listener.Close()
}

// counted is one of those connections.
type counted struct {
	net.Conn
	free chan struct{}
	once sync.Once
}

// Close closes the connection, and lets another one be open.
func (c *counted) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { <-c.free })
	return err
}
