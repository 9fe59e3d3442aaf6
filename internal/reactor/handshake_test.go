package reactor

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
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

// recordwise reads one TLS record at a time, as OpenSSL does.
type recordwise struct {
	net.Conn
	body int // of the record that has begun
}

func (r *recordwise) Read(p []byte) (n int, err error) {
	if r.body > 0 {
		n, err = r.Conn.Read(p[:min(len(p), r.body)])
		r.body -= n
		return n, err
	}
	n, err = io.ReadFull(r.Conn, p[:recordHeader])
	r.body = int(binary.BigEndian.Uint16(p[3:]))
	return n, err
}

// TestHandshakeLeavesNothingUnreadToAClientThatAsksAndCloses: its system would send a reset, and what it has asked would be lost. It can still go on with the session.
func TestHandshakeLeavesNothingUnreadToAClientThatAsksAndCloses(t *testing.T) {
	g, _ := startGroup(t)
	settings := &tls.Config{
		Certificates: []tls.Certificate{certificate(t)}, InsecureSkipVerify: true, ClientSessionCache: tls.NewLRUClientSessionCache(1), ServerName: "x",
	}
	for _, ask := range []struct {
		waits, resumes bool
	}{{false, false}, {true, false}, {false, true}} {
		c, peer := accept(t, g, "tcp")
		shaken := shake(t, c, tls.Server, settings)
		client := tls.Client(&recordwise{Conn: peer}, settings)
		io.WriteString(client, "hello")
		if resumed := client.ConnectionState().DidResume; resumed != ask.resumes {
			t.Errorf("resumed: %v, want %v", resumed, ask.resumes)
		}
		if err := await(t, shaken); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		if ask.waits {
			start(t, c, echoing(ended))
			if _, err := io.ReadFull(client, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
		}
		client.Close()
		if ask.waits {
			await(t, ended)
			continue
		}
		asked := make(chan string, 1)
		start(t, c, &script{readable: func(c *Conn) {
			p, err := c.Read()
			if err != nil {
				asked <- err.Error()
			} else if len(p) > 0 {
				asked <- string(p)
			}
			c.Close()
		}})
		if got := await(t, asked); got != "hello" {
			t.Errorf("the client asked %q", got)
		}
	}
}
