package tunnel

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"wstunnel/internal/ws"
)

// sink collects what a stream sends.
type sink struct{ sent []byte }

func (s *sink) send(p []byte) error {
	s.sent = append(s.sent, p...)
	return nil
}

// testFrame is a frame as from sends it.
func testFrame(from Side, op ws.Opcode, text string) []byte {
	if from == Client {
		return ws.AppendFrame(nil, op, []byte(text), &[4]byte{9, 8, 7, 6})
	}
	return ws.AppendFrame(nil, op, []byte(text), nil)
}

var testPing = pingID{'p', 'r', 'o', 'x', 'y', 1, 2, 3}

// feed passes p in pieces that are cut at the given positions.
func feed(t *testing.T, s *flow, out *sink, p []byte, cuts ...int) {
	t.Helper()
	from := 0
	for _, cut := range append(cuts, len(p)) {
		if _, err := s.pass(bytes.Clone(p[from:cut]), out.send); err != nil {
			t.Fatal(err)
		}
		from = cut
	}
}

func TestOwnPongIsTakenOutWhereverItIsCut(t *testing.T) {
	for _, from := range []Side{Client, Backend} {
		text := testFrame(from, ws.OpText, "before")
		text[0] &= 0x7F // a fragment: the pong comes in the middle of a message
		rest := testFrame(from, ws.OpContinuation, "after")
		pong := testFrame(from, ws.OpPong, string(testPing[:]))
		all := bytes.Join([][]byte{text, pong, rest}, nil)
		want := append(bytes.Clone(text), rest...)
		for a := range len(all) + 1 {
			for b := a; b <= len(all); b++ {
				s, out := newFlow(from, false), &sink{}
				s.queue().pong = &testPing
				feed(t, &s, out, all, a, b)
				if !bytes.Equal(out.sent, want) || s.pending != nil || s.scan.Messages() != 1 || !s.scan.AtMessageBoundary() {
					t.Fatalf("%s, cut at %d and %d: sent %q of %q", from, a, b, out.sent, want)
				}
			}
		}
	}
}

func TestPongsOfOthersPassWhereverTheyAreCut(t *testing.T) {
	other := testPing
	other[7]++
	for _, from := range []Side{Client, Backend} {
		for _, payload := range []string{string(other[:]), "", "proxy", string(testPing[:]) + "x", "x" + string(testPing[:7])} {
			pong := testFrame(from, ws.OpPong, payload)
			all := append(bytes.Clone(pong), testFrame(from, ws.OpBinary, "data")...)
			for cut := range len(all) + 1 {
				s, out := newFlow(from, false), &sink{}
				s.queue().pong = &testPing
				feed(t, &s, out, all, cut)
				if !bytes.Equal(out.sent, all) || s.scan.Messages() != 1 {
					t.Fatalf("%s, pong %q cut at %d: sent %q of %q", from, payload, cut, out.sent, all)
				}
			}
		}
	}
}

func TestHeldBeginningOfAPongIsLetGoAtTheEnd(t *testing.T) {
	pong := testFrame(Client, ws.OpPong, string(testPing[:]))
	for cut := range len(pong) {
		s, out := newFlow(Client, false), &sink{}
		s.queue().pong = &testPing
		feed(t, &s, out, pong[:cut])
		if s.flushHeld(out.send); !bytes.Equal(out.sent, pong[:cut]) {
			t.Fatalf("%d bytes of a pong: sent %x", cut, out.sent)
		}
	}
}

// queue injects a frame into what goes to the client.
func queue(s *flow, op ws.Opcode, payload string) {
	frame := newFrame(Client, op, []byte(payload))
	s.reserve(frame)
	s.inject(op, frame)
}

func TestFramesArePutInWhereTheyMayStand(t *testing.T) {
	first := testFrame(Backend, ws.OpText, "fragment")
	first[0] &= 0x7F
	rest := testFrame(Backend, ws.OpContinuation, "last")
	ping, text := testFrame(Backend, ws.OpPing, "p"), testFrame(Backend, ws.OpText, "t")
	all := append(bytes.Clone(first), rest...)
	for at := range len(all) + 1 { // the frames are queued when so many bytes have gone by
		for cut := at; cut <= len(all); cut++ {
			s, out := newFlow(Backend, false), &sink{}
			feed(t, &s, out, all[:at])
			queue(&s, ws.OpText, "t")
			queue(&s, ws.OpPing, "p")
			s.putIn(out.send)
			feed(t, &s, out, all[at:], cut-at)
			var want []byte
			switch {
			case at == 0, at == len(all):
				want = bytes.Join([][]byte{all[:at], ping, text, all[at:]}, nil)
			case at <= len(first):
				want = bytes.Join([][]byte{first, ping, rest, text}, nil)
			default:
				want = bytes.Join([][]byte{first, rest, ping, text}, nil)
			}
			if !bytes.Equal(out.sent, want) || s.pending != nil || s.backlog.Load() != 0 {
				t.Fatalf("queued at %d, cut at %d: sent %q, want %q", at, cut, out.sent, want)
			}
		}
	}
}

func TestNothingIsPutInBehindAClose(t *testing.T) {
	s, out := newFlow(Backend, false), &sink{}
	closing := testFrame(Backend, ws.OpClose, "")
	feed(t, &s, out, closing)
	queue(&s, ws.OpPing, "")
	s.requestClose(1001, "")
	s.putIn(out.send)
	if !bytes.Equal(out.sent, closing) || s.closeSent || s.pending != nil || s.backlog.Load() != 0 {
		t.Errorf("sent %x", out.sent)
	}
}

// TestWeavingChangesNothingElse runs random streams in random pieces through a stream with everything switched on, and
// takes out of the result what was put in.
func TestWeavingChangesNothingElse(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 7))
		all, messages := frames(random, false, 10)
		if seed%5 == 4 {
			all, messages = payload(random, 5000), 0
		}
		s, out := newFlow(Backend, false), &sink{}
		var want []byte
		for rest := all; len(rest) > 0; {
			n := min(len(rest), 1+random.IntN([]int{2, 20, 100_000}[random.IntN(3)]))
			before := len(out.sent)
			if random.IntN(3) == 0 {
				queue(&s, ws.OpPing, "injected")
			}
			if s.pending == nil && random.IntN(3) == 0 {
				s.queue().pong = &testPing
			}
			if _, err := s.pass(rest[:n], out.send); err != nil {
				t.Fatal(err)
			}
			want = append(want, bytes.ReplaceAll(out.sent[before:], testFrame(Backend, ws.OpPing, "injected"), nil)...)
			rest = rest[n:]
		}
		before := len(out.sent)
		s.flushHeld(out.send)
		want = append(want, out.sent[before:]...)
		if !bytes.Equal(want, all) {
			t.Fatalf("seed %d: the stream was changed", seed)
		}
		if s.scan.Err() == nil && s.scan.Messages() != messages {
			t.Fatalf("seed %d: counted %d messages of %d", seed, s.scan.Messages(), messages)
		}
	}
}

func TestPassingAllocatesNothing(t *testing.T) {
	s := newFlow(Backend, false)
	frame := testFrame(Backend, ws.OpText, "hello")
	end := &countingEnd{}
	if n := testing.AllocsPerRun(100, func() { s.pass(frame, end.write) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

type countingEnd struct{ n int }

func (c *countingEnd) write(p []byte) error {
	c.n += len(p)
	return nil
}
