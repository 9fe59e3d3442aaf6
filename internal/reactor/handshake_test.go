package reactor

import (
	"context"
	"crypto/tls"
	"net"
	"testing"
)

// TestHandshakeThatIsCancelledAsItEnds: crypto/tls closes its connection then, on a goroutine of its own.
func TestHandshakeThatIsCancelledAsItEnds(t *testing.T) {
	g, _ := startGroup(t)
	l := g.Pick()
	for range 50 {
		ours, peer := pair(t, "tcp")
		c, err := Adopt(ours)
		if err != nil {
			t.Fatal(err)
		}
		begun, failed := make(chan net.Conn, 1), make(chan error, 1)
		on(t, l, func() {
			if err := l.Add(c, &script{}); err != nil {
				t.Error(err)
			}
			c.Handshake(context.Background(), func(transport net.Conn) *tls.Conn {
				begun <- transport
				return tls.Server(transport, &tls.Config{})
			}, patience, func(_ tls.ConnectionState, err error) {
				failed <- err
				c.Close()
			})
		})
		transport := <-begun
		peer.Write([]byte("this is no TLS\r\n\r\n"))
		for done := false; !done; {
			select {
			case err := <-failed:
				if err == nil {
					t.Error("a handshake without TLS")
				}
				done = true
			default:
			}
		}
		transport.Close()
		peer.Close()
	}
}
