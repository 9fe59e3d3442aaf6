//go:build linux

package reactor

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"runtime"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestListenerSharesConnectionsAmongLoops(t *testing.T) {
	g, _ := startGroup(t)
	l := listen(t, "tcp", "127.0.0.1:0")
	const n = 400
	ended := make(chan error, n)
	ln, err := g.Listen(l.(syscall.Conn), KeepAlive{}, func(c *Conn, _ netip.AddrPort) {
		c.Handle(echoing(ended))
		c.Resume()
	})
	if err != nil {
		t.Fatal(err)
	}
	ln.Start()
	var conns []net.Conn
	for range n {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns = append(conns, conn)
	}
	eventually(t, "accepted all", func() bool { return loads(g) == n+1 })
	for _, loop := range g.Loops {
		if load := int(loop.load.Load()); load > n/len(g.Loops)+2*loadSlack {
			t.Errorf("a loop has %d connections of %d", load, n)
		}
	}
	ln.Stop()
	ln.Stop()
	for _, conn := range conns { // they outlive the listener
		conn.Write([]byte("x"))
		conn.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(conn); string(got) != "x" || err != nil {
			t.Fatalf("echo: %q, %v", got, err)
		}
		await(t, ended)
	}
	eventually(t, "empty", func() bool { return loads(g) == 0 })
}

func loads(g *Group) (n int) {
	for _, l := range g.Loops {
		n += int(l.load.Load())
	}
	return n
}

func TestAddressIsFreeAfterStop(t *testing.T) {
	g, _ := startGroup(t)
	for started := range 200 {
		l := listen(t, "tcp", "127.0.0.1:0")
		ln, err := g.Listen(l.(syscall.Conn), KeepAlive{}, func(*Conn, netip.AddrPort) {})
		if err != nil {
			t.Fatal(err)
		}
		if started%2 == 1 {
			ln.Start()
		}
		ln.Stop()
		l.Close()
		again, err := net.Listen("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		again.Close()
	}
}

func TestListenerClosesWhatNobodyTakes(t *testing.T) {
	g, log := startGroup(t)
	l := listen(t, "tcp", "127.0.0.1:0")
	var accepted atomic.Int32
	ln, err := g.Listen(l.(syscall.Conn), KeepAlive{}, func(*Conn, netip.AddrPort) {
		if accepted.Add(1) == 1 {
			panic("at the door")
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	ln.Start()
	defer ln.Stop()
	for range 3 {
		conn, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Read(make([]byte, 1)); err == nil || err.(interface{ Error() string }).Error() == "" {
			t.Error("the connection was not closed")
		}
		conn.Close()
	}
	if accepted.Load() != 3 || log.count("at the door") == 0 {
		t.Errorf("accepted %d", accepted.Load())
	}
}

// TestListenerRestsWhenDescriptorsRunOut lowers the limit of the process to what it has.
func TestListenerRestsWhenDescriptorsRunOut(t *testing.T) {
	g, log := startGroup(t)
	eventually(t, "alone", func() bool { // loops of other tests would give descriptors back
		stacks := make([]byte, 1<<20)
		return bytes.Count(stacks[:runtime.Stack(stacks, true)], []byte("(*Loop).run(")) == len(g.Loops)
	})
	l := listen(t, "tcp", "127.0.0.1:0")
	accepted := make(chan *Conn, 1)
	ln, err := g.Listen(l.(syscall.Conn), KeepAlive{}, func(c *Conn, _ netip.AddrPort) {
		c.Handle(&script{})
		accepted <- c
	})
	if err != nil {
		t.Fatal(err)
	}
	ln.Start()
	defer ln.Stop()
	raw, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(raw)
	var limit unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	runtime.GC() // what other tests have left open is closed now, and not in the middle of this one
	runtime.GC()
	time.Sleep(10 * time.Millisecond)
	lowest, _ := unix.Dup(raw)
	unix.Close(lowest)
	unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(lowest), Max: limit.Max})
	address, _ := unix.Getsockname(listenerFD(t, l))
	unix.Connect(raw, address)
	g.clock.Skip(0)
	for _, step := range []struct {
		skip  time.Duration
		lines int
	}{{0, 1}, {500 * time.Millisecond, 1}, {2 * time.Second, 2}, {2 * time.Second, 3}} {
		g.clock.Skip(step.skip)
		if lines := log.count("accepting failed"); lines != step.lines {
			t.Errorf("%v later there are %d lines in the log, want %d", step.skip, lines, step.lines)
		}
	}
	unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	g.clock.Skip(time.Second)
	c := await(t, accepted)
	on(t, c.loop, func() { c.Close() })
}

func listenerFD(t *testing.T, l net.Listener) (fd int) {
	t.Helper()
	raw, err := l.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(f uintptr) { fd = int(f) })
	return fd
}
