package reactor

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// startSink accepts on an address and hands over who has connected.
func startSink(t *testing.T, address string) (at unix.Sockaddr, peers chan netip.AddrPort) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	peers = make(chan netip.AddrPort, 1000)
	ended := make(chan bool)
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			peers <- conn.RemoteAddr().(*net.TCPAddr).AddrPort()
			conn.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-ended })
	return Sockaddr(l.Addr().(*net.TCPAddr).AddrPort()), peers
}

// dialFrom connects with a spread, and returns who the server has seen.
func dialFrom(t *testing.T, l *Loop, at unix.Sockaddr, peers chan netip.AddrPort, spread int) string {
	t.Helper()
	failed := make(chan error, 1)
	l.Post(func() {
		l.Dial([]unix.Sockaddr{at}, spread, time.Minute, func(c *Conn, err error) {
			if err != nil {
				failed <- err
				return
			}
			c.Close()
		})
	})
	select {
	case peer := <-peers:
		return peer.Addr().Unmap().String()
	case err := <-failed:
		t.Fatal(err)
	case <-time.After(patience):
		t.Fatal("no connection")
	}
	return ""
}

// TestConnectionsToALoopbackPortComeFromSeveralAddresses where one has not enough ports.
func TestConnectionsToALoopbackPortComeFromSeveralAddresses(t *testing.T) {
	group, _ := startGroup(t)
	l := group.Loops[0]
	at, peers := startSink(t, "127.0.0.1:0")
	for spread, want := range map[int]string{0: "127.0.0.1", 1: "127.0.0.2", 2: "127.0.0.3", 253: "127.0.0.254", 254: "127.0.1.1"} {
		if got := dialFrom(t, l, at, peers, spread); got != want {
			t.Errorf("spread %d: from %s, want %s", spread, got, want)
		}
	}
	if at, peers := startSink(t, "[::1]:0"); at != nil {
		if got := dialFrom(t, l, at, peers, 3); got != "::1" {
			t.Errorf("over IPv6: from %s", got)
		}
	}
}

// TestPortsThatRunOutAreOneAddresses only: the next connection comes from another one.
func TestPortsThatRunOutAreOneAddresses(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root gives a network of its own few ports")
	}
	from, err := inOwnNetwork(func() (map[string]int, error) {
		return connectAll(60) // three times as many as one address has ports
	})
	if err != nil {
		t.Skip(err)
	}
	if len(from) != 3 || from["127.0.0.1"] != 20 || from["127.0.0.3"] != 20 {
		t.Errorf("connections came from %v", from)
	}
}

// connectAll connects so often to one port where each address has 20 ports for that, and returns where from.
func connectAll(n int) (from map[string]int, err error) {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte("50000 50019"), 0o644); err != nil {
		return nil, err
	}
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer unix.Close(listener)
	at := &unix.SockaddrInet4{Port: 80, Addr: [4]byte{127, 0, 0, 1}}
	if err := errors.Join(unix.Bind(listener, at), unix.Listen(listener, n)); err != nil {
		return nil, err
	}
	from = map[string]int{}
	for range n {
		fd, err := connectSpread(unix.AF_INET, at, 0)
		if err != nil {
			from[err.Error()]++
			continue
		}
		defer unix.Close(fd)
		local, err := unix.Getsockname(fd)
		if err != nil {
			return nil, err
		}
		from[netip.AddrFrom4(local.(*unix.SockaddrInet4).Addr).String()]++
	}
	return from, nil
}

// inOwnNetwork runs f on a thread that has a network of its own, with nothing but loopback. The thread ends with f. Where it can't have one, the error says why.
func inOwnNetwork(f func() (map[string]int, error)) (from map[string]int, err error) {
	done := make(chan bool)
	go func() {
		defer close(done)
		if err = enterOwnNetwork(); err == nil {
			from, err = f()
		}
	}()
	<-done
	return from, err
}

// enterOwnNetwork gives the goroutine's thread a network of its own, for good.
func enterOwnNetwork() error {
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	loopback.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, loopback)
}
