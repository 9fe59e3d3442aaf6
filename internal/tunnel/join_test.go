//go:build linux

package tunnel

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wstunnel/internal/reactor"
	"wstunnel/internal/ws"
)

// TestEndsThatNoLoopTakes are closed, and the other one with them.
func TestEndsThatNoLoopTakes(t *testing.T) {
	for name, odd := range map[string]transport{
		"tls over a connection of its own": func(t *testing.T) (net.Conn, net.Conn) {
			ours, peers := plainTCP(t)
			return secure(t, ours, peers)
		},
		"memory": func(*testing.T) (net.Conn, net.Conn) { return net.Pipe() },
	} {
		r := newRig(t, odd, plainTCP, Options{}, nil, nil)
		if res := r.wait(t); res.Cause != CauseReset || res.Err == nil {
			t.Errorf("%s: ended by %s, %s, %v", name, res.By, res.Cause, res.Err)
		}
		for _, peer := range []net.Conn{r.client, r.backend} {
			peer.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := peer.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("%s: a connection is still open: %v", name, err)
			}
		}
	}
}

// TestJoinedTunnel accepts the client, dials the backend and joins them, all on a loop.
func TestJoinedTunnel(t *testing.T) {
	group, err := reactor.NewGroup(slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	defer group.Close()
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
		client.Loop().Dial([]unix.Sockaddr{address}, time.Second, func(backend *reactor.Conn, err error) {
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

// idle handles a connection that waits for its tunnel.
type idle struct{}

func (idle) Readable(*reactor.Conn)      {}
func (idle) Drained(*reactor.Conn)       {}
func (idle) Failed(*reactor.Conn, error) {}

func TestPanicEndsOneTunnelAndIsAccountedFor(t *testing.T) {
	log := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(io.Discard, nil)))
	defer slog.SetDefault(log)
	r := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
	other := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
	r.Inject(Client, ws.OpPing, nil)
	readFrame(t, r.client) // it has begun
	broken := r.Tunnel
	broken.loop.Load().Post(func() { broken.backend.conn.Do(func() { panic("a fault") }) })
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

func TestTunnelWithoutDescriptorsEndsAtOnce(t *testing.T) {
	ourClient, client := plainTCP(t)
	ourBackend, _ := plainTCP(t)
	var limit unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	lowest, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(lowest)
	result := make(chan Result, 1)
	tunnel := New(End{Conn: ourClient}, End{Conn: ourBackend}, Options{})
	unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(lowest), Max: limit.Max})
	tunnel.Start(func(r Result) { result <- r })
	unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	if r := <-result; !errors.Is(r.Err, unix.EMFILE) {
		t.Errorf("ended by %s, %s, %v", r.By, r.Cause, r.Err)
	}
	if rest, err := io.ReadAll(client); len(bytes.TrimSpace(rest)) != 0 || err != nil {
		t.Errorf("client read %q, %v", rest, err)
	}
}

// TestTunnelOfAConnectionThatIsClosed ends, and its other connection with it.
func TestTunnelOfAConnectionThatIsClosed(t *testing.T) {
	for _, dead := range []Side{Client, Backend} {
		client, clientPeer := overTLS(t)
		backend, backendPeer := overTLS(t)
		closed, peer := client, backendPeer
		if dead == Backend {
			closed, peer = backend, clientPeer
		}
		closed.(*tls.Conn).NetConn().Close()
		result := make(chan Result, 1)
		New(End{Conn: client}, End{Conn: backend}, Options{}).Start(func(r Result) { result <- r })
		if r := <-result; r.Err == nil {
			t.Errorf("ended with %+v", r)
		}
		peer.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := peer.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s is closed: the other connection is still open: %v", dead, err)
		}
	}
}

// flood has a backend that never stops talking.
func flood(r *rig) {
	message := testFrame(Backend, ws.OpBinary, string(make([]byte, 20_000)))
	for {
		if _, err := r.backend.Write(message); err != nil {
			return
		}
	}
}

// TestSideThatTakesLittleIsAlive: its answer waits behind what it has yet to read.
func TestSideThatTakesLittleIsAlive(t *testing.T) {
	const interval = 400 * time.Millisecond
	r := newRig(t, plainTCP, plainTCP, Options{Ping: interval, CloseTimeout: time.Millisecond}, nil, nil)
	go flood(r)
	buf := make([]byte, 8<<10)
	for end := time.Now().Add(6 * interval); time.Now().Before(end); time.Sleep(interval / 40) {
		r.client.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.ReadFull(r.client, buf); err != nil {
			t.Fatal(err)
		}
		if len(r.result) > 0 {
			t.Fatalf("ended with %+v", r.wait(t))
		}
	}
	r.end(t)
}
