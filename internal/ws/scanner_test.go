package ws

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"testing"
)

// frame is a frame written by the test's own hand, not by the builder.
type frame struct {
	fin     bool
	rsv     byte
	op      Opcode
	payload []byte
	masked  bool
}

func (f frame) bytes() []byte {
	first := f.rsv<<4 | byte(f.op)
	if f.fin {
		first |= 0x80
	}
	var maskBit byte
	if f.masked {
		maskBit = 0x80
	}
	b := []byte{first}
	switch n := len(f.payload); {
	case n < 126:
		b = append(b, maskBit|byte(n))
	case n < 65536:
		b = append(b, maskBit|126, byte(n>>8), byte(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, maskBit|127), uint64(n))
	}
	if !f.masked {
		return append(b, f.payload...)
	}
	mask := [4]byte{0xA1, 0xB2, 0xC3, 0xD4}
	b = append(b, mask[:]...)
	for i, c := range f.payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

func payload(n int) []byte { return bytes.Repeat([]byte{'x'}, n) }

func TestScannerSeesFrameBoundaries(t *testing.T) {
	text := func(n int) frame { return frame{fin: true, op: OpText, payload: payload(n)} }
	tests := []struct {
		name     string
		frames   []frame
		messages uint64
		boundary bool // at the end
		message  bool // at a message boundary at the end
	}{
		{"nothing", nil, 0, true, true},
		{"empty text", []frame{text(0)}, 1, true, true},
		{"124", []frame{text(124)}, 1, true, true},
		{"125", []frame{text(125)}, 1, true, true},
		{"126", []frame{text(126)}, 1, true, true},
		{"127", []frame{text(127)}, 1, true, true},
		{"65534", []frame{text(65534)}, 1, true, true},
		{"65535", []frame{text(65535)}, 1, true, true},
		{"65536", []frame{text(65536)}, 1, true, true},
		{"65537", []frame{text(65537)}, 1, true, true},
		{"two messages", []frame{text(3), text(4)}, 2, true, true},
		{"ping only", []frame{{fin: true, op: OpPing, payload: payload(5)}}, 0, true, true},
		{"first fragment", []frame{{op: OpBinary, payload: payload(5)}}, 0, true, false},
		{"fragments with a pong between", []frame{
			{op: OpText, payload: payload(5)},
			{fin: true, op: OpPong},
			{op: OpContinuation},
			{fin: true, op: OpContinuation, payload: payload(9)},
		}, 1, true, true},
		{"close", []frame{{fin: true, op: OpClose, payload: []byte{3, 232}}}, 0, false, false},
	}
	for _, masked := range []bool{false, true} {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				var stream []byte
				for _, f := range tt.frames {
					f.masked = masked
					stream = append(stream, f.bytes()...)
				}
				for _, step := range []int{1, 2, 3, 7, 1 << 20} {
					s := NewScanner(Role(masked), false)
					for rest := stream; len(rest) > 0; {
						n := min(step, len(rest))
						s.Scan(rest[:n])
						rest = rest[n:]
					}
					if s.Err() != nil {
						t.Fatalf("step %d: %v", step, s.Err())
					}
					if s.Messages() != tt.messages || s.AtBoundary() != tt.boundary || s.AtMessageBoundary() != tt.message {
						t.Errorf("step %d: %d messages, boundary %v, message boundary %v; want %d, %v, %v", step,
							s.Messages(), s.AtBoundary(), s.AtMessageBoundary(), tt.messages, tt.boundary, tt.message)
					}
				}
			})
		}
	}
}

func TestScanReturnsTheLastBoundary(t *testing.T) {
	whole := frame{fin: true, op: OpText, payload: payload(3)}.bytes()
	closing := frame{fin: true, op: OpClose, payload: []byte{3, 232}}.bytes()
	tests := []struct {
		name   string
		before []byte // scanned first
		p      []byte
		want   int
	}{
		{"at a boundary, nothing", nil, nil, 0},
		{"at a boundary, half a header", nil, whole[:1], 0},
		{"at a boundary, half a frame", nil, whole[:4], 0},
		{"a frame", nil, whole, 5},
		{"a frame and a half", nil, append(append([]byte{}, whole...), whole[:4]...), 5},
		{"the rest of a frame", whole[:4], whole[4:], 1},
		{"not yet the rest", whole[:3], whole[3:4], -1},
		{"the rest of a header", whole[:1], whole[1:2], -1},
		{"a close frame", nil, closing, 4},
		{"after a close frame", closing, whole, -1},
	}
	for _, tt := range tests {
		s := NewScanner(FromServer, false)
		s.Scan(tt.before)
		if got := s.Scan(tt.p); got != tt.want {
			t.Errorf("%s: boundary at %d, want %d", tt.name, got, tt.want)
		}
	}
}

func TestScannerReadsTheCloseCode(t *testing.T) {
	tests := []struct {
		payload []byte
		want    uint16
	}{
		{nil, CloseNoStatus},
		{[]byte{3, 232}, 1000},
		{[]byte{0x0F, 0xA0, 'b', 'y', 'e'}, 4000},
		{append([]byte{3, 233}, payload(123)...), 1001},
	}
	for _, masked := range []bool{false, true} {
		for _, tt := range tests {
			stream := frame{fin: true, op: OpClose, payload: tt.payload, masked: masked}.bytes()
			s := NewScanner(Role(masked), false)
			for i := range stream {
				if _, ok := s.Close(); ok {
					t.Fatalf("close seen after %d of %d bytes", i, len(stream))
				}
				s.Scan(stream[i : i+1])
			}
			if code, ok := s.Close(); !ok || code != tt.want {
				t.Errorf("masked %v, payload %q: code %d, %v; want %d", masked, tt.payload, code, ok, tt.want)
			}
		}
	}
}

func TestScannerStopsAtAViolation(t *testing.T) {
	tests := []struct {
		name   string
		stream []byte
		want   error
	}{
		{"RSV1 without extension", []byte{0xC1, 0}, ErrReservedBits},
		{"opcode 3", []byte{0x83, 0}, ErrReservedOpcode},
		{"opcode 11", []byte{0x8B, 0}, ErrReservedOpcode},
		{"masked by a server", []byte{0x81, 0x80, 0, 0, 0, 0}, ErrMask},
		{"125 in two bytes", []byte{0x81, 126, 0, 125}, ErrLength},
		{"65535 in eight bytes", []byte{0x81, 127, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF}, ErrLength},
		{"2^63", []byte{0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0}, ErrLength},
		{"fragmented ping", []byte{0x09, 0}, ErrControl},
		{"ping of 126", []byte{0x89, 126, 0, 126}, ErrControl},
		{"close of one byte", []byte{0x88, 1, 3}, ErrCloseLength},
		{"continuation of nothing", []byte{0x80, 0}, ErrFragment},
		{"message in a message", []byte{0x01, 0, 0x81, 0}, ErrFragment},
		{"frame after close", []byte{0x88, 0, 0x81, 0}, ErrAfterClose},
	}
	for _, tt := range tests {
		s := NewScanner(FromServer, false)
		if got := s.Scan(tt.stream); got != -1 {
			t.Errorf("%s: boundary at %d in a broken stream", tt.name, got)
		}
		if !errors.Is(s.Err(), tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, s.Err(), tt.want)
		}
		messages := s.Messages()
		s.Scan([]byte{0x81, 0, 0x81, 0})
		if s.AtBoundary() || s.Messages() != messages || s.Payload() != 0 {
			t.Errorf("%s: the scanner went on", tt.name)
		}
	}
}

func TestScannerLeavesReservedBitsToExtensions(t *testing.T) {
	s := NewScanner(FromServer, true)
	s.Scan([]byte{0xC1, 0})
	if s.Err() != nil || s.Messages() != 1 {
		t.Errorf("%v, %d messages", s.Err(), s.Messages())
	}
}

func TestSkipCountsLikeScan(t *testing.T) {
	f := frame{fin: true, op: OpBinary, payload: payload(100_000), masked: true}.bytes()
	s := NewScanner(FromClient, false)
	s.Scan(f[:1014])
	if s.Payload() != 99_000 {
		t.Fatalf("%d payload bytes to come, want 99000", s.Payload())
	}
	s.Skip(98_999)
	if s.AtBoundary() || s.Messages() != 0 {
		t.Fatal("boundary one byte too early")
	}
	s.Skip(1)
	if !s.AtBoundary() || s.Messages() != 1 {
		t.Fatal("no boundary at the end of the frame")
	}
}

func TestScanAllocatesNothing(t *testing.T) {
	stream := append(frame{fin: true, op: OpText, payload: payload(64), masked: true}.bytes(),
		frame{fin: true, op: OpBinary, payload: payload(5000), masked: true}.bytes()...)
	s := NewScanner(FromClient, false)
	if n := testing.AllocsPerRun(100, func() {
		s.Scan(stream[:5])
		s.Scan(stream[5:])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// slowScan is the scanner's specification: it looks at a whole stream at once, frame by frame, and stops at
// the first frame that is not whole or breaks a rule.
func slowScan(stream []byte, role Role, extended bool) (messages uint64, boundary int, broken bool) {
	inMessage, closed := false, false
	for at := 0; ; {
		rest := stream[at:]
		if len(rest) < 2 {
			return messages, at, false
		}
		fin, op, size, header := rest[0]&0x80 != 0, rest[0]&15, uint64(rest[1]&127), 2
		minimal := true
		if size == 126 {
			if header += 2; len(rest) < header {
				return messages, at, false
			}
			size = uint64(binary.BigEndian.Uint16(rest[2:]))
			minimal = size > 125
		} else if size == 127 {
			if header += 8; len(rest) < header {
				return messages, at, false
			}
			size = binary.BigEndian.Uint64(rest[2:])
			minimal = size > 65535 && size < 1<<63
		}
		masked := rest[1]&0x80 != 0
		if masked {
			header += 4
		}
		if len(rest) < header {
			return messages, at, false
		}
		control := op >= 8
		if closed || rest[0]&0x70 != 0 && !extended || op > 2 && op < 8 || op > 10 || masked != bool(role) || !minimal ||
			control && (!fin || size > 125) || op == 8 && size == 1 || !control && (op == 0) != inMessage {
			return messages, at, true
		}
		if uint64(len(rest)-header) < size {
			return messages, at, false
		}
		at += header + int(size)
		if !control {
			if inMessage = !fin; fin {
				messages++
			}
		}
		closed = closed || op == 8
	}
}

func FuzzScanner(f *testing.F) {
	f.Add([]byte{0x81, 0x03, 'a', 'b', 'c', 0x88, 0x02, 3, 232}, false, false, uint64(1))
	f.Add([]byte{0x01, 0x80, 1, 2, 3, 4, 0x80, 0x81, 1, 2, 3, 4, 9}, true, false, uint64(2))
	f.Add([]byte{0xC2, 126, 0, 126}, false, true, uint64(3))
	f.Fuzz(func(t *testing.T, stream []byte, masked, extended bool, seed uint64) {
		messages, boundary, broken := slowScan(stream, Role(masked), extended)
		s := NewScanner(Role(masked), extended)
		random := rand.New(rand.NewPCG(seed, 0))
		last := 0
		for at := 0; at < len(stream); {
			n := 1 + random.IntN(min(len(stream)-at, 40))
			if end := s.Scan(stream[at : at+n]); end >= 0 {
				last = at + end
			}
			at += n
		}
		if (s.Err() != nil) != broken {
			t.Fatalf("%x: scanner says %v, broken is %v", stream, s.Err(), broken)
		}
		if s.Messages() != messages {
			t.Fatalf("%x: %d messages, want %d", stream, s.Messages(), messages)
		}
		if !broken && last != boundary {
			t.Fatalf("%x: last boundary at %d, want %d", stream, last, boundary)
		}
	})
}
