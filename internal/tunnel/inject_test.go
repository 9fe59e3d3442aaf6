package tunnel

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"

	"wstunnel/internal/ws"
)

// expect reads exactly want.
func expect(t *testing.T, name string, conn net.Conn, want []byte) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s read %q, %v; want %q", name, got[:n], err, want)
	}
	conn.SetReadDeadline(time.Time{})
}

// readFrame reads one short frame, which is unmasked.
func readFrame(t *testing.T, conn net.Conn) (op ws.Opcode, text []byte) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	defer conn.SetReadDeadline(time.Time{})
	head := make([]byte, 2)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatal(err)
	}
	var mask [4]byte
	if head[1]&0x80 != 0 {
		io.ReadFull(conn, mask[:])
	}
	text = make([]byte, head[1]&0x7F)
	io.ReadFull(conn, text)
	for i := range text {
		text[i] ^= mask[i%4]
	}
	return ws.Opcode(head[0] & 0xF), text
}

func (r *rig) end(t *testing.T) Result {
	t.Helper()
	r.client.Close()
	r.backend.Close()
	return r.wait(t)
}

func TestInjectedFramesArriveBetweenFrames(t *testing.T) {
	for _, transport := range []transport{plainTCP, overTLS} {
		r := newRig(t, transport, plainTCP, Options{}, nil, nil)
		r.Inject(Backend, ws.OpPing, []byte("up"))
		if op, text := readFrame(t, r.backend); op != ws.OpPing || string(text) != "up" {
			t.Fatalf("backend read %x %q", op, text)
		}
		message := testFrame(Backend, ws.OpText, "a message in two pieces")
		r.backend.Write(message[:7])
		expect(t, "client", r.client, message[:7])
		r.Inject(Client, ws.OpText, []byte("down"))
		r.lives(t, 0) // the order is there
		r.backend.Write(message[7:])
		expect(t, "client", r.client, message[7:])
		if op, text := readFrame(t, r.client); op != ws.OpText || string(text) != "down" {
			t.Fatalf("client read %x %q", op, text)
		}
		r.end(t)
	}
}

func TestOnlyWhatMayStandInAStreamIsInjected(t *testing.T) {
	r := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
	for _, c := range []struct {
		op     ws.Opcode
		length int
		want   error
	}{
		{ws.OpPing, 125, nil},
		{ws.OpPong, 126, ErrFrame},
		{ws.OpClose, 0, ErrFrame},
		{ws.OpContinuation, 0, ErrFrame},
		{3, 0, ErrFrame},
		{ws.OpText, 126, nil},
		{ws.OpBinary, maxBacklog, ErrBacklog},
	} {
		if err := r.Inject(Client, c.op, make([]byte, c.length)); err != c.want {
			t.Errorf("opcode %d with %d bytes: %v, want %v", c.op, c.length, err, c.want)
		}
	}
	r.end(t)
}

func TestBacklogIsBounded(t *testing.T) {
	r := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
	r.backend.Write([]byte{0x82, 10}) // a frame that does not go on
	expect(t, "client", r.client, []byte{0x82, 10})
	message := make([]byte, maxBacklog/4)
	taken := 0
	for taken < 10 && r.Inject(Client, ws.OpBinary, message) == nil {
		taken++
	}
	if taken != 3 {
		t.Errorf("took %d messages", taken)
	}
	r.backend.Write(make([]byte, 10))
	go io.Copy(io.Discard, r.client)
	for end := time.Now().Add(10 * time.Second); r.Inject(Client, ws.OpBinary, message) != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the backlog stays full")
		}
	}
	r.client.(*net.TCPConn).CloseWrite()
	r.backend.(*net.TCPConn).CloseWrite()
	r.wait(t)
}

// TestInjectionForAStalledClientIsBounded: the backlog is all that is kept of it.
func TestInjectionForAStalledClientIsBounded(t *testing.T) {
	for _, transport := range []transport{plainTCP, overTLS} {
		r := newRig(t, transport, plainTCP, Options{}, nil, nil)
		r.stall(t)
		message := make([]byte, maxBacklog/4)
		taken := 0
		for ; taken < 10 && r.Inject(Client, ws.OpBinary, message) == nil; taken++ {
			r.lives(t, 0)
		}
		if taken != 3 { // each has a head
			t.Errorf("%d messages of a quarter of the backlog were taken", taken)
		}
		r.end(t)
	}
}

func TestInjectionIntoAnEndedDirectionIsDropped(t *testing.T) {
	for _, transport := range []transport{plainTCP, overTLS} {
		r := newRig(t, transport, plainTCP, Options{Ping: time.Minute}, nil, nil)
		r.backend.(*net.TCPConn).CloseWrite()
		if rest, err := io.ReadAll(r.client); err != nil || len(rest) > 0 {
			t.Fatal(rest, err)
		}
		for i := range 10 {
			if err := r.Inject(Client, ws.OpBinary, make([]byte, maxBacklog/4)); err != nil {
				t.Fatalf("frame %d: %v", i, err)
			}
			r.lives(t, 20*time.Second)
		}
		r.client.Write(testFrame(Client, ws.OpText, "still said"))
		buf := make([]byte, 4096)
		for said := false; !said; {
			r.backend.SetReadDeadline(time.Now().Add(10 * time.Second))
			n, err := r.backend.Read(buf)
			if err != nil {
				t.Fatalf("%v; ended with %+v", err, r.wait(t))
			}
			said = bytes.Contains(buf[:n], testFrame(Client, ws.OpText, "still said"))
		}
		r.end(t)
	}
}

// TestPingGoesOutThoughTheBacklogIsFull of messages that wait for the end of another.
func TestPingGoesOutThoughTheBacklogIsFull(t *testing.T) {
	for _, transport := range []transport{plainTCP, overTLS} {
		r := newRig(t, transport, plainTCP, Options{Ping: time.Minute, CloseTimeout: time.Second}, nil, nil)
		fragment := []byte{0x02, 1, 'x'}
		r.backend.Write(fragment)
		expect(t, "client", r.client, fragment)
		for _, size := range []int{1000, 100, 10, 0} {
			for r.Inject(Client, ws.OpBinary, make([]byte, size)) == nil {
			}
		}
		for n := range 3 {
			r.tell(t, Backend, testFrame(Backend, ws.OpPong, ""))
			r.lives(t, 50*time.Second)
			r.tell(t, Backend, testFrame(Backend, ws.OpPong, ""))
			r.lives(t, 25*time.Second)
			op, payload := readFrame(t, r.client)
			for op == ws.OpPong { // of the backend's own
				op, payload = readFrame(t, r.client)
			}
			if op != ws.OpPing {
				t.Fatalf("got opcode %x after %d pings, which were answered", op, n)
			}
			r.tell(t, Client, testFrame(Client, ws.OpPong, string(payload)))
		}
		r.end(t)
	}
}

func TestPingsAreAnsweredWithoutTheOtherSidesKnowledge(t *testing.T) {
	r := newRig(t, plainTCP, plainTCP, Options{Ping: time.Minute, CloseTimeout: time.Second}, nil, nil)
	for range 3 {
		r.lives(t, time.Minute+15*time.Second) // it is looked at four times a minute
		op, id := readFrame(t, r.backend)
		if op != ws.OpPing || len(id) != len(pingID{}) {
			t.Fatalf("backend read %x %q", op, id)
		}
		pong := testFrame(Backend, ws.OpPong, string(id))
		r.tell(t, Backend, pong[:4])
		r.tell(t, Backend, pong[4:])
		if op, again := readFrame(t, r.client); op != ws.OpPing || !bytes.Equal(again, id) {
			t.Fatalf("client read %x %q", op, again)
		}
		r.tell(t, Client, testFrame(Client, ws.OpPong, string(id)))
	}
	r.client.(*net.TCPConn).CloseWrite()
	r.backend.(*net.TCPConn).CloseWrite()
	for name, conn := range map[string]net.Conn{"client": r.client, "backend": r.backend} {
		rest, _ := io.ReadAll(conn)
		if bytes.IndexByte(rest, pongByte) >= 0 {
			t.Errorf("the other side's pong reached the %s: %q", name, rest)
		}
	}
	r.wait(t)
}

// TestSideThatNeverAnswersIsDead when it was silent for one interval and has not answered for another. It is looked at four times in each.
func TestSideThatNeverAnswersIsDead(t *testing.T) {
	const step, look = time.Second, 15*time.Second + time.Second
	for _, dead := range []Side{Client, Backend} {
		r := newRig(t, plainTCP, plainTCP, Options{Ping: time.Minute, CloseTimeout: step}, nil, nil)
		living, from := r.backend, Backend
		if dead == Backend {
			living, from = r.client, Client
		}
		took := time.Duration(0)
		for ; len(r.result) == 0 && took < time.Hour; took += step {
			if took%(30*time.Second) == 0 {
				living.Write(testFrame(from, ws.OpText, "alive"))
			}
			clock.Skip(step)
			r.acked(t)
		}
		if res := r.wait(t); res.By != dead || res.Cause != CausePing {
			t.Errorf("%s is dead: ended by %s, %s", dead, res.By, res.Cause)
		}
		if took < 2*time.Minute || took > 2*time.Minute+3*look+2*step {
			t.Errorf("took %v", took)
		}
	}
}

// TestSideHasItsTimeToAnswerAPingThatCameLate, behind a long frame.
func TestSideHasItsTimeToAnswerAPingThatCameLate(t *testing.T) {
	for _, transport := range []transport{plainTCP, overTLS} {
		r := newRig(t, transport, plainTCP, Options{Ping: time.Minute, CloseTimeout: time.Second}, nil, nil)
		frame := testFrame(Backend, ws.OpBinary, string(make([]byte, 100)))
		for sent := 0; sent < len(frame); sent += 17 { // for four periods
			r.lives(t, 40*time.Second)
			r.acked(t)
			r.backend.Write(frame[sent:min(sent+17, len(frame))])
		}
		expect(t, "client", r.client, frame)
		op, payload := readFrame(t, r.client)
		if op != ws.OpPing {
			t.Fatalf("got opcode %x", op)
		}
		r.lives(t, 40*time.Second)
		r.tell(t, Client, testFrame(Client, ws.OpPong, string(payload)))
		r.backend.Write(testFrame(Backend, ws.OpText, "go on"))
		if op, text := readFrame(t, r.client); op != ws.OpText || string(text) != "go on" {
			t.Fatalf("got opcode %x, %q", op, text)
		}
		r.end(t)
	}
}

func TestPingsKeepNoIdleTunnelOpen(t *testing.T) {
	r := newRig(t, plainTCP, plainTCP, Options{Ping: 10 * time.Second, IdleTimeout: time.Minute}, nil, nil)
	for range 4 {
		r.lives(t, 12500*time.Millisecond)
		for side, conn := range map[Side]net.Conn{Client: r.client, Backend: r.backend} {
			op, id := readFrame(t, conn)
			if op != ws.OpPing {
				t.Fatalf("the %s read %x %q", side, op, id)
			}
			r.tell(t, side, testFrame(side, ws.OpPong, string(id)))
		}
	}
	clock.Skip(10 * time.Second)
	if res := r.wait(t); res.Cause != CauseIdle {
		t.Errorf("ended by %s, %s", res.By, res.Cause)
	}
}
