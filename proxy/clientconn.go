//go:build !linux || portable

package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"
	"time"
)

// Times that a client's connection is given beside those of the configuration.
const (
	// clientStall is how long a client may leave an exchange without sending a byte of its request's body, or without
	// taking what it is sent, a buffer at a time.
	clientStall = 60 * time.Second
	// kernelCopyStall is the same for kernelCopyStep bytes of a body that moves inside the kernel, where a wait for the source
	// counts too.
	kernelCopyStall = 5 * time.Minute
	kernelCopyStep  = 256 << 10
	// lingerTime is how long a client may go on sending what nobody wants, lingerPause how long it may be silent meanwhile, before
	// its connection is closed.
	lingerTime  = 30 * time.Second
	lingerPause = 5 * time.Second
)

// clientConn is a client's connection as it is handed to net/http, for as long as it lives. Of HTTP/1.x it watches the
// framing, and answers a raw head that is refused itself. It bounds by itself how long it waits for a
// request, with the timeouts of the configuration that holds at that moment, and how long a write may take.
type clientConn struct {
	net.Conn // *net.TCPConn, or *tls.Conn after its handshake
	origin
	ahead []byte     // what was read before, to be read again first
	held  heldAnswer // belongs to the handler of the request under way

	framing requestFraming // belongs to whoever reads; one at a time
	broken  error          // the stream's framing broke: nothing more is read

	mu    sync.Mutex
	heads int // that were read, found in order and not yet handled

	open      int       // requests whose head has come and whose response has not ended
	idleSince time.Time // since when open is 0
	headSince time.Time // when the first byte of an unfinished head came
	served    bool      // one request at least was answered
	closed    bool
	midway    bool // the client may be sending what belongs to a request that was answered
	reset     bool // its end is to be a reset

	deadline    time.Time     // for reads, as net/http or a handler set it
	bounded     bool          // the connection has a read deadline of its own instead
	interrupted chan struct{} // closed while deadline is in the past, and by Close
}

func newClientConn(conn net.Conn, from origin) *clientConn {
	c := &clientConn{Conn: conn, origin: from, interrupted: make(chan struct{}), idleSince: time.Now()}
	c.framing.accepted = c.begun
	return c
}

// begun notes that a request's head has come.
func (c *clientConn) begun() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heads++
	c.open++
}

// handled reports whether the request that net/http hands to the handler now is one whose head was read: any other was framed
// differently by the two parsers.
func (c *clientConn) handled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heads--
	return c.heads >= 0
}

// answered notes that the handler of a request has returned.
func (c *clientConn) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	c.idleSince, c.served = time.Now(), true
}

func (c *clientConn) Read(p []byte) (int, error) {
	for c.broken == nil {
		if c.framing.refused != nil {
			return 0, c.refuse(c.framing.refused)
		}
		c.boundWait()
		n, err := c.readAhead(p)
		if n == 0 && errors.Is(err, io.EOF) && c.framing.early {
			// A client may say all it has to say with its handshake, end its stream, and still want the tunnel;
			// net/http would take it for gone.
			<-c.interruption()
			return 0, os.ErrDeadlineExceeded
		}
		var passed int
		passed, c.broken = c.framing.watch(p[:n])
		c.notePlace()
		if passed > 0 || c.framing.refused == nil && (err != nil || n == 0) {
			return passed, err
		}
	}
	return 0, c.broken
}

// isIdle reports whether every request that has come is answered.
func (c *clientConn) isIdle() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.open == 0
}

// refuse answers a head that is refused, once the requests before it are answered. It returns what net/http is to take for the end: other errors
// it would answer once more.
func (c *clientConn) refuse(err *headError) error {
	if !c.isIdle() {
		<-c.interruption()
		return os.ErrDeadlineExceeded
	}
	c.listener.server.logRefused(c.origin, err)
	body := fmt.Sprintf("%d %s: %s\n", err.Status, http.StatusText(err.Status), err.Reason)
	fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		err.Status, http.StatusText(err.Status), len(body), body)
	return &net.OpError{Op: "read", Err: net.ErrClosed}
}

// readAhead reads what was read before, and then the connection.
func (c *clientConn) readAhead(p []byte) (int, error) {
	if len(c.ahead) == 0 {
		return c.Conn.Read(p)
	}
	n := copy(p, c.ahead)
	if c.ahead = c.ahead[n:]; len(c.ahead) == 0 {
		c.ahead = nil
	}
	return n, nil
}

// takeAhead returns what was read before and is yet to be read again, once.
func (c *clientConn) takeAhead() []byte {
	ahead := c.ahead
	c.ahead = nil
	return ahead
}

// boundWait sets the deadline for the next read where net/http has set none: while no request is under way the client has
// request_head to send its first one, keepalive to begin another, and request_head to end what it began.
func (c *clientConn) boundWait() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open > 0 || !c.deadline.IsZero() {
		if c.bounded {
			c.bounded = false
			c.Conn.SetReadDeadline(c.deadline)
		}
		return
	}
	timeouts := &c.listener.server.gen.Load().cfg.Timeouts
	var until time.Time
	switch {
	case !c.headSince.IsZero():
		since := c.headSince
		if since.Before(c.idleSince) { // it came while another request was served, and nobody read on
			since = c.idleSince
		}
		until = since.Add(timeouts.RequestHead)
	case c.served:
		until = c.idleSince.Add(timeouts.KeepAlive)
	default:
		until = c.idleSince.Add(timeouts.RequestHead)
	}
	c.bounded = true
	c.Conn.SetReadDeadline(until)
}

// notePlace notes where in a request the client is, and when the first byte of a head came that is not whole yet.
func (c *clientConn) notePlace() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.midway = c.framing.midway()
	switch {
	case !c.framing.partialHead():
		c.headSince = time.Time{}
	case c.headSince.IsZero():
		c.headSince = time.Now()
	}
}

func (c *clientConn) interruption() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.interrupted
}

// SetReadDeadline is how net/http interrupts its read in the background, before it lets go of the connection.
func (c *clientConn) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, is := past(c.deadline), past(t)
	switch {
	case is && !was:
		c.interrupt()
	case was && !is:
		c.interrupted = make(chan struct{})
	}
	c.deadline, c.bounded = t, false
	return c.Conn.SetReadDeadline(t)
}

func past(t time.Time) bool { return !t.IsZero() && t.Before(time.Now()) }

// interrupt is called with mu held.
func (c *clientConn) interrupt() {
	select {
	case <-c.interrupted:
	default:
		close(c.interrupted)
	}
}

// Close closes the connection; where the client may still be sending, later. A second call closes it at once.
func (c *clientConn) Close() error {
	c.mu.Lock()
	c.interrupt()
	again, reset, linger := c.closed, c.reset, c.midway && !c.reset
	c.closed = true
	c.mu.Unlock()
	if again {
		return c.Conn.Close()
	}
	if linger {
		go c.linger()
		return nil
	}
	defer c.leave()
	if reset {
		return c.socket().Close() // over TLS without the alert that would make a cut body look whole
	}
	return c.Conn.Close()
}

// socket returns what carries the connection, below TLS.
func (c *clientConn) socket() net.Conn {
	if secure, ok := c.Conn.(*tls.Conn); ok {
		return socketUnder(secure)
	}
	return c.Conn
}

// resetOnClose makes the coming Close a reset.
func (c *clientConn) resetOnClose() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reset = true
	resetOnClose(c.Conn)
}

// linger ends the stream to the client and takes what it is still sending: closing over that would be a reset, which overtakes the
// answer (RFC 9112, section 9.6).
func (c *clientConn) linger() {
	defer c.leave()
	defer c.Conn.Close()
	defer context.AfterFunc(c.listener.server.ctx, func() { c.Conn.Close() })()
	c.CloseWrite()
	socket := c.socket()
	if half, ok := socket.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
	scrap := make([]byte, 4<<10)
	for end := time.Now().Add(lingerTime); time.Now().Before(end); {
		socket.SetReadDeadline(time.Now().Add(lingerPause))
		if _, err := socket.Read(scrap); err != nil {
			return
		}
	}
}

// Write gives the client clientStall to take p.
func (c *clientConn) Write(p []byte) (int, error) {
	if c.holds(p) {
		return len(p), nil
	}
	return c.letGo(p)
}

// ReadFrom lets net/http send files and backend bodies inside the kernel, the latter where there is a pipe to be had.
func (c *clientConn) ReadFrom(r io.Reader) (n int64, err error) {
	tcp, plain := c.Conn.(*net.TCPConn)
	limited, isLimited := r.(*io.LimitedReader)
	if isLimited {
		if taken, n, err := c.holdFrom(limited); taken {
			return n, err
		}
	}
	if !plain || !isLimited {
		return io.Copy(struct{ io.Writer }{c}, r)
	}
	if _, err := c.letGo(nil); err != nil {
		return 0, err
	}
	if _, fromBackend := limited.R.(*net.TCPConn); fromBackend {
		pipes := c.listener.server.pipes
		select {
		case pipes <- struct{}{}:
			defer func() { <-pipes }()
		default:
			return io.Copy(struct{ io.Writer }{c}, r)
		}
	}
	for limited.N > 0 {
		step := io.LimitedReader{R: limited.R, N: min(limited.N, kernelCopyStep)}
		want := step.N
		c.Conn.SetWriteDeadline(time.Now().Add(kernelCopyStall))
		moved, err := tcp.ReadFrom(&step)
		n += moved
		limited.N -= moved
		if err != nil || moved < want {
			return n, err
		}
	}
	return n, nil
}

// CloseWrite lets net/http end a response before it closes, so that the client can read it.
func (c *clientConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

type clientConnKey struct{}

// withClientConn is the ConnContext of the HTTP servers.
func withClientConn(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, clientConnKey{}, conn)
}

// clientConnOf returns the connection that a request came on, and its HTTP/2 side, if it has one.
func clientConnOf(r *http.Request) (*clientConn, *h2Conn) {
	switch c := r.Context().Value(clientConnKey{}).(type) {
	case *h2Conn:
		return c.clientConn, c
	case *clientConn:
		return c, nil
	}
	panic("request on a connection that no listener handed over")
}
