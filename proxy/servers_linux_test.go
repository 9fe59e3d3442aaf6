//go:build linux

package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// silentPort returns an address that answers nothing: of a listener whose queue is full.
func silentPort(t *testing.T) string {
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
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(address.(*unix.SockaddrInet4).Port)).String()
}

// TestServerThatDoesNotAnswerIsTriedAfterTheOthers: it costs one request its time, and no other one.
func TestServerThatDoesNotAnswerIsTriedAfterTheOthers(t *testing.T) {
	good := startHeads(t, answerOrSwitch).address
	secure := startSecureBackend(t, func(_ *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		for {
			head, err := rawHead(br)
			if err != nil {
				return
			}
			io.WriteString(conn, answerOrSwitch(head))
		}
	}).address
	deaf := startBackend(t, func(_ *backend, conn net.Conn) { io.Copy(io.Discard, conn) }).address
	broken := startBackend(t, func(_ *backend, conn net.Conn) { rawHead(bufio.NewReader(conn)) }).address
	const connect, handshake = 5 * time.Second, 10 * time.Second
	for _, tt := range []struct {
		name, request, s, bad, good string
		limit                       time.Duration // of the wait
	}{
		{"no connect, page", get, "", silentPort(t), good, connect},
		{"no connect, tunnel", upgrade, "", silentPort(t), good, connect},
		{"no TLS handshake, page", get, "s", deaf, secure, connect},
		{"no TLS handshake, tunnel", upgrade, "s", deaf, secure, connect},
		{"no answer to the handshake", upgrade, "", deaf, good, handshake},
		{"connection closed at the handshake", upgrade, "", broken, good, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			location := `{path: /, websocket: "ws` + tt.s + `://two", http: "http` + tt.s + `://two"}`
			if tt.s != "" {
				location = strings.Replace(location, "{", "{tls_verify: false, ", 1)
			}
			f := start(t, oneSite(location)+"upstreams: {two: {servers: [\""+tt.bad+"\", \""+tt.good+"\"]}}\n")
			status, slow := 200, 0
			if tt.request == upgrade {
				status = 101
			}
			for range 10 {
				c := f.dial()
				c.send(tt.request)
				if !c.isAnswered(time.Second) {
					slow++
					f.server.Skip(tt.limit - 3*time.Second)
					if c.isAnswered(10 * time.Millisecond) {
						t.Errorf("answered long before %v have passed", tt.limit)
					}
					f.server.Skip(3 * time.Second)
				}
				c.expect(status)
			}
			if want := min(1, int(tt.limit)); slow != want {
				t.Errorf("%d of 10 requests had to wait, want %d", slow, want)
			}
		})
	}
}

// TestServerThatDidNotAnswerIsAskedAgainAfter10s, and not earlier.
func TestServerThatDidNotAnswerIsAskedAgainAfter10s(t *testing.T) {
	good := startHeads(t, answerOrSwitch).address
	broken := startBackend(t, func(_ *backend, conn net.Conn) { rawHead(bufio.NewReader(conn)) })
	f := start(t, oneSite(both("two"))+"upstreams: {two: {servers: [\""+broken.address+"\", \""+good+"\"]}}\n")
	for _, step := range []struct {
		age  time.Duration
		want int // connections that the broken server has seen
	}{{0, 1}, {8 * time.Second, 1}, {2 * time.Second, 2}, {10 * time.Second, 3}} {
		f.server.Skip(step.age)
		for range 4 { // each server's turn comes twice
			c := f.dial()
			c.send(upgrade)
			c.expect(101)
		}
		if got := broken.accepted(); got != step.want {
			t.Errorf("%v later the broken server has been asked %d times, want %d", step.age, got, step.want)
		}
	}
}

// TestOnlyServerIsNeverLeftOut is asked again right after it failed.
func TestOnlyServerIsNeverLeftOut(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	fails := make(chan bool, 1)
	fails <- true
	startBackendOn(t, l, func(_ *backend, conn net.Conn) {
		head, _ := rawHead(bufio.NewReader(conn))
		select {
		case <-fails:
		default:
			io.WriteString(conn, answerOrSwitch(head))
		}
	})
	f := start(t, oneSite(both(l.Addr().String())))
	for _, status := range []int{502, 101, 101} {
		c := f.dial()
		c.send(upgrade)
		c.expect(status)
	}
}

// TestUnixSocketWithAFullQueueIsWaitedFor within connect.
func TestUnixSocketWithAFullQueueIsWaitedFor(t *testing.T) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	address := &unix.SockaddrUnix{Name: filepath.Join(t.TempDir(), "s")}
	unix.Bind(fd, address)
	unix.Listen(fd, 0)
	fillers := -1 // the last one finds no room
	for full := false; !full; fillers++ {
		filler, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		defer unix.Close(filler)
		full = unix.Connect(filler, address) != nil
	}
	f := start(t, oneSite(`{path: /, websocket: "unix:`+address.Name+`", http: "unix:`+address.Name+`"}`))
	for _, request := range []string{get, upgrade} {
		c := f.dial()
		c.send(request)
		c.waits(f, 4*time.Second)
		f.server.Skip(time.Second)
		c.expect(504)
	}
	accept := func() int {
		accepted, _, err := unix.Accept(fd)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(accepted) })
		return accepted
	}
	for request, status := range map[string]int{get: 200, upgrade: 101} {
		c := f.dial()
		c.send(request)
		c.waits(f, time.Second)
		for ; fillers > 0; fillers-- { // the first ones in the queue send nothing
			accept()
		}
		accepted := accept()
		unix.SetsockoptTimeval(accepted, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: int64(patience / time.Second)})
		buf := make([]byte, 4096)
		n, err := unix.Read(accepted, buf)
		for err == unix.EINTR { // which one with a time limit is, where others are restarted
			n, err = unix.Read(accepted, buf)
		}
		if err != nil {
			t.Fatal(err)
		}
		unix.Write(accepted, []byte(answerOrSwitch(string(buf[:n]))))
		c.expect(status)
	}
}
