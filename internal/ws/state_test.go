package ws

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"testing"
)

// TestScannerGoesOnWhereAnotherStood at whatever byte of a stream that is.
func TestScannerGoesOnWhereAnotherStood(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, role := range []Role{FromClient, FromServer} {
		var mask *[4]byte
		if role == FromClient {
			mask = &[4]byte{1, 2, 3, 4}
		}
		var stream []byte
		for _, size := range []int{0, 1, 125, 126, 300} {
			begin := len(stream)
			stream = AppendFrame(stream, OpText, make([]byte, size), mask)
			stream[begin] &= 0x7F
			stream = AppendFrame(stream, OpPing, make([]byte, random.IntN(126)), mask)
			stream = AppendFrame(stream, OpContinuation, make([]byte, size), mask)
		}
		broken := append(AppendFrame(nil, OpText, nil, mask), 0x83, 0)
		for _, all := range [][]byte{AppendClose(stream, CloseGoingAway, "bye", mask), append(stream[:len(stream):len(stream)], broken...)} {
			whole := NewScanner(role, false)
			whole.Scan(all)
			for cut := range len(all) + 1 {
				first := NewScanner(role, false)
				first.Scan(all[:cut])
				second, err := ScannerAt(first.State())
				if err != nil {
					t.Fatalf("cut at %d: %v", cut, err)
				}
				second.Scan(all[cut:])
				if !reflect.DeepEqual(second.State(), whole.State()) || second.Err() != whole.Err() {
					t.Fatalf("cut at %d: %+v, want %+v", cut, second, whole)
				}
			}
		}
	}
}

func TestScannerRefusesStatesThatThereAreNot(t *testing.T) {
	for name, at := range map[string]ScannerState{
		"unknown violation":         {Broken: 9},
		"a whole header":            {Head: []byte{0x81, 0}},
		"a header and more":         {Head: []byte{0x81, 0, 1}},
		"a header too long":         {Head: make([]byte, 14)},
		"a header within a payload": {Head: []byte{0x81}, Left: 1},
		"a control frame of 126":    {Opcode: OpPing, Left: 126},
		"a payload above 2^63-1":    {Opcode: OpText, Left: 1 << 63},
		"a reserved opcode":         {Opcode: 3},
		"an opcode of five bits":    {Opcode: 0x11},
		"three bytes of a code":     {PayloadAt: 3},
		"a violation and a header":  {Broken: 1, Head: []byte{1}},
	} {
		if _, err := ScannerAt(at); !errors.Is(err, ErrState) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
