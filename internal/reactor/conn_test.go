package reactor

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func TestConnEchoesWithBackPressure(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		g, _ := startGroup(t)
		c, peer := accept(t, g, network)
		ended := make(chan error, 1)
		start(t, c, echoing(ended))
		want := make([]byte, 8<<20)
		rand.NewChaCha8([32]byte{}).Read(want)
		go func() {
			peer.Write(want)
			peer.(interface{ CloseWrite() error }).CloseWrite()
		}()
		got, err := io.ReadAll(peer)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %d bytes came back of %d, %v", network, len(got), len(want), err)
		}
		if err := await(t, ended); err != nil {
			t.Error(err)
		}
	}
}

func TestConnKeepsWhatThePeerDoesNotTake(t *testing.T) {
	g, _ := startGroup(t)
	c, peer := accept(t, g, "tcp")
	drained := make(chan int, 1)
	start(t, c, &script{drained: func(c *Conn) { drained <- c.Pending() }})
	const size = 32 << 20
	on(t, c.loop, func() {
		c.Write(make([]byte, size))
		if c.Pending() == 0 {
			t.Error("the kernel took all at once")
		}
		c.CloseWrite() // behind what is pending
	})
	if got, err := io.ReadAll(peer); len(got) != size || err != nil {
		t.Errorf("read %d bytes, %v", len(got), err)
	}
	if pending := await(t, drained); pending != 0 {
		t.Errorf("drained with %d bytes pending", pending)
	}
}

func TestPausedConnStillLearnsOfAReset(t *testing.T) {
	g, _ := startGroup(t)
	c, peer := accept(t, g, "tcp")
	failed := make(chan error, 1)
	start(t, c, &script{failed: func(_ *Conn, err error) { failed <- err }})
	on(t, c.loop, c.Pause)
	peer.(*net.TCPConn).SetLinger(0)
	peer.Close()
	if err := await(t, failed); !errors.Is(err, unix.ECONNRESET) {
		t.Error(err)
	}
}

// TestWhatIsLeftIsToldAgain reads a byte at a time, with pauses: nothing more comes that would wake anybody.
func TestWhatIsLeftIsToldAgain(t *testing.T) {
	g, _ := startGroup(t)
	c, peer := accept(t, g, "tcp")
	read := make(chan byte, 100)
	start(t, c, &script{readable: func(c *Conn) {
		p, err := c.ReadUpTo(1)
		if err != nil || len(p) == 0 {
			t.Errorf("read %q, %v", p, err)
			c.Close()
			return
		}
		read <- p[0]
		if p[0]%10 == 0 {
			c.Pause()
		}
	}})
	want := make([]byte, 0, 100)
	for i := byte(1); i <= 100; i++ {
		want = append(want, i)
	}
	peer.Write(want[:15])
	peer.Write(want[15:])
	for _, b := range want {
		if got := await(t, read); got != b {
			t.Fatalf("read %d, want %d", got, b)
		}
		if b%10 == 0 {
			g.clock.Skip(0)
			on(t, c.loop, func() {
				if len(read) > 0 {
					t.Error("a paused connection was read")
				}
				if b < 100 {
					c.Resume()
				}
			})
		}
	}
	on(t, c.loop, func() { c.Close() })
}

// startReading lets c read, and hands on what it reads.
func startReading(t *testing.T, c *Conn) chan string {
	t.Helper()
	read := make(chan string, 1)
	start(t, c, &script{readable: func(c *Conn) {
		if p, _ := c.Read(); len(p) > 0 {
			read <- string(p)
		}
	}})
	return read
}

// TestResumedConnIsToldOfWhatCameMeanwhile: bytes come while the connection is paused, and none afterwards.
func TestResumedConnIsToldOfWhatCameMeanwhile(t *testing.T) {
	g, _ := startGroup(t)
	c, peer := accept(t, g, "tcp")
	read := startReading(t, c)
	for range 20 {
		on(t, c.loop, c.Pause)
		peer.Write([]byte("meanwhile"))
		g.clock.Skip(0)
		on(t, c.loop, c.Resume)
		if got := await(t, read); got != "meanwhile" {
			t.Errorf("read %q", got)
		}
	}
	on(t, c.loop, func() { c.Close() })
}

// TestBrieflyPausedConnIsNotWatchedForLong: the poller is told of the pause by the first bytes that come.
func TestBrieflyPausedConnIsNotWatchedForLong(t *testing.T) {
	g, _ := startGroup(t)
	c, peer := accept(t, g, "tcp")
	read := startReading(t, c)
	for range 20 {
		on(t, c.loop, func() {
			c.PauseBriefly()
			if c.armed == 0 {
				t.Error("the poller was told at once")
			}
		})
		peer.Write([]byte("meanwhile"))
		eventually(t, "the poller is told", func() (told bool) {
			on(t, c.loop, func() { told = c.armed == 0 })
			return told
		})
		on(t, c.loop, func() {
			if len(read) > 0 {
				t.Error("a paused connection was read")
			}
			c.Resume()
		})
		if got := await(t, read); got != "meanwhile" {
			t.Errorf("read %q", got)
		}
	}
	on(t, c.loop, func() { c.Close() })
}

func TestHungUpConnDoesNotSpin(t *testing.T) {
	g, _ := startGroup(t)
	c, peer := accept(t, g, "tcp")
	ended := make(chan struct{})
	start(t, c, &script{readable: func(c *Conn) {
		if _, err := c.Read(); err != nil {
			c.Pause()
			c.CloseWrite() // both directions are at their end: epoll reports a hang-up for ever
			close(ended)
		}
	}})
	peer.(*net.TCPConn).CloseWrite()
	await(t, ended)
	io.ReadAll(peer)
	eventually(t, "out of epoll", func() (out bool) {
		on(t, c.loop, func() { out = !c.watched })
		return out
	})
	on(t, c.loop, func() { c.Close() })
}

func TestResetReachesThePeer(t *testing.T) {
	g, _ := startGroup(t)
	c, peer := accept(t, g, "tcp")
	start(t, c, &script{})
	on(t, c.loop, c.Reset)
	if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Error(err)
	}
	on(t, c.loop, func() {
		if _, err := c.Read(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if err := c.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

func TestPanicEndsOneConnection(t *testing.T) {
	g, log := startGroup(t)
	bad, badPeer := accept(t, g, "tcp")
	l := bad.loop
	good, goodPeer := dial(t, l, "tcp")
	failed := make(chan error, 1)
	start(t, bad, &script{
		readable: func(*Conn) { panic("trouble") },
		failed:   func(_ *Conn, err error) { failed <- err; panic("more trouble") },
	})
	ended := make(chan error, 1)
	start(t, good, echoing(ended))
	badPeer.Write([]byte("x"))
	if err := await(t, failed); !errors.Is(err, ErrPanic) {
		t.Error(err)
	}
	if _, err := badPeer.Read(make([]byte, 1)); err == nil {
		t.Error("the connection whose callback panicked is still open")
	}
	l.Post(func() { panic("posted trouble") })
	third, _ := dial(t, l, "tcp")
	start(t, third, &script{failed: func(_ *Conn, err error) { failed <- err }})
	l.Post(func() { third.Do(func() { panic("trouble of its own") }) })
	if err := await(t, failed); !errors.Is(err, ErrPanic) {
		t.Error(err)
	}
	goodPeer.Write([]byte("hello"))
	goodPeer.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(goodPeer); string(got) != "hello" || err != nil {
		t.Errorf("the other connection echoed %q, %v", got, err)
	}
	await(t, ended)
	for _, text := range []string{`panic=trouble`, `panic="more trouble"`, `panic="posted trouble"`, `panic="trouble of its own"`, "conn_test.go"} {
		if log.count(text) == 0 {
			t.Errorf("the log lacks %s", text)
		}
	}
}

func TestClosedGroupTellsItsConnections(t *testing.T) {
	g, _ := startGroup(t)
	c, peer := accept(t, g, "tcp")
	failed := make(chan error, 1)
	start(t, c, &script{failed: func(_ *Conn, err error) { failed <- err }})
	g.Close()
	if err := await(t, failed); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	eventually(t, "ended", func() bool { return !c.loop.Post(func() {}) })
}
