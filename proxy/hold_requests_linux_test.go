package proxy_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestNoRequestsHoldALoop sends 64 KB in which there is much to answer or to pass on.
func TestNoRequestsHoldALoop(t *testing.T) {
	const size = 63 << 10
	f := start(t, oneSite(httpTo(startEcho(t).address), `{path: /files, static: "`+t.TempDir()+`"}`))
	fill := func(piece string) string { return strings.Repeat(piece, size/len(piece)) }
	const last = "GET / HTTP/1.1\r\n" + host + "Connection: close\r\n\r\n"
	chunked := "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n"
	for name, text := range map[string]string{
		"requests for an unknown site": fill("GET / HTTP/1.1\r\nHost:a\r\n\r\n"),
		"OPTIONS *":                    fill("OPTIONS * HTTP/1.1\r\n" + host + "\r\n"),
		"requests for a backend":       fill(get),
		"requests for files":           fill("GET /files/x HTTP/1.1\r\n" + host + "\r\n"),
		"one-byte chunks":              chunked + fill("1\r\nb\r\n") + "0\r\n\r\n",
		"trailers":                     chunked + "0\r\n" + strings.Repeat("a:b\r\n", 900) + "\r\n",
	} {
		t.Run(name, func(t *testing.T) { f.expectShortHolds(t, text+last, (*client).rest) })
	}
}

// expectShortHolds sends text several times, each on a new connection, and has the answer read. The quickest tells what the text itself costs on a
// busy machine.
func (f *front) expectShortHolds(t *testing.T, text string, read func(*client) string) {
	t.Helper()
	const times = 9
	limit := slowed(time.Millisecond)
	var longest atomic.Int64
	f.server.WatchLoops(func(held time.Duration) {
		for {
			before := longest.Load()
			if int64(held) <= before || longest.CompareAndSwap(before, int64(held)) {
				return
			}
		}
	})
	defer f.server.WatchLoops(nil)
	best := time.Hour
	for range times {
		longest.Store(0)
		c := dial(t, f.plain)
		c.send(text)
		read(c)
		c.Close()
		best = min(best, time.Duration(longest.Load()))
	}
	if best > limit {
		t.Errorf("a loop was held for %s, more than %s", best, limit)
	}
}
