package reactor

import (
	"bytes"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

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

// pair makes two connected sockets.
func pair(t *testing.T, network string) (ours, peers net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if peers, err = net.Dial(network, l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if ours, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peers.Close(); ours.Close() })
	return ours, peers
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

// adopt puts conn on a loop and lets it read.
func adopt(t *testing.T, l *Loop, conn net.Conn, h Handler) *Conn {
	t.Helper()
	c, err := Adopt(conn)
	if err != nil {
		t.Fatal(err)
	}
	on(t, l, func() {
		if err := l.Add(c, h); err != nil {
			t.Error(err)
		}
		c.Resume()
	})
	return c
}
