//go:build linux

package reactor

import (
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

type dialled struct {
	c   *Conn
	err error
}

// dialOn dials and closes what it got.
func dialOn(t *testing.T, l *Loop, timeout time.Duration, addresses ...unix.Sockaddr) error {
	t.Helper()
	return finish(t, l, beginDial(l, timeout, addresses...))
}

// beginDial dials, and hands over what comes of it.
func beginDial(l *Loop, timeout time.Duration, addresses ...unix.Sockaddr) <-chan dialled {
	result := make(chan dialled, 2)
	l.Post(func() {
		l.Dial(addresses, 0, timeout, func(c *Conn, err error) { result <- dialled{c, err} })
	})
	return result
}

// waits turns the clock, and expects nothing to have come of a dialling.
func waits(t *testing.T, l *Loop, result <-chan dialled, d time.Duration) {
	t.Helper()
	l.Clock().Skip(d)
	if len(result) > 0 {
		t.Errorf("ended too early: %v", (<-result).err)
	}
}

// finish closes the connection.
func finish(t *testing.T, l *Loop, result <-chan dialled) error {
	t.Helper()
	got := await(t, result)
	on(t, l, func() {
		if got.c == nil {
			return
		}
		if isTCP(int(got.c.fd)) {
			if on, _ := unix.GetsockoptInt(int(got.c.fd), unix.IPPROTO_TCP, unix.TCP_NODELAY); on == 0 {
				t.Error("small writes are delayed")
			}
		}
		got.c.Close()
	})
	if len(result) > 0 {
		t.Error("the callback was called twice")
	}
	return got.err
}

func TestDialTriesOneAddressAfterTheOther(t *testing.T) {
	g, _ := startGroup(t)
	l := g.Pick()
	good := listen(t, "tcp", "127.0.0.1:0")
	gone := listen(t, "tcp", "127.0.0.1:0")
	gone.Close()
	socket := filepath.Join(t.TempDir(), "s")
	listen(t, "unix", socket)
	at := func(l net.Listener) unix.Sockaddr { return Sockaddr(netip.MustParseAddrPort(l.Addr().String())) }
	for _, test := range []struct {
		name      string
		addresses []unix.Sockaddr
		want      error
	}{
		{"tcp", []unix.Sockaddr{at(good)}, nil},
		{"refused, then tcp", []unix.Sockaddr{at(gone), at(good)}, nil},
		{"refused", []unix.Sockaddr{at(gone), at(gone)}, unix.ECONNREFUSED},
		{"unix", []unix.Sockaddr{&unix.SockaddrUnix{Name: socket}}, nil},
		{"no such socket, then tcp", []unix.Sockaddr{&unix.SockaddrUnix{Name: socket + "x"}, at(good)}, nil},
		{"no such socket", []unix.Sockaddr{&unix.SockaddrUnix{Name: socket + "x"}}, unix.ENOENT},
		{"unreachable", []unix.Sockaddr{Sockaddr(netip.MustParseAddrPort("255.255.255.255:1"))}, unix.ENETUNREACH},
	} {
		if err := dialOn(t, l, patience, test.addresses...); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

// silent returns an address that does not answer: of a listener whose queue is full.
func silent(t *testing.T) unix.Sockaddr {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	unix.Listen(fd, 0)
	address, _ := unix.Getsockname(fd)
	for range 4 {
		filler, _ := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		t.Cleanup(func() { unix.Close(filler) })
		unix.Connect(filler, address)
	}
	return address
}

func TestDialPassesOverASilentAddress(t *testing.T) {
	g, _ := startGroup(t)
	good := Sockaddr(netip.MustParseAddrPort(listen(t, "tcp", "127.0.0.1:0").Addr().String()))
	l := g.Pick()
	result := beginDial(l, time.Minute, silent(t), good)
	waits(t, l, result, 25*time.Second)
	l.Clock().Skip(5 * time.Second) // half the time
	if err := finish(t, l, result); err != nil {
		t.Error(err)
	}
}

func TestCancelledDialIsForgotten(t *testing.T) {
	g, _ := startGroup(t)
	l := g.Pick()
	good := Sockaddr(netip.MustParseAddrPort(listen(t, "tcp", "127.0.0.1:0").Addr().String()))
	address := silent(t)
	load := l.load.Load()
	on(t, l, func() {
		l.Dial([]unix.Sockaddr{address, good}, 0, time.Minute, func(*Conn, error) {
			t.Error("the callback was called")
		}).Cancel()
		if l.load.Load() != load {
			t.Error("the connection is still there")
		}
	})
	g.clock.Skip(time.Hour)
}

func TestDialGivesUpInTime(t *testing.T) {
	g, _ := startGroup(t)
	l := g.Pick()
	result := beginDial(l, time.Minute, silent(t))
	waits(t, l, result, 55*time.Second)
	l.Clock().Skip(5 * time.Second)
	if err := finish(t, l, result); !errors.Is(err, ErrDialTimeout) {
		t.Errorf("got %v", err)
	}
}

func TestDialWaitsForAUnixSocketWhoseQueueIsFull(t *testing.T) {
	g, _ := startGroup(t)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	address := &unix.SockaddrUnix{Name: filepath.Join(t.TempDir(), "s")}
	unix.Bind(fd, address)
	unix.Listen(fd, 0)
	for full := false; !full; {
		filler, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		defer unix.Close(filler)
		full = unix.Connect(filler, address) != nil
	}
	l := g.Pick()
	result := beginDial(l, time.Minute, address)
	waits(t, l, result, 55*time.Second)
	l.Clock().Skip(5 * time.Second)
	if err := finish(t, l, result); !errors.Is(err, ErrDialTimeout) {
		t.Errorf("with a full queue: %v", err)
	}
	result = beginDial(l, time.Minute, address)
	waits(t, l, result, 30*time.Second)
	accepted, _, _ := unix.Accept(fd)
	defer unix.Close(accepted)
	if err := finish(t, l, result); err != nil {
		t.Errorf("once there is room: %v", err)
	}
}
