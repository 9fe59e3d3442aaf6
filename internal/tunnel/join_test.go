//go:build linux

package tunnel

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wstunnel/internal/reactor"
	"wstunnel/internal/ws"
)

// TestJoinedTunnel accepts the client, dials the backend and joins them, all on a loop.
func TestJoinedTunnel(t *testing.T) {
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer front.Close()
	back, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer back.Close()
	result := make(chan Result, 1)
	listener, err := group.Listen(front.(syscall.Conn), KeepAlive, func(client *reactor.Conn, _ netip.AddrPort) {
		address := &unix.SockaddrUnix{Name: back.Addr().String()}
		client.Handle(idle{})
		client.Loop().Dial([]unix.Sockaddr{address}, 0, time.Second, func(backend *reactor.Conn, err error) {
			if err != nil {
				t.Error(err)
				return
			}
			Join(client, backend, testFrame(Client, ws.OpText, "early"), testFrame(Backend, ws.OpText, "bird"), Options{},
				func(r Result) { result <- r })
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Stop()
	listener.Start()
	client, err := net.Dial("tcp", front.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	backend, err := back.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer backend.Close()
	expect(t, "backend", backend, testFrame(Client, ws.OpText, "early"))
	expect(t, "client", client, testFrame(Backend, ws.OpText, "bird"))
	client.Close()
	backend.Close()
	if r := <-result; r.ToBackend.Messages != 1 || r.ToClient.Messages != 1 {
		t.Errorf("ended with %+v", r)
	}
}

func TestPanicEndsOneTunnelAndIsAccountedFor(t *testing.T) {
	r := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
	other := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
	r.Inject(Client, ws.OpPing, nil)
	readFrame(t, r.client) // it has begun
	r.loop.Post(func() { r.Tunnel.backend.conn.Do(func() { panic("a fault") }) })
	res := r.wait(t)
	if res.Cause != CauseReset || !errors.Is(res.Err, reactor.ErrPanic) {
		t.Errorf("ended by %s, %s, %v", res.By, res.Cause, res.Err)
	}
	for name, conn := range map[string]net.Conn{"client": r.client, "backend": r.backend} {
		if _, err := io.ReadAll(conn); err == nil {
			t.Errorf("the %s saw a clean end", name)
		}
	}
	message := testFrame(Client, ws.OpText, "still here")
	other.client.Write(message)
	expect(t, "backend", other.backend, message)
	other.end(t)
}

// TestSideThatTakesLittleIsAlive: its answer waits behind what it has yet to read.
func TestSideThatTakesLittleIsAlive(t *testing.T) {
	r := newRig(t, plainTCP, plainTCP, Options{Ping: time.Minute, CloseTimeout: time.Second}, nil, nil)
	r.stall(t)
	taken := func() (n uint64, known bool) {
		done := make(chan struct{})
		r.loop.Post(func() {
			defer close(done)
			n, _, known = r.Tunnel.client.conn.Taken()
		})
		<-done
		return n, known
	}
	buf := make([]byte, 64<<10)
	for range 36 { // three minutes
		before, known := taken()
		for now := before; now == before; now, _ = taken() { // its system says so in steps, and a little later
			r.client.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := io.ReadFull(r.client, buf); err != nil {
				t.Fatal(err)
			}
			if !known {
				break
			}
		}
		r.lives(t, 5*time.Second)
	}
	r.end(t)
}
