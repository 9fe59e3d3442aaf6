package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestClientThatTakesNoAnswersIsAskedForNoMoreRequests: what it sends on one connection makes backends work, and answers wait in memory.
func TestClientThatTakesNoAnswersIsAskedForNoMoreRequests(t *testing.T) {
	page := "HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + strings.Repeat("x", 60000)
	b := startHeads(t, always(page))
	f := start(t, oneSite(httpTo(b.address)))
	c := f.dial()
	before := heap()
	go func() {
		many := strings.Repeat(get, 1000)
		for range 20 {
			if _, err := io.WriteString(c.Conn, many); err != nil {
				return
			}
		}
	}()
	asked := -1
	await(t, "an end of the requests", func() bool {
		was := asked
		time.Sleep(200 * time.Millisecond)
		asked = len(b.seen())
		return asked == was && asked > 0
	})
	held, kept := int64(heap())-int64(before), f.server.Counts().Kept
	if asked > 300 || held > 1<<20 || kept > 64<<10 { // the kernel has most pages
		t.Errorf("%d requests were served for a client that takes nothing, %d bytes are held, and %d of a page", asked, held, kept)
	}
}

// TestUploadBehindAPipelinedRequestIsTaken: so much of it came early that reading was paused.
func TestUploadBehindAPipelinedRequestIsTaken(t *testing.T) {
	release := make(chan bool)
	b := startBackend(t, func(b *backend, conn net.Conn) {
		<-release
		serveEcho(b, conn)
	})
	f := start(t, oneSite(httpTo(b.address)))
	c := f.dial()
	body := strings.Repeat("b", 400_000)
	go c.send(get, fmt.Sprintf("POST /up HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n", host, len(body)), body)
	await(t, "the first request", func() bool { return b.accepted() == 1 })
	c.waits(f, 0)
	close(release)
	c.expect(200)
	if a := c.expect(200); a.body != "POST /up "+body {
		t.Errorf("%d bytes came back", len(a.body))
	}
}

// counted counts what is written to it.
type counted struct{ atomic.Int64 }

func (c *counted) Write(p []byte) (int, error) {
	c.Add(int64(len(p)))
	return len(p), nil
}

// TestUploadMayTakeLongerThanResponseHead: that time begins when the request is sent.
func TestUploadMayTakeLongerThanResponseHead(t *testing.T) {
	var taken counted
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		for br := bufio.NewReader(conn); ; {
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			io.Copy(&taken, req.Body)
			io.WriteString(conn, ok)
		}
	})
	f := start(t, "min_rate: off\ntimeouts: {response_head: 20s}\n"+oneSite(httpTo(b.address)))
	for _, framing := range []string{"Content-Length: 10\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n"} {
		c := f.dial()
		c.send("POST / HTTP/1.1\r\n", host, framing)
		before := taken.Load()
		for n := range int64(10) {
			c.waits(f, 50*time.Second)
			if strings.HasPrefix(framing, "T") {
				c.send("1\r\nb\r\n")
			} else {
				c.send("b")
			}
			await(t, "the byte", func() bool { return f.server.Counts().Kept+taken.Load()-before == n+1 })
		}
		if strings.HasPrefix(framing, "T") {
			c.send("0\r\n\r\n")
		}
		c.expect(200)
	}
}

// TestAnswersBeforeAPipelinedHandOverAreWhole: the connection is handed over only when nothing is on its way to the client.
func TestAnswersBeforeAPipelinedHandOverAreWhole(t *testing.T) {
	const times = 200
	page := strings.Repeat("x", 60000)
	b := startHeads(t, always("HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n"+page))
	echo := startEchoSocket(t)
	broken := startHeads(t, always("HTTP/1.1 200 OK\r\nContent-Length: 10\r\nConnection: close\r\n\r\nhalf"))
	f := startTLS(t, secureSite(httpTo(b.address), `{path: /ws, websocket: "ws://`+echo.address+`", mode: relay}`,
		`{path: /broken, http: "http://`+broken.address+`"}`))
	for name, last := range map[string]string{"relay": upgrade, "one that breaks off": strings.Replace(get, "/ ", "/broken ", 1)} {
		for _, dial := range []func() *client{f.dial, f.dialSecure} {
			c := dial()
			c.send(strings.Repeat(get, times), last)
			awaitFlat(func() uint64 { return uint64(len(b.seen())) })
			for n := range times {
				if a := c.expect(200); a.body != page {
					t.Fatalf("%s: got %d bytes of page %d, %v", name, len(a.body), n, a.err)
				}
			}
			if head := c.head(); name == "relay" && !strings.HasPrefix(head, "HTTP/1.1 101") {
				t.Errorf("%s: got %q", name, head)
			}
			c.Close()
		}
	}
}

// TestUploadThatTheBackendDoesNotTakeIs504 after response_head, as if it had been sent.
func TestUploadThatTheBackendDoesNotTakeIs504(t *testing.T) {
	done := make(chan bool)
	defer close(done)
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		conn.(*net.TCPConn).SetReadBuffer(4096)
		<-done
	})
	f := start(t, oneSite(httpTo(b.address)))
	c := f.dial()
	c.send("POST / HTTP/1.1\r\n", host, "Content-Length: 50000000\r\n\r\n")
	if n := c.stall(); n == 50_000_000 {
		t.Fatal("all was taken")
	}
	c.waits(f, 55*time.Second)
	f.server.Skip(5 * time.Second)
	c.expect(504)
}

// TestConnectionOverTLSIsKeptThoughItsAnswerWasTakenSlowly.
func TestConnectionOverTLSIsKeptThoughItsAnswerWasTakenSlowly(t *testing.T) {
	const times = 300
	page := strings.Repeat("x", 40_000)
	b := startSecureBackend(t, func(b *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		for {
			head, err := rawHead(br)
			if err != nil {
				return
			}
			b.note(head)
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n"+page)
		}
	})
	c := start(t, oneSite(`{path: /, http: "https://`+b.address+`", tls_verify: false}`)).dial()
	c.send(strings.Repeat(get, times))
	awaitFlat(func() uint64 { return uint64(len(b.seen())) })
	for range times {
		if a := c.expect(200); a.body != page {
			t.Fatalf("got %d bytes, %v", len(a.body), a.err)
		}
	}
	if n := b.accepted(); n > 1 {
		t.Errorf("%d connections were made", n)
	}
}

// TestAnswersBeforeOneThatBreaksOffAreWhole, though requests behind it still come: to close over those would be a reset, which overtakes what the client has
// yet to take (RFC 9112, section 9.6).
func TestAnswersBeforeOneThatBreaksOffAreWhole(t *testing.T) {
	page := strings.Repeat("x", 200_000)
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		for br := bufio.NewReader(conn); ; {
			head, err := rawHead(br)
			switch {
			case strings.HasPrefix(head, "GET /page "):
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(page), page)
			case err != nil:
				return
			default:
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
				return
			}
		}
	})
	for name, last := range map[string]string{"broken off": "GET /cut HTTP/1.1\r\n" + host + "\r\n", "closed behind": "GET /page HTTP/1.1\r\nConnection: close\r\n" + host + "\r\n" + get} {
		t.Run(name, func(t *testing.T) {
			f := start(t, oneSite(httpTo(b.address)))
			c := f.dial()
			c.Conn.(*net.TCPConn).SetReadBuffer(32 << 10)
			c.send("GET /page HTTP/1.1\r\n"+host+"\r\n", last)
			await(t, "the end of both", func() bool { return strings.Count(f.log.String(), `"msg":"request"`) == 2 })
			c.send(get)
			for range strings.Count("GET /page HTTP/1.1"+last, "/page") {
				if a := c.expect(200); a.body != page {
					t.Errorf("%d bytes came", len(a.body))
				}
			}
		})
	}
}
