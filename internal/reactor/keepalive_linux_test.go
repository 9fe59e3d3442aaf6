package reactor

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestKeepAliveIsSet(t *testing.T) {
	g, _ := startGroup(t)
	c, _ := accept(t, g, "tcp")
	start(t, c, &script{})
	on(t, c.loop, func() {
		c.SetKeepAlive(KeepAlive{time.Minute, time.Second, 3})
		if ms, _ := unix.GetsockoptInt(int(c.fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT); ms != userTimeout(63_000) {
			t.Errorf("user timeout is %d ms", ms)
		}
		c.Close()
	})
}

// TestVanishedPeerIsGoneWhenTheProbesSaySo: the peer's socket takes no segment any more, as if its machine had lost its power.
func TestVanishedPeerIsGoneWhenTheProbesSaySo(t *testing.T) {
	g, _ := startGroup(t)
	c, peer := accept(t, g, "tcp")
	failed := make(chan error, 1)
	start(t, c, &script{failed: func(_ *Conn, err error) { failed <- err }})
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

func TestAcceptedConnectionsAreSupervised(t *testing.T) {
	g, _ := startGroup(t)
	keepAlive := KeepAlive{Idle: time.Minute, Interval: 15 * time.Second, Count: 6}
	for _, multipath := range []struct{ listener, client bool }{{false, false}, {true, false}, {true, true}} {
		var config net.ListenConfig
		config.SetMultipathTCP(multipath.listener)
		l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		type options struct{ noDelay, alive, idle, interval, count, user int }
		result := make(chan options, 1)
		ln, err := g.Listen(l.(syscall.Conn), keepAlive, func(c *Conn, _ netip.AddrPort) {
			get := func(level, name int) int {
				value, _ := unix.GetsockoptInt(int(c.fd), level, name)
				return value
			}
			result <- options{
				get(unix.IPPROTO_TCP, unix.TCP_NODELAY), get(unix.SOL_SOCKET, unix.SO_KEEPALIVE), get(unix.IPPROTO_TCP, unix.TCP_KEEPIDLE),
				get(unix.IPPROTO_TCP, unix.TCP_KEEPINTVL), get(unix.IPPROTO_TCP, unix.TCP_KEEPCNT), get(unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT),
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Stop()
		ln.Start()
		var dialer net.Dialer
		dialer.SetMultipathTCP(multipath.client)
		peer, err := dialer.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer peer.Close()
		want := options{1, 1, 60, 15, 6, userTimeout(150_000)}
		got := await(t, result)
		if multipath.client && got.user == 0 {
			got.user = want.user // not every kernel has it
		}
		if got != want {
			t.Errorf("multipath %v: accepted with %+v", multipath, got)
		}
	}
}
