package proxy_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"wstunnel/internal/ws"
)

func shutdown(f *front, timeout time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	f.stopped = true
	begin := time.Now()
	err := f.server.Shutdown(ctx)
	return time.Since(begin), err
}

// beginShutdown begins a shutdown that has time enough, and hands over what comes of it.
func (f *front) beginShutdown() <-chan error {
	ended := make(chan error, 1)
	go func() {
		_, err := shutdown(f, patience)
		ended <- err
	}()
	return ended
}

func TestShutdownEndsTunnels(t *testing.T) {
	backendSaw := make(chan string, 1)
	b := startSocket(t, func(conn net.Conn, br *bufio.Reader) {
		op, payload := frame(t, br)
		if op == ws.OpClose {
			backendSaw <- payload
			conn.Write(ws.AppendFrame(nil, ws.OpClose, []byte(payload), nil))
		}
	})
	f := start(t, oneSite(socketTo(b.address)))
	c := f.dial()
	c.send(upgrade)
	c.head()
	done := f.beginShutdown()
	op, payload := frame(t, c.br)
	if op != ws.OpClose || len(payload) < 2 || payload[:2] != "\x03\xe9" {
		t.Errorf("the client saw opcode %d with %q, want a Close with 1001", op, payload)
	}
	c.Write(ws.AppendFrame(nil, ws.OpClose, []byte(payload), &[4]byte{1, 2, 3, 4}))
	if payload := <-backendSaw; len(payload) < 2 || payload[:2] != "\x03\xe9" {
		t.Errorf("the backend saw a Close with %q, want 1001", payload)
	}
	c.rest()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if n := f.server.TunnelCount(); n != 0 {
		t.Errorf("%d tunnels are left", n)
	}
}

func TestShutdownDoesNotWaitForSilentEnds(t *testing.T) {
	b := startSocket(t, func(conn net.Conn, br *bufio.Reader) { io.Copy(io.Discard, br) })
	f := start(t, oneSite(socketTo(b.address)))
	c := f.dial()
	c.send(upgrade)
	c.head()
	ended := f.beginShutdown()
	if op, payload := frame(t, c.br); op != ws.OpClose || code(payload) != ws.CloseGoingAway {
		t.Errorf("the client saw opcode %d with %q, want a Close with 1001", op, payload)
	}
	c.waits(f, 4*time.Second)
	f.server.Skip(time.Second)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	c.rest()
	await(t, "the end of the tunnel", func() bool { return f.server.TunnelCount() == 0 })
}

func TestShutdownAnswersWhatIsUnderWay(t *testing.T) {
	release := make(chan bool)
	b := startHeld(t, release)
	f := start(t, oneSite(httpTo(b.address)))
	c := f.dial()
	c.send(get)
	b.awaitRequests(t, 1)
	ended := f.beginShutdown()
	c.waits(f, 20*time.Second)
	if len(ended) > 0 {
		t.Errorf("it ended too early: %v", <-ended)
	}
	close(release)
	c.expect(200)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	c.rest()
	if conn, err := net.Dial("tcp", f.plain); err == nil {
		conn.Close()
		t.Error("it still listens")
	}
}
