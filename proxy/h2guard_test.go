//go:build !linux || portable

package proxy

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"
)

// h2Frames are n frames with payloads of zeros.
func h2Frames(n int, kind, flags byte, size int) []byte {
	head := binary.BigEndian.AppendUint32(nil, uint32(size)<<8|uint32(kind))
	return bytes.Repeat(append(append(head, flags, 0, 0, 0, 1), make([]byte, size)...), n)
}

func TestH2FloodsAreCounted(t *testing.T) {
	block := func(continuations int) []byte {
		all := append(h2Frames(1, h2Headers, 0, 1), h2Frames(continuations, h2Continuation, 0, 1)...)
		return append(all, h2Frames(1, h2Continuation, h2EndHeaders, 1)...)
	}
	const settings, priority, unknown = 0x4, 0x2, 0xF0
	tests := []struct {
		name  string
		bytes []byte
		want  error
	}{
		{"data", h2Frames(100_000, h2Data, 0, 10), nil},
		{"a block of 16 frames", bytes.Repeat(block(14), 100), nil},
		{"a block of 18 frames", block(17), errHeaderFlood},
		{"a long block", append(h2Frames(1, h2Headers, 0, maxHeaderBlock), h2Frames(1, h2Continuation, h2EndHeaders, 1)...), errHeaderFlood},
		{"many whole blocks", h2Frames(10_000, h2Headers, h2EndHeaders, 100), nil},
		{"a burst of resets", h2Frames(200, h2RSTStream, 0, 4), nil},
		{"one reset more", h2Frames(201, h2RSTStream, 0, 4), errResetFlood},
		{"resets without a code", h2Frames(201, h2RSTStream, 0, 0), errResetFlood},
		{"settings", h2Frames(200, settings, 0, 6), nil},
		{"a flood of settings", h2Frames(201, settings, 0, 6), errControlFlood},
		{"a flood of priorities", h2Frames(201, priority, 0, 5), errControlFlood},
		{"priorities of many streams", bytes.Repeat(append(h2Frames(1, h2Headers, h2EndHeaders, 100), h2Frames(2, priority, 0, 5)...), 10_000), nil},
		{"a flood of unknown frames", h2Frames(201, unknown, 0, 0), errControlFlood},
		{"a flood of window updates", h2Frames(10_001, h2WindowUpdate, 0, 4), errUpdateFlood},
		{"a flood of pings", h2Frames(10_001, h2Ping, 0, 8), errUpdateFlood},
		{"a flood of empty data", h2Frames(101, h2Data, 0, 0), errEmptyFlood},
		{"a flood of padding", h2Frames(101, h2Data, h2Padded, 256), errEmptyFlood},
		{"ends of streams", h2Frames(10_000, h2Data, h2EndStream, 0), nil},
	}
	for _, tt := range tests {
		for _, piece := range []int{1, 7, 1 << 20} {
			guard, in := newH2Guard(), h2Follower{left: h2PrefaceLen}
			all := append(make([]byte, h2PrefaceLen), tt.bytes...)
			var err error
			for now := time.Now(); len(all) > 0 && err == nil; {
				n := min(piece, len(all))
				err = in.follow(all[:n], now, guard.received)
				all = all[n:]
			}
			if err != tt.want {
				t.Errorf("%s in pieces of %d: %v, want %v", tt.name, piece, err, tt.want)
			}
		}
	}
}

func TestResetsAreForgivenWithTime(t *testing.T) {
	guard, in := newH2Guard(), h2Follower{}
	now := time.Now()
	for i := range 1000 {
		now = now.Add(time.Second / 20)
		if err := in.follow(h2Frames(1, h2RSTStream, 0, 4), now, guard.received); err != nil {
			t.Fatalf("reset %d: %v", i, err)
		}
	}
}

// TestUpdatesOfWhatWasSentAreFree: a client that takes a small frame at a time acknowledges each twice.
func TestUpdatesOfWhatWasSentAreFree(t *testing.T) {
	guard, in, out := newH2Guard(), h2Follower{}, h2Follower{}
	for i := range 100_000 {
		out.follow(h2Frames(1, h2Data, 0, 30), time.Time{}, guard.answered)
		if err := in.follow(h2Frames(2, h2WindowUpdate, 0, 4), time.Time{}, guard.received); err != nil {
			t.Fatalf("frame %d: %v", i, err)
		}
	}
}
