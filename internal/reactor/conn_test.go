//go:build linux

package reactor

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestConnEchoesWithBackPressure(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		g, _ := startGroup(t)
		ours, peer := pair(t, network)
		ended := make(chan error, 1)
		adopt(t, g.Pick(), ours, echoing(ended))
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
	ours, peer := pair(t, "tcp")
	drained := make(chan int, 1)
	c := adopt(t, g.Pick(), ours, &script{drained: func(c *Conn) { drained <- c.Pending() }})
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
	ours, peer := pair(t, "tcp")
	failed := make(chan error, 1)
	c := adopt(t, g.Pick(), ours, &script{failed: func(_ *Conn, err error) { failed <- err }})
	on(t, c.loop, c.Pause)
	peer.(*net.TCPConn).SetLinger(0)
	peer.Close()
	if err := await(t, failed); !errors.Is(err, unix.ECONNRESET) {
		t.Error(err)
	}
}

func TestHungUpConnDoesNotSpin(t *testing.T) {
	g, _ := startGroup(t)
	ours, peer := pair(t, "tcp")
	ended := make(chan struct{})
	c := adopt(t, g.Pick(), ours, &script{readable: func(c *Conn) {
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
	ours, peer := pair(t, "tcp")
	c := adopt(t, g.Pick(), ours, &script{})
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
	l := g.Pick()
	bad, badPeer := pair(t, "tcp")
	good, goodPeer := pair(t, "tcp")
	failed := make(chan error, 1)
	adopt(t, l, bad, &script{
		readable: func(*Conn) { panic("trouble") },
		failed:   func(_ *Conn, err error) { failed <- err; panic("more trouble") },
	})
	ended := make(chan error, 1)
	adopt(t, l, good, echoing(ended))
	badPeer.Write([]byte("x"))
	if err := await(t, failed); !errors.Is(err, ErrPanic) {
		t.Error(err)
	}
	if _, err := badPeer.Read(make([]byte, 1)); err == nil {
		t.Error("the connection whose callback panicked is still open")
	}
	l.Post(func() { panic("posted trouble") })
	third, _ := pair(t, "tcp")
	c := adopt(t, l, third, &script{failed: func(_ *Conn, err error) { failed <- err }})
	l.Post(func() { c.Do(func() { panic("trouble of its own") }) })
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

// TestEventsOfAClosedDescriptorAreDropped has two connections become readable in one batch. The first to be told closes
// the other, and another connection gets its descriptor.
func TestEventsOfAClosedDescriptorAreDropped(t *testing.T) {
	g, _ := startGroup(t)
	l := g.Pick()
	var conns [2]*Conn
	var peers [2]net.Conn
	told := 0
	third, _ := pair(t, "tcp")
	reborn := make(chan *Conn, 1)
	handler := &script{}
	handler.readable = func(c *Conn) {
		if told++; told > 1 {
			t.Error("a closed connection was told of its bytes")
			return
		}
		other := conns[0]
		if c == other {
			other = conns[1]
		}
		fd := other.fd
		other.Close()
		taken, err := unix.FcntlInt(uintptr(c.fd), unix.F_DUPFD_CLOEXEC, int(fd))
		if err != nil || taken != int(fd) {
			t.Errorf("descriptor %d is taken, got %d, %v", fd, taken, err)
		}
		unix.Close(taken)
		raw, _ := third.(*net.TCPConn).SyscallConn()
		raw.Control(func(from uintptr) { unix.Dup3(int(from), int(fd), unix.O_CLOEXEC) })
		newcomer := &Conn{fd: fd}
		l.Add(newcomer, &script{readable: func(*Conn) { t.Error("a new connection was told of an old one's bytes") }})
		newcomer.Resume()
		c.Close()
		reborn <- newcomer
	}
	for i := range conns {
		var ours net.Conn
		ours, peers[i] = pair(t, "tcp")
		conns[i] = adopt(t, l, ours, handler)
	}
	on(t, l, func() { // both have something to say before epoll is asked
		peers[0].Write([]byte("x"))
		peers[1].Write([]byte("x"))
		time.Sleep(20 * time.Millisecond)
	})
	newcomer := await(t, reborn)
	time.Sleep(20 * time.Millisecond)
	on(t, l, func() { newcomer.Close() })
}

func TestSpliceMovesExactlyWhatItIsTold(t *testing.T) {
	g, _ := startGroup(t)
	l := g.Pick()
	from, sender := pair(t, "tcp")
	to, receiver := pair(t, "tcp")
	dst := adopt(t, l, to, &script{})
	want := make([]byte, 4<<20)
	rand.NewChaCha8([32]byte{1}).Read(want)
	const odd = 1<<20 + 77 // moved by the kernel; the rest is read
	left := odd
	var pipe *Pipe
	src := &script{}
	src.readable = func(c *Conn) {
		if left == 0 {
			p, err := c.Read()
			if err == io.EOF {
				dst.CloseWrite()
				c.Close()
				return
			}
			if dst.Write(p); dst.Pending() > 0 {
				c.Pause()
			}
			return
		}
		pipe, _ = l.Pipe()
		n, err := pipe.Fill(c, left)
		if err != nil {
			t.Error(err)
		}
		left -= n
		pipe.Drain(dst)
		if pipe.Held() > 0 {
			c.Pause()
			dst.WaitWritable()
			return
		}
		l.PutPipe(pipe)
	}
	ours := adopt(t, l, from, src)
	on(t, l, func() {
		dst.Handle(&script{drained: func(d *Conn) {
			if pipe.Held() > 0 {
				if pipe.Drain(d); pipe.Held() > 0 {
					d.WaitWritable()
					return
				}
				l.PutPipe(pipe)
			}
			ours.Resume()
		}})
	})
	go func() { sender.Write(want); sender.Close() }()
	time.Sleep(50 * time.Millisecond) // the pipe and the buffers fill
	if got, err := io.ReadAll(receiver); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes of %d arrived, %v", len(got), len(want), err)
	}
	on(t, l, func() {
		if len(l.pipes) != 1 {
			t.Errorf("%d pipes in the pool", len(l.pipes))
		}
		dst.Close()
	})
}

// echoingOnce echoes what comes first and releases its connection then.
func echoingOnce(t *testing.T, released chan<- net.Conn) *script {
	return &script{readable: func(c *Conn) {
		p, _ := c.Read()
		if len(p) == 0 {
			return
		}
		c.Write(p)
		conn, err := c.Release()
		if err != nil {
			t.Error(err)
		}
		released <- conn
	}}
}

func TestReleasedConnGoesOnInTheNetPackage(t *testing.T) {
	g, _ := startGroup(t)
	ours, peer := pair(t, "tcp")
	released := make(chan net.Conn, 1)
	adopt(t, g.Pick(), ours, echoingOnce(t, released))
	peer.Write([]byte("ab"))
	buf := make([]byte, 2)
	io.ReadFull(peer, buf)
	conn, ok := await(t, released).(*net.TCPConn)
	if !ok {
		t.Fatal("not a TCP connection")
	}
	defer conn.Close()
	conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := conn.Read(buf); err == nil || !err.(net.Error).Timeout() {
		t.Errorf("a deadline does not hold: %v", err)
	}
	conn.SetReadDeadline(time.Time{})
	peer.Write([]byte("cd"))
	if io.ReadFull(conn, buf); string(buf) != "cd" {
		t.Errorf("read %q", buf)
	}
}

func TestKeepAliveIsSet(t *testing.T) {
	g, _ := startGroup(t)
	ours, _ := pair(t, "tcp")
	c := adopt(t, g.Pick(), ours, &script{})
	on(t, c.loop, func() {
		c.SetKeepAlive(KeepAlive{time.Minute, time.Second, 3})
		if ms, _ := unix.GetsockoptInt(int(c.fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); ms != 63_000 {
			t.Errorf("user timeout is %d ms", ms)
		}
		c.Close()
	})
}

// TestVanishedPeerIsGoneWhenTheProbesSaySo: the peer's socket takes no segment any more, as if its machine had lost its power.
func TestVanishedPeerIsGoneWhenTheProbesSaySo(t *testing.T) {
	g, _ := startGroup(t)
	ours, peer := pair(t, "tcp")
	failed := make(chan error, 1)
	c := adopt(t, g.Pick(), ours, &script{failed: func(_ *Conn, err error) { failed <- err }})
	raw, err := peer.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	nothing := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
	raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing})
	})
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	on(t, c.loop, func() {
		c.SetKeepAlive(KeepAlive{Idle: time.Second, Interval: time.Second, Count: 2})
		c.Resume()
	})
	if err := await(t, failed); !errors.Is(err, unix.ETIMEDOUT) {
		t.Error(err)
	}
	if took := time.Since(begin); took < 2500*time.Millisecond || took > 6*time.Second {
		t.Errorf("found gone after %v, want 3 s", took)
	}
	on(t, c.loop, func() { c.Close() })
}

func TestClosedGroupTellsItsConnections(t *testing.T) {
	g, _ := startGroup(t)
	ours, peer := pair(t, "tcp")
	failed := make(chan error, 1)
	c := adopt(t, g.Pick(), ours, &script{failed: func(_ *Conn, err error) { failed <- err }})
	g.Close()
	if err := await(t, failed); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
	if _, err := peer.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	eventually(t, "ended", func() bool { return !c.loop.Post(func() {}) })
}

func TestConnIsSmall(t *testing.T) {
	if size := unsafe.Sizeof(Conn{}); size > 64 {
		t.Errorf("a Conn has %d bytes", size)
	}
}
