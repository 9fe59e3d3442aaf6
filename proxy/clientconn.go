package proxy

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
)

// clientConn is a client's connection as it is handed to net/http. Of HTTP/1.x it watches the
// framing, so that each request comes with a verdict on its raw head.
type clientConn struct {
	net.Conn // *net.TCPConn, or *tls.Conn after its handshake
	listener *listener
	remote   netip.AddrPort
	tls      *tls.ConnectionState // nil for plain connections

	framing requestFraming // belongs to whoever reads; one at a time
	refused func(*clientConn, *headError)

	mu       sync.Mutex
	verdicts []*headError // one for each head read and not yet handled, nil for a good one
}

func newClientConn(conn net.Conn, l *listener, refused func(*clientConn, *headError)) *clientConn {
	c := &clientConn{Conn: conn, listener: l, refused: refused}
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
	for {
		n, err := c.Conn.Read(p)
		passed, bad := c.framing.watch(p[:n])
		if bad != nil {
			err = bad
		}
		if passed > 0 || err != nil || n == 0 {
			return passed, err
		}
	}
}

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
