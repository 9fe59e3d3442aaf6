package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"time"
)

// clientConn is a client's connection as it is handed to net/http. Of HTTP/1.x it watches the
// framing, so that each request comes with a verdict on its raw head.
type clientConn struct {
	net.Conn // *net.TCPConn, or *tls.Conn after its handshake
	listener *listener
	remote   netip.AddrPort
	tls      *tls.ConnectionState // nil for plain connections

	framing requestFraming // belongs to whoever reads; one at a time
	broken  error          // the stream's framing broke: nothing more is read
	refused func(*clientConn, *headError)

	// interrupted is closed when net/http, or a close, wants a read to end.
	interrupted   chan struct{}
	interruptOnce sync.Once

	mu       sync.Mutex
	verdicts []*headError // one for each head read and not yet handled, nil for a good one
}

func newClientConn(conn net.Conn, l *listener, refused func(*clientConn, *headError)) *clientConn {
	c := &clientConn{Conn: conn, listener: l, refused: refused, interrupted: make(chan struct{})}
	if addr, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		c.remote = addr.AddrPort()
		c.remote = netip.AddrPortFrom(c.remote.Addr().Unmap(), c.remote.Port())
	}
	c.framing.verdict = c.judge
	return c
}

func (c *clientConn) judge(err *headError) {
	c.mu.Lock()
	c.verdicts = append(c.verdicts, err)
	c.mu.Unlock()
	if err != nil {
		c.refused(c, err)
	}
}

// verdict returns what is wrong with the head of the request that net/http hands to the handler now. A
// request that has no verdict was framed differently by the two parsers.
func (c *clientConn) verdict() *headError {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.verdicts) == 0 {
		return badHead("request framing is ambiguous")
	}
	v := c.verdicts[0]
	c.verdicts = c.verdicts[1:]
	return v
}

func (c *clientConn) Read(p []byte) (int, error) {
	for c.broken == nil {
		n, err := c.Conn.Read(p)
		if n == 0 && errors.Is(err, io.EOF) && c.framing.early {
			// A client may say all it has to say with its handshake, end its stream, and still want the tunnel;
			// net/http would take it for gone.
			<-c.interrupted
			return 0, os.ErrDeadlineExceeded
		}
		var passed int
		passed, c.broken = c.framing.watch(p[:n])
		if passed > 0 || err != nil || n == 0 {
			return passed, err
		}
	}
	return 0, c.broken
}

// SetReadDeadline is how net/http interrupts its read in the background, before it lets go of the connection.
func (c *clientConn) SetReadDeadline(t time.Time) error {
	if !t.IsZero() && t.Before(time.Now()) {
		c.interrupt()
	}
	return c.Conn.SetReadDeadline(t)
}

// Close closes the connection.
func (c *clientConn) Close() error {
	c.interrupt()
	return c.Conn.Close()
}

func (c *clientConn) interrupt() { c.interruptOnce.Do(func() { close(c.interrupted) }) }

// ReadFrom lets net/http send files and backend bodies inside the kernel.
func (c *clientConn) ReadFrom(r io.Reader) (int64, error) {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		return tcp.ReadFrom(r)
	}
	return io.Copy(struct{ io.Writer }{c.Conn}, r)
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
	switch c := conn.(type) {
	case *h2Conn:
		return context.WithValue(ctx, clientConnKey{}, c.clientConn)
	default:
		return context.WithValue(ctx, clientConnKey{}, c)
	}
}

func clientConnOf(r *http.Request) *clientConn {
	return r.Context().Value(clientConnKey{}).(*clientConn)
}
