package session

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"
	"golang.org/x/sys/unix"

	"wstunnel/internal/leaks"
	"wstunnel/internal/reactor"
)

func TestMain(m *testing.M) { leaks.Verify(m) }

// patience bounds whatever a test waits for.
const patience = 10 * time.Second

func startLoops(t *testing.T) *reactor.Group {
	t.Helper()
	g, err := reactor.NewGroup(slog.New(slog.DiscardHandler), reactor.NewClock())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g
}

// accepted makes a TCP connection that a listener of the group accepts: our end, paused, and the peer's.
func accepted(t *testing.T, g *reactor.Group) (ours *reactor.Conn, peer net.Conn) {
	t.Helper()
	l, came := listen(t, g)
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	return <-came, peer
}

// listen has the group accept a connection.
func listen(t *testing.T, g *reactor.Group) (net.Listener, <-chan *reactor.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	came := make(chan *reactor.Conn, 1)
	listener, err := g.Listen(l.(syscall.Conn), reactor.KeepAlive{}, func(c *reactor.Conn, _ netip.AddrPort) {
		c.Handle(waiting{})
		came <- c
	})
	if err != nil {
		t.Fatal(err)
	}
	listener.Start()
	t.Cleanup(listener.Stop)
	return l, came
}

// waiting handles a connection that waits for its bridge.
type waiting struct{}

func (waiting) Readable(*reactor.Conn)      {}
func (waiting) Drained(*reactor.Conn)       {}
func (waiting) Failed(*reactor.Conn, error) {}

// secured does a TLS handshake over a connection, of which ours is the server's end.
func secured(t *testing.T, ours *reactor.Conn, peer net.Conn) (client *tls.Conn) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	settings := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	done := make(chan error, 1)
	ours.Loop().Post(func() {
		ours.Handshake(t.Context(), func(conn net.Conn) *tls.Conn { return tls.Server(conn, settings) }, patience,
			func(_ tls.ConnectionState, err error) {
				ours.Handle(waiting{})
				if err != nil {
					ours.Close() // which the peer waits for
				}
				done <- err
			})
	})
	client = tls.Client(peer, &tls.Config{InsecureSkipVerify: true})
	if err := client.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return client
}

// bridge makes a bridge to a connection.
func bridge(t *testing.T, c *reactor.Conn, early string) *Bridge {
	t.Helper()
	made := make(chan *Bridge)
	c.Loop().Post(func() { made <- NewBridge(c, []byte(early)) })
	b := <-made
	t.Cleanup(func() { b.Close() })
	return b
}

// eachBridge runs a test with a bridge over TCP and with one over TLS, and the peer's end.
func eachBridge(t *testing.T, early string, test func(t *testing.T, b *Bridge, peer net.Conn)) {
	t.Run("plain", func(t *testing.T) {
		c, peer := accepted(t, startLoops(t))
		test(t, bridge(t, c, early), peer)
	})
	t.Run("tls", func(t *testing.T) {
		c, plainPeer := accepted(t, startLoops(t))
		peer := secured(t, c, plainPeer)
		test(t, bridge(t, c, early), peer)
	})
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never %s", what)
		}
	}
}

// TestBridgeIsANetConn: between two of them all holds that does of a connection of package net.
func TestBridgeIsANetConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		g := startLoops(t)
		l, came := listen(t, g)
		var dialled *reactor.Conn
		made, loop := make(chan error, 1), g.Pick()
		loop.Post(func() {
			address := reactor.Sockaddr(l.Addr().(*net.TCPAddr).AddrPort())
			loop.Dial([]unix.Sockaddr{address}, 0, patience, func(c *reactor.Conn, err error) {
				if err == nil {
					c.Handle(waiting{})
				}
				dialled = c
				made <- err
			})
		})
		if err := <-made; err != nil {
			return nil, nil, nil, err
		}
		one, other := bridge(t, dialled, ""), bridge(t, <-came, "")
		return one, other, func() { one.Close(); other.Close() }, nil
	})
}

func TestBridgeCarriesManyBytesBothWaysAndBothEnds(t *testing.T) {
	eachBridge(t, "early ", func(t *testing.T, b *Bridge, peer net.Conn) {
		long := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
		go func() {
			io.Copy(b, b)
			b.CloseWrite()
		}()
		go func() {
			peer.Write(long)
			peer.(interface{ CloseWrite() error }).CloseWrite()
		}()
		got, err := io.ReadAll(peer)
		if want := append([]byte("early "), long...); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes came back of %d, %v", len(got), len(want), err)
		}
	})
}

func TestBridgeLetsLittleWaitForWhoDoesNotRead(t *testing.T) {
	eachBridge(t, "", func(t *testing.T, b *Bridge, peer net.Conn) {
		stalled := func() bool {
			peer.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			_, err := peer.Write(make([]byte, 64<<10))
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.paused && errors.Is(err, os.ErrDeadlineExceeded) // by itself, that could be a loop that has no processor
		}
		eventually(t, "stalled", stalled)
		b.mu.Lock()
		defer b.mu.Unlock()
		if n := b.came.Len(); n <= maxAhead/2 || n > maxAhead || !b.paused {
			t.Errorf("%d bytes wait to be read, paused %v", n, b.paused)
		}
	})
}

func TestBridgeWriteWaitsForAPeerThatTakesNothing(t *testing.T) {
	eachBridge(t, "", func(t *testing.T, b *Bridge, peer net.Conn) {
		pending := func() (n int) {
			done := make(chan int)
			b.post(func() { done <- b.conn.Pending() })
			return <-done
		}
		clock := b.conn.Loop().Clock()
		b.SetWriteDeadline(clock.Now().Add(time.Minute))
		result := make(chan error, 1)
		written := 0
		go func() {
			n, err := b.Write(make([]byte, 64<<20))
			written = n
			result <- err
		}()
		eventually(t, "stalled", func() bool {
			before := pending()
			time.Sleep(20 * time.Millisecond)
			return before > 0 && pending() == before
		})
		if n := pending(); n > bridgePiece+5*40 { // in records, over TLS
			t.Errorf("%d bytes are pending", n)
		}
		clock.Skip(50 * time.Second)
		if len(result) > 0 {
			t.Fatalf("wrote %d too early, %v", written, <-result)
		}
		clock.Skip(10 * time.Second)
		if err := <-result; !errors.Is(err, os.ErrDeadlineExceeded) || written%bridgePiece != 0 {
			t.Errorf("wrote %d, %v", written, err)
		}
		b.SetWriteDeadline(time.Time{})
		go func() {
			b.Write([]byte("end"))
			b.CloseWrite()
		}()
		got, err := io.ReadAll(peer)
		if want := written + len("end"); err != nil || len(got) != want {
			t.Errorf("the peer got %d bytes, %v; %d were written", len(got), err, want)
		}
	})
}

func TestBridgeReadsWhatCameBeforeTheEnd(t *testing.T) {
	eachBridge(t, "", func(t *testing.T, b *Bridge, peer net.Conn) {
		io.WriteString(peer, "last words")
		peer.Close()
		if got, err := io.ReadAll(b); err != nil || string(got) != "last words" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestBridgeSeesAResetBehindUnreadBytes(t *testing.T) {
	c, peer := accepted(t, startLoops(t))
	b := bridge(t, c, "")
	io.WriteString(peer, "last words")
	buf := make([]byte, 4)
	if _, err := io.ReadFull(b, buf); err != nil {
		t.Fatal(err)
	}
	peer.(*net.TCPConn).SetLinger(0)
	peer.Close()
	got, err := io.ReadAll(b)
	if !errors.Is(err, syscall.ECONNRESET) || string(got) != " words" {
		t.Errorf("%q, %v", got, err)
	}
	eventually(t, "failed", func() bool { _, err := b.Write([]byte("x")); return err != nil })
}

func TestBridgeTellsThatThePeerHungUpBehindUnreadBytes(t *testing.T) {
	eachBridge(t, "", func(t *testing.T, b *Bridge, peer net.Conn) {
		for range 3 { // less than the system takes, and more than the bridge does
			peer.Write(make([]byte, maxAhead/2))
		}
		if b.HungUp() {
			t.Error("hung up before its time")
		}
		peer.Close()
		eventually(t, "hung up", b.HungUp)
	})
}

func TestBridgeCloseWakesWhoReadsAndWhoWrites(t *testing.T) {
	eachBridge(t, "", func(t *testing.T, b *Bridge, peer net.Conn) {
		errs := make(chan error, 2)
		go func() { errs <- second(b.Read(make([]byte, 1))) }()
		go func() { errs <- second(io.Copy(b, endless{})) }()
		for _, busy := range []*sync.Mutex{&b.reading, &b.writing} {
			eventually(t, "begun", func() bool {
				free := busy.TryLock()
				if free {
					busy.Unlock()
				}
				return !free
			})
		}
		b.Close()
		for range 2 {
			if err := <-errs; !errors.Is(err, net.ErrClosed) {
				t.Error(err)
			}
		}
		io.Copy(io.Discard, peer)
		if err := b.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a second Close: %v", err)
		}
	})
}

func TestBridgeEndsWithItsLoop(t *testing.T) {
	g := startLoops(t)
	c, _ := accepted(t, g)
	b := bridge(t, c, "")
	errs := make(chan error, 1)
	go func() { errs <- second(b.Read(make([]byte, 1))) }()
	g.Close()
	if err := <-errs; !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := b.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if !b.HungUp() {
		t.Error("its peer is still there")
	}
}

// endless is a stream of zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func second[A, B any](_ A, b B) B { return b }
