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
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%s read %q, %v; want %q", name, got[:n], err, want)
	}
	conn.SetReadDeadline(time.Time{})
}

// readFrame reads one short frame, which is unmasked.
func readFrame(t *testing.T, conn net.Conn) (op ws.Opcode, text []byte) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(5 * time.Second))
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
		time.Sleep(20 * time.Millisecond)
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
	for end := time.Now().Add(5 * time.Second); r.Inject(Client, ws.OpBinary, message) != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the backlog stays full")
		}
	}
	r.client.(*net.TCPConn).CloseWrite()
	r.backend.(*net.TCPConn).CloseWrite()
	r.wait(t)
}

func TestInjectionForAStalledClientIsBounded(t *testing.T) {
	for _, transport := range []transport{plainTCP, overTLS} {
		r := newRig(t, transport, plainTCP, Options{}, nil, nil)
		message := make([]byte, maxBacklog/4)
		for taken := 0; ; taken += len(message) {
			err := r.Inject(Client, ws.OpBinary, message)
			for range 50 { // the tunnel takes what it can
				if err == nil {
					break
				}
				time.Sleep(time.Millisecond)
				err = r.Inject(Client, ws.OpBinary, message)
			}
			if err == ErrBacklog {
				break
			}
			if taken > 64<<20 {
				t.Fatal("there is no bound")
			}
		}
		r.end(t)
	}
}

func TestInjectionIntoAnEndedDirectionIsDropped(t *testing.T) {
	for _, transport := range []transport{plainTCP, overTLS} {
		r := newRig(t, transport, plainTCP, Options{Ping: 20 * time.Millisecond}, nil, nil)
		r.backend.(*net.TCPConn).CloseWrite()
		if rest, err := io.ReadAll(r.client); err != nil || len(rest) > 0 {
			t.Fatal(rest, err)
		}
		for i := range 10 {
			if err := r.Inject(Client, ws.OpBinary, make([]byte, maxBacklog/4)); err != nil {
				t.Fatalf("frame %d: %v", i, err)
			}
			time.Sleep(5 * time.Millisecond)
		}
		r.client.Write(testFrame(Client, ws.OpText, "still said"))
		buf := make([]byte, 4096)
		for said := false; !said; {
			r.backend.SetReadDeadline(time.Now().Add(5 * time.Second))
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
	const interval = 100 * time.Millisecond
	for _, transport := range []transport{plainTCP, overTLS} {
		r := newRig(t, transport, plainTCP, Options{Ping: interval, CloseTimeout: 50 * time.Millisecond}, nil, nil)
		fragment := []byte{0x02, 1, 'x'}
		r.backend.Write(fragment)
		expect(t, "client", r.client, fragment)
		for _, size := range []int{1000, 100, 10, 0} {
			for r.Inject(Client, ws.OpBinary, make([]byte, size)) == nil {
			}
		}
		stop := make(chan struct{})
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(interval / 4):
					r.backend.Write(testFrame(Backend, ws.OpPong, ""))
				}
			}
		}()
		for pings := 0; pings < 3; {
			switch op, payload := readFrame(t, r.client); op {
			case ws.OpPing:
				pings++
				r.client.Write(testFrame(Client, ws.OpPong, string(payload)))
			case ws.OpClose:
				t.Fatalf("closed after %d pings, which were answered", pings)
			}
		}
		close(stop)
		r.end(t)
	}
}

func TestPingsAreAnsweredWithoutTheOtherSidesKnowledge(t *testing.T) {
	const interval = 60 * time.Millisecond
	r := newRig(t, plainTCP, plainTCP, Options{Ping: interval, CloseTimeout: time.Second}, nil, nil)
	for range 3 {
		op, id := readFrame(t, r.backend)
		if op != ws.OpPing || len(id) != len(pingID{}) {
			t.Fatalf("backend read %x %q", op, id)
		}
		pong := testFrame(Backend, ws.OpPong, string(id))
		r.backend.Write(pong[:4])
		time.Sleep(time.Millisecond)
		r.backend.Write(pong[4:])
		if op, again := readFrame(t, r.client); op != ws.OpPing || !bytes.Equal(again, id) {
			t.Fatalf("client read %x %q", op, again)
		}
		r.client.Write(testFrame(Client, ws.OpPong, string(id)))
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

func TestSideThatNeverAnswersIsDead(t *testing.T) {
	const interval = 80 * time.Millisecond
	for _, dead := range []Side{Client, Backend} {
		r := newRig(t, plainTCP, plainTCP, Options{Ping: interval, CloseTimeout: 50 * time.Millisecond}, nil, nil)
		living := r.backend
		if dead == Backend {
			living = r.client
		}
		stop := make(chan struct{})
		go func() {
			from := Client
			if dead == Client {
				from = Backend
			}
			for {
				select {
				case <-stop:
					return
				case <-time.After(interval / 4):
					living.Write(testFrame(from, ws.OpText, "alive"))
				}
			}
		}()
		start := time.Now()
		res := r.wait(t)
		close(stop)
		if res.By != dead || res.Cause != CausePing {
			t.Errorf("%s is dead: ended by %s, %s", dead, res.By, res.Cause)
		}
		if took := time.Since(start); took < 2*interval || took > 20*interval {
			t.Errorf("took %v", took)
		}
	}
}

// TestSideHasItsTimeToAnswerAPingThatCameLate, behind a long frame.
func TestSideHasItsTimeToAnswerAPingThatCameLate(t *testing.T) {
	const interval = 300 * time.Millisecond
	for _, transport := range []transport{plainTCP, overTLS} {
		r := newRig(t, transport, plainTCP, Options{Ping: interval, CloseTimeout: 50 * time.Millisecond}, nil, nil)
		frame := testFrame(Backend, ws.OpBinary, string(make([]byte, 100)))
		for sent := 0; sent < len(frame); sent += 17 { // for four periods
			time.Sleep(4 * interval / 6)
			r.backend.Write(frame[sent:min(sent+17, len(frame))])
		}
		expect(t, "client", r.client, frame)
		op, payload := readFrame(t, r.client)
		if op != ws.OpPing {
			t.Fatalf("got opcode %x", op)
		}
		time.Sleep(interval / 3)
		r.client.Write(testFrame(Client, ws.OpPong, string(payload)))
		r.backend.Write(testFrame(Backend, ws.OpText, "go on"))
		for {
			op, payload := readFrame(t, r.client)
			if op == ws.OpClose {
				t.Fatalf("closed: %q", payload)
			}
			if op == ws.OpText {
				break
			}
		}
		r.end(t)
	}
}

func TestPingsKeepNoIdleTunnelOpen(t *testing.T) {
	r := newRig(t, plainTCP, plainTCP, Options{Ping: 40 * time.Millisecond, IdleTimeout: 200 * time.Millisecond}, nil, nil)
	answer := func(conn net.Conn, from Side) {
		for {
			head := make([]byte, 2)
			if _, err := io.ReadFull(conn, head); err != nil || head[0] != 0x80|byte(ws.OpPing) {
				return
			}
			rest := make([]byte, 12)
			n := 8
			if from == Backend {
				n = 12
			}
			io.ReadFull(conn, rest[:n])
			id := bytes.Clone(rest[n-8 : n])
			if from == Backend {
				for i := range id {
					id[i] ^= rest[i%4]
				}
			}
			conn.Write(testFrame(from, ws.OpPong, string(id)))
		}
	}
	go answer(r.client, Client)
	go answer(r.backend, Backend)
	if res := r.wait(t); res.Cause != CauseIdle {
		t.Errorf("ended by %s, %s", res.By, res.Cause)
	}
}
