package tunnel

import (
	"crypto/tls"
	"net"
)

// canSplice reports whether bytes from conn can move to a TCP connection inside the kernel.
func canSplice(conn net.Conn) bool {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// closeWrite passes on the end of a stream: a FIN, or a close_notify and then a FIN.
func closeWrite(conn net.Conn) {
	if c, ok := conn.(*tls.Conn); ok {
		c.CloseWrite()
		conn = c.NetConn()
	}
	if c, ok := conn.(interface{ CloseWrite() error }); ok {
		c.CloseWrite()
		return
	}
	conn.Close()
}

// resetOnClose makes the coming Close of conn a reset, where the transport has one.
func resetOnClose(conn net.Conn) {
	if c, ok := conn.(*tls.Conn); ok {
		conn = c.NetConn()
	}
	if c, ok := conn.(interface{ SetLinger(seconds int) error }); ok {
		c.SetLinger(0)
	}
}
