package proxy_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"wstunnel/internal/ws"
	"wstunnel/proxy"
)

// openTunnel opens a tunnel and returns its number.
func (f *front) openTunnel() (*client, uint64) {
	f.t.Helper()
	before := f.newestTunnel()
	c := f.dial()
	c.send(upgrade)
	c.expectSwitch()
	await(f.t, "the tunnel", func() bool { return f.newestTunnel() > before })
	return c, f.newestTunnel()
}

// newestTunnel returns the number of the tunnel that was opened last of those that are open, or 0. Others may end meanwhile, and be counted for a moment longer.
func (f *front) newestTunnel() uint64 {
	if live := f.server.Tunnels(); len(live) > 0 {
		return live[len(live)-1].ID
	}
	return 0
}

// startFlood is a backend that never stops talking.
func startFlood(t *testing.T) *backend {
	flood := string(ws.AppendFrame(nil, ws.OpBinary, make([]byte, 60_000), nil))
	return startSocket(t, func(conn net.Conn, _ *bufio.Reader) {
		for {
			if _, err := io.WriteString(conn, flood); err != nil {
				return
			}
		}
	})
}

func TestTunnelsTellWhatFlowsThroughThem(t *testing.T) {
	b := startEchoSocket(t)
	f := start(t, oneSite(socketTo(b.address)))
	c, id := f.openTunnel()
	c.expectEcho("hello")
	c.expectEcho("world!")
	var live []proxy.TunnelStatus
	await(t, "all messages to be counted", func() bool {
		live = f.server.Tunnels()
		return len(live) == 1 && live[0].ToClient.Messages == 2
	})
	got := live[0]
	if got.ID != id || got.Site != "example.com" || got.Location != "/ws" || got.Path != "/ws" || got.Host != "example.com" ||
		got.Backend != b.address || got.Client != c.LocalAddr().String() || got.Mode != "tunnel" || got.Secure {
		t.Errorf("got %+v", got)
	}
	if got.ToBackend.Messages != 2 || got.ToClient.Messages != 2 || got.ToBackend.Bytes != 2*6+11 || got.ToClient.Bytes != 2*2+11 {
		t.Errorf("got %+v", got.Stats)
	}
	if got.Idle < 0 || got.Idle > patience || time.Since(got.Since) > patience {
		t.Errorf("idle for %s, open since %s", got.Idle, got.Since)
	}
}

func TestTunnelIsClosedByOrder(t *testing.T) {
	f := start(t, oneSite(socketTo(startEchoSocket(t).address)))
	c, id := f.openTunnel()
	other, _ := f.openTunnel()
	if err := f.server.CloseTunnel(id, 1006, "no"); err == nil {
		t.Error("1006 was taken for a code that may stand in a frame")
	}
	if err := f.server.CloseTunnel(id, 4001, "out you go"); err != nil {
		t.Fatal(err)
	}
	if op, payload := frame(t, c.br); op != ws.OpClose || payload != "\x0f\xa1out you go" {
		t.Errorf("got opcode %d with %q", op, payload)
	}
	other.expectEcho("not me")
	c.Close()
	await(t, "the end of the tunnel", func() bool { return f.server.TunnelCount() == 1 })
	if err := f.server.CloseTunnel(id, 4001, ""); !errors.Is(err, proxy.ErrNoTunnel) {
		t.Errorf("got %v", err)
	}
	if !strings.Contains(f.log.String(), `"close_code":4001,"closed_by":"proxy","cause":"closed by order"`) {
		t.Error("the log does not say who closed the tunnel")
	}
}

// TestControlDoesNotWaitForAStalledClient, who has asked for more than it ever reads.
func TestControlDoesNotWaitForAStalledClient(t *testing.T) {
	b := startFlood(t)
	f := start(t, oneSite(socketTo(b.address)))
	_, id := f.openTunnel()
	await(t, "a stall", func() bool {
		before := f.server.Tunnels()[0].ToClient.Bytes
		time.Sleep(100 * time.Millisecond)
		return before > 0 && f.server.Tunnels()[0].ToClient.Bytes == before
	})
	if err := f.server.CloseTunnel(id, 1001, "enough"); err != nil { // it would return at the end of the tunnel if it waited
		t.Fatal(err)
	}
	f.server.Skip(4 * time.Second)
	if n := f.server.TunnelCount(); n != 1 {
		t.Error("the client had less than five seconds, or CloseTunnel took as long")
	}
	f.server.Skip(time.Second)
	await(t, "the end of the tunnel", func() bool { return f.server.TunnelCount() == 0 })
}

func TestSilentClientIsPinged(t *testing.T) {
	b := startEchoSocket(t)
	f := start(t, oneSite(`{path: /ws, websocket: "ws://`+b.address+`", ping: 1m}`))
	c, _ := f.openTunnel()
	c.waits(f, 55*time.Second)
	f.server.Skip(20 * time.Second) // it is looked at four times a minute
	op, payload := frame(t, c.br)
	if op != ws.OpPing {
		t.Fatalf("got opcode %d", op)
	}
	c.Write(ws.AppendFrame(nil, ws.OpPong, []byte(payload), &[4]byte{1, 2, 3, 4}))
	c.expectEcho("alive")
	silence, took := f.watch(), time.Duration(0)
	for closed := false; !closed; {
		took += 5 * time.Second
		silence.turnTo(took)
		for c.isAnswered(10*time.Millisecond) && !closed {
			op, _ := frame(t, c.br)
			closed = op == ws.OpClose
		}
	}
	if took < 2*time.Minute || took > 3*time.Minute+15*time.Second {
		t.Errorf("a client that answers no ping was kept for %s", took)
	}
	f.server.Skip(5 * time.Second)
	await(t, "the end of the tunnel", func() bool { return f.server.TunnelCount() == 0 })
	if !strings.Contains(f.log.String(), `"closed_by":"client","cause":"ping timeout"`) {
		t.Error("the log does not say why the tunnel ended")
	}
}
