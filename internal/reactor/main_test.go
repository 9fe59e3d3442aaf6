package reactor

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wstunnel/internal/leaks"
)

func TestMain(m *testing.M) { leaks.Verify(m) }

// patience bounds whatever a test waits for.
const patience = 10 * time.Second

// logged is a log that can be read while it is written.
type logged struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Count(l.buf.Bytes(), []byte(text))
}

func startGroup(t *testing.T) (*Group, *logged) {
	t.Helper()
	log := &logged{}
	g, err := NewGroup(slog.New(slog.NewTextHandler(log, nil)), NewClock())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	return g, log
}

// on runs f on the loop and waits for it.
func on(t *testing.T, l *Loop, f func()) {
	t.Helper()
	done := make(chan struct{})
	l.Post(func() {
		defer close(done)
		f()
	})
	await(t, done)
}

func await[T any](t *testing.T, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(patience):
		t.Fatal("waited too long")
	}
	return v
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never %s", what)
		}
	}
}

// accept makes a connection that a listener of the group accepts: our end, paused, and the peer's.
func accept(t *testing.T, g *Group, network string) (ours *Conn, peer net.Conn) {
	t.Helper()
	l := listenOn(t, network)
	came := acceptOn(t, g, l)
	peer, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	return await(t, came), peer
}

// acceptOn has the group accept the connection that comes to l.
func acceptOn(t *testing.T, g *Group, l net.Listener) <-chan *Conn {
	t.Helper()
	came := make(chan *Conn, 1)
	ln, err := g.Listen(l.(syscall.Conn), KeepAlive{}, func(c *Conn, _ netip.AddrPort) {
		c.Handle(&script{})
		came <- c
	})
	if err != nil {
		t.Fatal(err)
	}
	ln.Start()
	t.Cleanup(ln.Stop)
	return came
}

// dial makes a connection that the loop dials: our end, paused, and the peer's.
func dial(t *testing.T, l *Loop, network string) (ours *Conn, peer net.Conn) {
	t.Helper()
	ln := listenOn(t, network)
	ours = dialTo(t, l, ln.Addr())
	peer, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	return ours, peer
}

func dialTo(t *testing.T, l *Loop, to net.Addr) *Conn {
	t.Helper()
	var address unix.Sockaddr = &unix.SockaddrUnix{Name: to.String()}
	if tcp, ok := to.(*net.TCPAddr); ok {
		address = Sockaddr(tcp.AddrPort())
	}
	made := make(chan *Conn, 1)
	l.Post(func() {
		l.Dial([]unix.Sockaddr{address}, 0, patience, func(c *Conn, err error) {
			if err != nil {
				t.Error(err)
				close(made)
				return
			}
			c.Handle(&script{})
			made <- c
		})
	})
	c := await(t, made)
	if c == nil {
		t.FailNow()
	}
	return c
}

func listenOn(t *testing.T, network string) net.Listener {
	t.Helper()
	if network == "unix" {
		return listen(t, network, filepath.Join(t.TempDir(), "s"))
	}
	return listen(t, network, "127.0.0.1:0")
}

func listen(t *testing.T, network, address string) net.Listener {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// script is a Handler made of functions; those left out do what is harmless.
type script struct {
	readable, drained func(*Conn)
	failed            func(*Conn, error)
}

func (s *script) Readable(c *Conn) {
	if s.readable == nil {
		c.Pause()
		return
	}
	s.readable(c)
}

func (s *script) Drained(c *Conn) {
	if s.drained != nil {
		s.drained(c)
	}
}

func (s *script) Failed(c *Conn, err error) {
	if s.failed != nil {
		s.failed(c, err)
	}
	c.Close()
}

// echo sends back what comes and ends when the peer does.
func echo(c *Conn) {
	p, err := c.Read()
	switch {
	case err != nil:
		c.Pause()
		c.CloseWrite()
	case len(p) > 0:
		c.Write(p)
		if c.Pending() > 0 {
			c.Pause()
		}
	}
}

// echoing is the handler of an echo with back-pressure, which closes when all is done.
func echoing(ended chan<- error) *script {
	finish := func(c *Conn) {
		if c.ending && c.Pending() == 0 && !c.closed {
			c.Close()
			ended <- nil
		}
	}
	return &script{
		readable: func(c *Conn) { echo(c); finish(c) },
		drained: func(c *Conn) {
			if c.ending {
				finish(c)
			} else {
				c.Resume()
			}
		},
		failed: func(_ *Conn, err error) { ended <- err },
	}
}

// start gives a connection its handler and lets it read.
func start(t *testing.T, c *Conn, h Handler) {
	t.Helper()
	on(t, c.loop, func() {
		c.Handle(h)
		c.Resume()
	})
}
