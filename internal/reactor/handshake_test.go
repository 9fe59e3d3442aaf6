package reactor

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"testing"
	"time"
)

// TestHandshakeThatIsCancelledAsItEnds: crypto/tls closes its connection then, on a goroutine of its own.
func TestHandshakeThatIsCancelledAsItEnds(t *testing.T) {
	g, _ := startGroup(t)
	for range 50 {
		c, peer := accept(t, g, "tcp")
		begun, failed := make(chan net.Conn, 1), make(chan error, 1)
		on(t, c.loop, func() {
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

// TestHandshakeEndsInTime, be it the peer who does not go on or the source of the certificate.
func TestHandshakeEndsInTime(t *testing.T) {
	g, _ := startGroup(t)
	waited := make(chan error, 1)
	for _, test := range []struct {
		name     string
		settings *tls.Config
		hello    bool
	}{
		{"silent peer", &tls.Config{}, false},
		{"slow certificate", &tls.Config{GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			waited <- nil
			<-hello.Context().Done()
			waited <- hello.Context().Err()
			return nil, hello.Context().Err()
		}}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, peer := accept(t, g, "tcp")
			result := make(chan error, 1)
			on(t, c.loop, func() {
				c.Handshake(t.Context(), func(transport net.Conn) *tls.Conn {
					return tls.Server(transport, test.settings)
				}, time.Minute, func(_ tls.ConnectionState, err error) {
					result <- err
					c.Close()
				})
			})
			if test.hello {
				go tls.Client(peer, &tls.Config{InsecureSkipVerify: true}).Handshake()
				await(t, waited)
			}
			g.clock.Skip(55 * time.Second)
			if len(result)+len(waited) > 0 {
				t.Fatal("ended too early")
			}
			g.clock.Skip(5 * time.Second)
			if err := await(t, result); !errors.Is(err, ErrHandshakeTimeout) {
				t.Errorf("got %v", err)
			}
			if test.hello && await(t, waited) == nil {
				t.Error("the source of the certificate was not told")
			}
		})
	}
}
