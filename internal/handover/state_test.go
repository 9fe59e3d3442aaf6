package handover

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

// pair is two processes, a tunnel in the first, and its peers.
type pair struct {
	from, to        *process
	giver           *Giver
	client, backend net.Conn
}

func newPair(t *testing.T, opts tunnel.Options) *pair {
	t.Helper()
	p := &pair{from: newProcess(t), to: newProcess(t)}
	p.giver, _ = p.from.connect(p.to)
	p.client, p.backend = p.from.open(1, opts)
	for _, c := range []net.Conn{p.client, p.backend} {
		c.SetDeadline(time.Now().Add(waitFor))
	}
	return p
}

func (p *pair) move(t *testing.T) {
	t.Helper()
	if err := p.from.move(p.giver, 1); err != nil {
		t.Fatal(err)
	}
}

// hold stops the tunnel.
func (p *pair) hold(t *testing.T) *tunnel.Held {
	t.Helper()
	held := make(chan *tunnel.Held, 1)
	p.from.find(1).Hold(func(h *tunnel.Held, _ error) { held <- h })
	h := <-held
	if h == nil {
		t.Fatal("the tunnel is not held")
	}
	return h
}

func expect(t *testing.T, c net.Conn, want []byte) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("got %d of %d bytes, %v", n, len(want), err)
	}
}

func fromClient(op ws.Opcode, payload string) []byte {
	return ws.AppendFrame(nil, op, []byte(payload), &[4]byte{1, 2, 3, 4})
}

func fromBackend(op ws.Opcode, payload string) []byte {
	return ws.AppendFrame(nil, op, []byte(payload), nil)
}

// TestHalfClosedTunnelIsHandedOver with what its client has yet to take, behind which its stream ends.
func TestHalfClosedTunnelIsHandedOver(t *testing.T) {
	p := newPair(t, tunnel.Options{HalfCloseTimeout: time.Minute})
	message := fromBackend(ws.OpBinary, strings.Repeat("behind the rest ", 2<<20))
	go func() {
		p.backend.Write(message)
		p.backend.(*net.TCPConn).CloseWrite()
	}()
	eventually(t, "much is under way", func() bool { return p.from.find(1).Stats().ToClient.Bytes > 128<<10 })
	p.move(t)
	expect(t, p.client, message)
	if n, err := p.client.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("got %d bytes and %v behind the end", n, err)
	}
	more := fromClient(ws.OpText, "and the other way")
	p.client.Write(more)
	expect(t, p.backend, more)
	back, _ := p.to.connect(p.from)
	if err := p.to.move(back, 1); err != nil {
		t.Fatal(err)
	}
	p.client.Write(more)
	expect(t, p.backend, more)
	p.client.Close()
	if r := p.from.end(); r.By != tunnel.Backend || r.Cause != tunnel.CauseEOF || r.ToClient.Bytes != uint64(len(message)) || r.ToClient.Messages != 1 {
		t.Errorf("it ended with %+v", r)
	}
}

// TestEndBetweenIsHeardOf: the peer's end, or its reset, comes while nobody reads.
func TestEndBetweenIsHeardOf(t *testing.T) {
	for _, reset := range []bool{false, true} {
		p := newPair(t, tunnel.Options{})
		h := p.hold(t)
		last := fromClient(ws.OpText, "last words")
		if reset {
			p.client.(*net.TCPConn).SetLinger(0)
		} else {
			p.client.Write(last)
		}
		p.client.Close()
		if err := p.giver.Move(&Tunnel{ID: 1}, h); err != nil {
			t.Fatal(err)
		}
		if !reset {
			expect(t, p.backend, last)
		}
		if _, err := io.ReadAll(p.backend); reset != (err != nil) {
			t.Errorf("reset %v: the backend reads %v", reset, err)
		}
		p.backend.Close()
		if r := p.to.end(); r.By != tunnel.Client {
			t.Errorf("reset %v: it ended with %+v", reset, r)
		}
	}
}

// TestWhatIsAskedMeanwhileIsDone: frames and an order to close that come while a tunnel is held.
func TestWhatIsAskedMeanwhileIsDone(t *testing.T) {
	for _, refuse := range []error{nil, errors.New("no room")} {
		p := newPair(t, tunnel.Options{})
		if refuse != nil {
			p.to.refuse.Store(&refuse)
		}
		live := p.from.find(1)
		first := fromBackend(ws.OpText, "a message begins")
		first[0] &= 0x7F
		p.backend.Write(first)
		expect(t, p.client, first)
		live.Inject(tunnel.Client, ws.OpText, []byte("between messages"))
		h := p.hold(t)
		live.Inject(tunnel.Client, ws.OpPing, []byte("late"))
		live.Inject(tunnel.Client, ws.OpText, []byte("late too"))
		if err := p.giver.Move(&Tunnel{ID: 1}, h); (err != nil) != (refuse != nil) {
			t.Fatal(err)
		}
		expect(t, p.client, fromBackend(ws.OpPing, "late"))
		rest := fromBackend(ws.OpContinuation, "and ends")
		p.backend.Write(rest)
		expect(t, p.client, append(rest, append(fromBackend(ws.OpText, "between messages"), fromBackend(ws.OpText, "late too")...)...))
	}
}

func TestOrderToCloseComesAlong(t *testing.T) {
	p := newPair(t, tunnel.Options{})
	live, h := p.from.find(1), p.hold(t)
	live.Close(ws.CloseGoingAway, "bye", tunnel.CauseOrder, time.Minute)
	if err := p.giver.Move(&Tunnel{ID: 1}, h); err != nil {
		t.Fatal(err)
	}
	expect(t, p.client, ws.AppendClose(nil, ws.CloseGoingAway, "bye", nil))
	p.client.Write(ws.AppendClose(nil, ws.CloseGoingAway, "", &[4]byte{}))
	p.backend.Write(ws.AppendClose(nil, ws.CloseGoingAway, "", nil))
	if r := p.to.end(); r.By != tunnel.Proxy || r.Cause != tunnel.CauseOrder || r.Code != ws.CloseGoingAway {
		t.Errorf("it ended with %+v", r)
	}
}

// TestPingsGoOn: a ping of the older process is answered in the younger, which takes the answer out, and one that is not answered ends the tunnel.
func TestPingsGoOn(t *testing.T) {
	p := newPair(t, tunnel.Options{Ping: time.Minute, CloseTimeout: time.Second})
	p.from.clock.Skip(61 * time.Second)
	ping := make([]byte, 10)
	if _, err := io.ReadFull(p.client, ping); err != nil || ping[0] != 0x89 {
		t.Fatalf("% x, %v", ping, err)
	}
	pong := fromClient(ws.OpPong, string(ping[2:]))
	p.client.Write(pong[:5]) // which is held back
	eventually(t, "some of the pong has come", func() bool { return p.from.find(1).Stats().ToBackend.Bytes == 5 })
	p.move(t)
	after := fromClient(ws.OpText, "after")
	p.client.Write(append(pong[5:], after...))
	if _, err := io.ReadFull(p.backend, make([]byte, 14)); err != nil { // the backend's own ping
		t.Fatal(err)
	}
	expect(t, p.backend, after)
	for len(p.to.ended) == 0 {
		p.to.clock.Skip(5 * time.Second)
		p.client.Write(after)
	}
	if r := p.to.end(); r.By != tunnel.Backend || r.Cause != tunnel.CausePing {
		t.Errorf("it ended with %+v", r)
	}
}

// TestIdleTimeGoesOn: what passed in the older process counts.
func TestIdleTimeGoesOn(t *testing.T) {
	p := newPair(t, tunnel.Options{IdleTimeout: time.Hour})
	p.from.clock.Skip(50 * time.Minute)
	p.move(t)
	eventually(t, "the tunnel is there", func() bool { return p.to.find(1) != nil })
	p.to.clock.Skip(9 * time.Minute)
	if len(p.to.ended) > 0 {
		t.Fatal("it ended too early")
	}
	p.to.clock.Skip(2 * time.Minute)
	if r := p.to.end(); r.Cause != tunnel.CauseIdle {
		t.Errorf("it ended with %+v", r)
	}
}
