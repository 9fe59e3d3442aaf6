package proxy_test

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// TestNothingOverHTTP2HoldsALoop sends 64 KB of frames that make much to do. The quickest of several times tells what they cost on a busy machine. Of the
// limit hpack takes more than a third, for 64 KB in Huffman's code.
func TestNothingOverHTTP2HoldsALoop(t *testing.T) {
	const (
		size  = 63 << 10
		times = 9
	)
	f := startTLS(t, secureSite(httpTo(startEcho(t).address), `{path: /files, static: "`+t.TempDir()+`"}`))
	fill := func(piece string, most int) string { return strings.Repeat(piece, most/len(piece)) }
	type writer struct {
		*http2.Framer
		wire, block bytes.Buffer
		encode      *hpack.Encoder
	}
	fields := func(w *writer, pairs ...string) []byte {
		w.block.Reset()
		for i := 0; i < len(pairs); i += 2 {
			w.encode.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
		}
		return bytes.Clone(w.block.Bytes())
	}
	request := func(w *writer, stream uint32, end bool, block []byte) { writeBlock(w.Framer, stream, end, block) }
	one := func(pairs ...string) func(*writer) {
		return func(w *writer) { request(w, 1, true, fields(w, append(getPath("/"), pairs...)...)) }
	}
	numbered := func(name, value string, n int) (pairs []string) {
		for i := range n {
			pairs = append(pairs, fmt.Sprintf(name, i), value)
		}
		return pairs
	}
	path := func(path string) func(*writer) {
		return func(w *writer) { request(w, 1, true, fields(w, getPath(path)...)) }
	}
	many := func(n int, path string, end bool, then func(w *writer, stream uint32)) func(*writer) {
		return func(w *writer) {
			for stream := uint32(1); stream < uint32(2*n); stream += 2 {
				request(w, stream, end, fields(w, getPath(path)...))
				if then != nil {
					then(w, stream)
				}
			}
		}
	}
	body := func(data func(w *writer)) func(*writer) {
		return func(w *writer) {
			request(w, 1, false, fields(w, ":method", "POST", ":scheme", "https", ":authority", "example.com", ":path", "/"))
			data(w)
		}
	}
	for name, write := range map[string]func(*writer){
		"fields of many names":        one(numbered("a%d", "b", 900)...),
		"long names":                  one(numbered(strings.Repeat("n", 30)+"%d", "b", 900)...),
		"one long value":              one("a", fill("v", size-1000)),
		"cookie crumbs":               one(numbered("cookie%.0d", "a=b", 950)...),
		"5,000 fields of one byte":    one(numbered("a%.0d", "b", 5000)...),
		"X-Forwarded-For":             one("x-forwarded-for", fill("1.2.3.4, ", size-1000)+"1.2.3.4"),
		"short segments":              path(fill("/a", size-1000)),
		"dots":                        path("/a" + fill("/a/..", size-1000)),
		"escapes":                     path("/" + fill("%61", size-1000)),
		"100 requests":                many(100, "/", true, nil),
		"100 requests for files":      many(100, "/files/x", true, nil),
		"200 requests that are reset": many(200, "/", true, func(w *writer, stream uint32) { w.WriteRSTStream(stream, http2.ErrCodeCancel) }),
		"malformed requests":          many(200, "x", true, nil),
		"1-byte DATA": body(func(w *writer) {
			for range size / 10 {
				w.WriteData(1, false, []byte("a"))
			}
		}),
		"heads by reference": func(w *writer) {
			w.encode.SetMaxDynamicTableSize(4096)
			reference := getPath("/")
			for range 15 {
				reference = append(reference, "x", strings.Repeat("a", 4000))
			}
			many(1, "/", true, nil)(w)
			for stream := uint32(3); stream < 403; stream += 2 {
				request(w, stream, true, fields(w, reference...))
			}
		},
		"long heads in a row": func(w *writer) {
			for stream := uint32(1); stream < 11; stream += 2 {
				request(w, stream, true, fields(w, getPath("/"+fill("a", size-1000))...))
			}
		},
		"PING": func(w *writer) {
			for range size / 17 {
				w.WritePing(false, [8]byte{})
			}
		},
		"WINDOW_UPDATE": func(w *writer) {
			many(100, "/", true, nil)(w)
			for range size / 20 {
				w.WriteWindowUpdate(0, 1)
			}
		},
		"SETTINGS": func(w *writer) {
			many(100, "/", true, nil)(w)
			for i := range uint32(190) {
				w.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: i})
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			limit := slowed(3 * time.Millisecond)
			var longest atomic.Int64
			f.server.WatchLoops(func(held time.Duration) {
				for before := longest.Load(); int64(held) > before && !longest.CompareAndSwap(before, int64(held)); before = longest.Load() {
				}
			})
			defer f.server.WatchLoops(nil)
			best := time.Hour
			for range times {
				w := &writer{}
				w.Framer, w.encode = http2.NewFramer(&w.wire, nil), hpack.NewEncoder(&w.block)
				w.AllowIllegalWrites = true
				write(w)
				w.WritePing(false, [8]byte{lastPing})
				c, _ := f.dialH2()
				longest.Store(0)
				c.conn.Write(w.wire.Bytes())
				c.awaitPong()
				c.conn.Close()
				await(t, "an event", func() bool { return longest.Load() > 0 })
				best = min(best, time.Duration(longest.Load()))
			}
			if best > limit {
				t.Errorf("a loop was held for %s, more than %s", best, limit)
			}
		})
	}
}

// awaitPong reads until the last ping is answered, or the connection ends.
func (c *h2Client) awaitPong() {
	for {
		frame, err := c.ReadFrame()
		if ping, ok := frame.(*http2.PingFrame); err != nil || ok && ping.IsAck() && ping.Data[0] == lastPing {
			return
		}
	}
}

// lastPing is the first byte of a ping behind which nothing comes.
const lastPing = 1

// writeBlock writes a header block, in as many frames as that takes.
func writeBlock(w *http2.Framer, stream uint32, end bool, block []byte) error {
	const most = 16 << 10
	n := min(len(block), most)
	err := w.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndStream: end, EndHeaders: n == len(block), BlockFragment: block[:n]})
	for block = block[n:]; len(block) > 0 && err == nil; block = block[n:] {
		n = min(len(block), most)
		err = w.WriteContinuation(stream, n == len(block), block[:n])
	}
	return err
}
