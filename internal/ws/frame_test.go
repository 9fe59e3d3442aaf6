package ws

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestAppendFrameAtLengthBoundaries(t *testing.T) {
	for _, n := range []int{0, 1, 124, 125, 126, 127, 65534, 65535, 65536, 65537} {
		for _, mask := range []*[4]byte{nil, {1, 2, 3, 4}} {
			got := AppendFrame([]byte("before"), OpBinary, payload(n), mask)
			s := NewScanner(Role(mask != nil), false)
			if end := s.Scan(got[6:]); end != len(got)-6 || s.Messages() != 1 || s.Err() != nil {
				t.Errorf("%d bytes, mask %v: boundary %d of %d, %v", n, mask, end, len(got)-6, s.Err())
			}
			if mask == nil && !bytes.HasSuffix(got, payload(n)) {
				t.Errorf("%d bytes: payload changed", n)
			}
		}
	}
}

func TestAppendFrameMasksWithTheKey(t *testing.T) {
	// The masked "Hello" of RFC 6455, section 5.7.
	want := []byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58}
	if got := AppendFrame(nil, OpText, []byte("Hello"), &[4]byte{0x37, 0xfa, 0x21, 0x3d}); !bytes.Equal(got, want) {
		t.Errorf("got %x, want %x", got, want)
	}
}

func TestMaskTakesItselfOff(t *testing.T) {
	mask := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	for n := range 40 {
		got := payload(n)
		Mask(got, mask)
		for i, b := range payload(n) {
			if got[i] != b^mask[i&3] {
				t.Fatalf("byte %d of %d is %#x", i, n, got[i])
			}
		}
		if Mask(got, mask); !bytes.Equal(got, payload(n)) {
			t.Errorf("%d bytes are %x after two masks", n, got)
		}
	}
}

func TestAppendCloseCutsTheReasonAtARune(t *testing.T) {
	got := AppendClose(nil, 1001, strings.Repeat("ä", 100), nil)
	reason := got[4:]
	if len(reason) != 122 || !utf8.Valid(reason) || got[1] != 124 {
		t.Errorf("reason of %d bytes, valid %v, length byte %d", len(reason), utf8.Valid(reason), got[1])
	}
}

// FuzzInject puts a Close frame where the scanner says that one fits and reads the result with the slow scanner.
func FuzzInject(f *testing.F) {
	f.Add([]byte{0x81, 0x03, 'a', 'b', 'c', 0x89, 0x00}, 3, "bye", false)
	f.Add([]byte{0x01, 0x80, 1, 2, 3, 4, 0x80, 0x80, 1, 2, 3, 4}, 6, "", true)
	f.Fuzz(func(t *testing.T, stream []byte, at int, reason string, masked bool) {
		if at < 0 || at > len(stream) {
			return
		}
		var mask *[4]byte
		if masked {
			mask = &[4]byte{9, 8, 7, 6}
		}
		s := NewScanner(Role(masked), false)
		boundary := s.Scan(stream[:at])
		if _, closed := s.Close(); boundary < 0 || closed {
			return
		}
		messages, end, broken := slowScan(stream[:boundary], Role(masked), false)
		if broken || end != boundary {
			t.Fatalf("%x: no boundary at %d", stream, boundary)
		}
		injected := AppendClose(append([]byte(nil), stream[:boundary]...), CloseGoingAway, reason, mask)
		after, end, broken := slowScan(injected, Role(masked), false)
		if broken || end != len(injected) || after != messages {
			t.Fatalf("%x: broken %v, boundary %d of %d, %d messages of %d", injected, broken, end, len(injected), after, messages)
		}
	})
}
