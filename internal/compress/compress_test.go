package compress

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// inflate returns what a coded body stands for.
func inflate(t testing.TB, coding string, body []byte) string {
	t.Helper()
	var r io.Reader
	var err error
	switch coding {
	case "zstd":
		var d *zstd.Decoder
		d, err = zstd.NewReader(bytes.NewReader(body))
		defer d.Close()
		r = d
	case "br":
		r = brotli.NewReader(bytes.NewReader(body))
	default:
		r, err = gzip.NewReader(bytes.NewReader(body))
	}
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("%s: %v", coding, err)
	}
	return string(text)
}

func TestBodiesComeBackWhole(t *testing.T) {
	for _, coding := range names {
		for level := 1; level <= 9; level++ {
			for range 2 { // the second time with an encoder that was used before
				e := New(coding, level)
				if e.Coding() != coding {
					t.Fatalf("got %s", e.Coding())
				}
				var body []byte
				var text strings.Builder
				for i := range 20 {
					piece := strings.Repeat("some text ", rand.IntN(3000))
					text.WriteString(piece)
					out, err := e.Next([]byte(piece), i%3 == 0, false)
					if err != nil {
						t.Fatal(err)
					}
					body = append(body, out...)
				}
				out, err := e.Next(nil, false, true)
				if err != nil {
					t.Fatal(err)
				}
				body = append(body, out...)
				e.Close()
				e.Close()
				if got := inflate(t, coding, body); got != text.String() || len(body) > text.Len()/5 {
					t.Errorf("%s %d: %d bytes for %d, which stand for %d", coding, level, len(body), text.Len(), len(got))
				}
			}
		}
	}
}

func TestFlushedPieceCanBeRead(t *testing.T) {
	for _, coding := range names {
		e := New(coding, 4)
		out, err := e.Next([]byte("first"), true, false)
		if err != nil || len(out) == 0 {
			t.Fatalf("%s: %d bytes, %v", coding, len(out), err)
		}
		var r io.Reader
		switch coding {
		case "zstd":
			d, _ := zstd.NewReader(bytes.NewReader(out))
			defer d.Close()
			r = d
		case "br":
			r = brotli.NewReader(bytes.NewReader(out))
		default:
			r, _ = gzip.NewReader(bytes.NewReader(out))
		}
		p := make([]byte, 5)
		if _, err := io.ReadFull(r, p); err != nil || string(p) != "first" {
			t.Errorf("%s: %q, %v", coding, p, err)
		}
		e.Close()
	}
}

func TestCodingThatIsLikedBest(t *testing.T) {
	for accept, want := range map[string]string{
		"": "", "identity": "", "gzip": "gzip", "x-gzip": "gzip", "gzip, deflate, br, zstd": "zstd", "gzip, deflate, br": "br", "*": "zstd",
		"br;q=0.5, gzip": "gzip", "gzip;q=0": "", "*;q=0": "", "gzip;q=0.5, identity": "", "GZIP": "gzip",
	} {
		got := ""
		if e := New(accept, 1); e != nil {
			got = e.Coding()
			e.Close()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", accept, got, want)
		}
	}
}

func TestOnlySoManyBodiesAreCompressedAtATime(t *testing.T) {
	var all []*Encoder
	for range maxEncoders {
		all = append(all, New("gzip", 1))
	}
	if e := New("gzip", 1); e != nil {
		t.Error("one too many")
	}
	for _, e := range all {
		e.Close()
	}
	if e := New("gzip", 1); e == nil {
		t.Error("none, when all are closed")
	} else {
		e.Close()
	}
}
