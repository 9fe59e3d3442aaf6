package proxy_test

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"wstunnel/internal/ws"
)

// startDeaf is a backend that opens the socket and reads nothing more; its kernel takes little.
func startDeaf(t *testing.T) *backend {
	t.Helper()
	little := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4<<10) })
	}}
	l, err := little.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan bool)
	b := startBackendOn(t, l, socketServer(func(net.Conn, *bufio.Reader) { <-done }))
	t.Cleanup(func() { close(done) })
	return b
}

// alone runs a test that measures the heap in a process of its own, where no other test leaves or frees anything. It reports whether this is
// that process. Whatever it waits for has patience; that it hangs is found out in minutes.
func alone(t *testing.T) bool {
	t.Helper()
	const sign = "WSTUNNEL_TEST_ALONE"
	if os.Getenv(sign) == t.Name() {
		return true
	}
	run := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v", "-test.timeout=5m")
	run.Env = append(os.Environ(), sign+"="+t.Name())
	if out, err := run.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}

// awaitFlat waits until a number has not grown for a while, and returns the largest.
func awaitFlat(n func() uint64) uint64 {
	most, flat := n(), 0
	for flat < 5 {
		time.Sleep(50 * time.Millisecond)
		if now := n(); now > most {
			most, flat = now, 0
		} else {
			flat++
		}
	}
	return most
}

// TestRelayBoundsTheMemoryOfAll: twenty messages of 16 KB that inflate to 16 MB each, for a backend that reads nothing.
func TestRelayBoundsTheMemoryOfAll(t *testing.T) {
	if !alone(t) {
		return
	}
	b := startDeaf(t)
	f := start(t, oneSite(relayTo(b.address)))
	bomb := clientFrame(compressedFrame, deflated(make([]byte, 16<<20)))
	if len(bomb) > 80<<10 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	var all []*client
	for range 20 {
		all = append(all, relayed(t, f, deflateLine))
	}
	before := heap()
	for _, c := range all {
		c.send(bomb)
	}
	if grown := awaitFlat(heap) - before; grown > 100<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
	for _, c := range all {
		if op, payload := frame(t, c.br); op != ws.OpClose || code(payload) != ws.CloseTooBig {
			t.Fatalf("the client got opcode %d with %q", op, payload)
		}
	}
}

// TestRelaysThatHoldTheMemoryGiveWay: what others send is passed on all the same.
func TestRelaysThatHoldTheMemoryGiveWay(t *testing.T) {
	if !alone(t) {
		return
	}
	deaf, done := startDeaf(t), make(chan bool)
	b, got := startReader(t)
	const limit = 64 << 20
	f := start(t, "limits: {relay_memory: 64MiB}\n"+oneSite(
		`{path: /ws, mode: relay, max_message: 8MiB, websocket: "ws://`+deaf.address+`"}`,
		`{path: /live, mode: relay, websocket: "ws://`+b.address+`"}`))
	var all []*client
	for range 10 {
		all = append(all, relayed(t, f, ""))
	}
	message := []byte(clientFrame(binaryFrame, make([]byte, 8<<20))) // more than the kernel takes for a backend that reads nothing
	before := heap()
	for _, c := range all {
		go func() {
			defer func() { done <- true }()
			c.Write(message)
		}()
	}
	defer func() {
		for _, c := range all {
			c.Close()
			<-done
		}
	}()
	if grown := awaitFlat(heap) - before; grown > limit*3/2 { // what is garbage between two looks included
		t.Errorf("the heap grew by %d MiB, with a limit of %d", grown>>20, limit>>20)
	}
	live := f.dial()
	live.send(strings.Replace(upgrade, "/ws", "/live", 1))
	live.head()
	live.send(text("short"))
	if g := next(t, got); string(g.payload) != "short" {
		t.Errorf("the backend got %v", g)
	}
	defer f.hurry()()
	long := []byte(clientFrame(binaryFrame, make([]byte, 1<<20)))
	await(t, "a long message's turn", func() bool { // others wait for theirs too, and give up after a while
		live := f.dial()
		defer live.Close()
		live.send(strings.Replace(upgrade, "/ws", "/live", 1))
		live.head()
		go live.Write(long)
		passed := false
		for g := next(t, got); g.err == nil; g = next(t, got) {
			if passed = passed || g.first == binaryFrame; passed {
				live.Close()
			}
		}
		return passed
	})
	await(t, "a relay that gave way", func() bool {
		return strings.Contains(f.log.String(), `"close_code":1013,"closed_by":"proxy","cause":"no memory left"`)
	})
}

func TestRelayKeepsToMaxMessage(t *testing.T) {
	b, got := startReader(t)
	f := start(t, oneSite(`{path: /ws, mode: relay, max_message: 10KiB, websocket: "ws://`+b.address+`"}`))
	for _, kind := range []byte{binaryFrame, compressedFrame} {
		pack := func(size int) string {
			if kind == compressedFrame {
				return clientFrame(kind, deflated(compressible(size)))
			}
			return clientFrame(kind, make([]byte, size))
		}
		c := relayed(t, f, deflateLine)
		c.send(pack(10 << 10))
		if g := next(t, got); len(g.payload) != 10<<10 {
			t.Fatalf("the backend got %v", g)
		}
		c.send(pack(10<<10 + 1))
		if op, payload := frame(t, c.br); op != ws.OpClose || code(payload) != ws.CloseTooBig || !strings.Contains(payload, "10240") {
			t.Errorf("the client got opcode %d with %q", op, payload)
		}
		c.Close()
		if g := next(t, got); g.first != closeFrame {
			t.Errorf("the backend got %v", g)
		}
		next(t, got)
	}
}

// TestRelayEndsWhenItsClientLeavesDuringAStalledWrite: nobody reads from the client meanwhile.
func TestRelayEndsWhenItsClientLeavesDuringAStalledWrite(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("the end of a stream behind unread bytes is seen on Linux only")
	}
	for _, scheme := range []string{"ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			b := startDeaf(t)
			f := startTLS(t, secureSite(relayTo(b.address)))
			dial := f.dial
			if scheme == "wss" {
				dial = f.dialSecure
			}
			var all []*client
			for i := range 3 {
				c := dial()
				c.send(upgrade)
				c.head()
				await(t, "the relay", func() bool { return len(f.server.Tunnels()) == i+1 })
				c.sendUntilItStalls(f)
				all = append(all, c)
			}
			for _, c := range all {
				c.Close()
			}
			f.server.Skip(2 * time.Second) // it is looked at once a second
			awaitRelaysEnd(t, f)
		})
	}
}

// sendUntilItStalls sends messages on the newest relay until one is not read from the client any more.
func (c *client) sendUntilItStalls(f *front) {
	read := func() uint64 {
		all := f.server.Tunnels()
		return all[len(all)-1].ToBackend.Bytes
	}
	message := clientFrame(binaryFrame, make([]byte, 40_000)) // which the kernel takes together with the end of the stream
	for stalled := false; !stalled; {
		before := read()
		c.send(message)
		for wait := 0; read() < before+uint64(len(message)) && !stalled; wait++ {
			time.Sleep(time.Millisecond)
			stalled = wait > 300
		}
	}
}

func TestRelayEndsAWriteThatStallsForLong(t *testing.T) {
	b := startSocket(t, func(conn net.Conn, br *bufio.Reader) {
		go io.Copy(io.Discard, br)
		flood := bytes.Repeat([]byte(serverText(strings.Repeat("x", 50_000))), 20)
		for {
			if _, err := conn.Write(flood); err != nil {
				return
			}
		}
	})
	f := start(t, oneSite(relayTo(b.address)))
	relayed(t, f, "")
	awaitStall(t, f)
	f.server.Skip(25 * time.Second)
	if n := f.server.TunnelCount(); n != 1 {
		t.Errorf("%d relays", n)
	}
	f.server.Skip(6 * time.Second)
	awaitRelaysEnd(t, f)
	if log := f.log.String(); !strings.Contains(log, `"close_code":1006,"closed_by":"client","cause":"write stalled"`) {
		t.Error(log)
	}
}

// TestRelayClosesTheConnectionAfterAProtocolError by itself: the client does not answer, nor does the backend.
func TestRelayClosesTheConnectionAfterAProtocolError(t *testing.T) {
	for name, bad := range map[string]struct {
		frames string
		code   int
	}{
		"1002": {clientFrame(0x83, nil), 1002},
		"1007": {clientClose(1000, "\xff"), 1007},
	} {
		for _, scheme := range []string{"ws", "wss"} {
			t.Run(name+" "+scheme, func(t *testing.T) {
				b := startDeaf(t)
				f := startTLS(t, secureSite(relayTo(b.address)))
				c := f.dial()
				if scheme == "wss" {
					c = f.dialSecure()
				}
				c.send(upgrade)
				c.head()
				c.send(bad.frames)
				if op, payload := frame(t, c.br); op != ws.OpClose || code(payload) != bad.code {
					t.Errorf("the client got opcode %d with %q", op, payload)
				}
				if rest := c.rest(); rest != "" {
					t.Errorf("then it got %q", rest)
				}
				if n := f.server.TunnelCount(); n != 1 {
					t.Error("the client was told no sooner than the backend's time was up")
				}
				f.server.Skip(time.Second)
				awaitRelaysEnd(t, f)
			})
		}
	}
}
