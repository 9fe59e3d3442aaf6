package proxy_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// longText is bytes that no two places of are alike.
func longText(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(p)
	return p
}

// startText is a backend with so many workers that answers each request with a text, and then ends the connection.
func startText(t *testing.T, workers int, text []byte, announced int) *backend {
	free := make(chan bool, workers)
	return startBackend(t, func(_ *backend, conn net.Conn) {
		free <- true
		defer func() { <-free }()
		if _, err := rawHead(bufio.NewReader(conn)); err == nil {
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", announced)
			conn.Write(text)
		}
	})
}

func (f *front) awaitNoSpools(t *testing.T) {
	t.Helper()
	await(t, "no temporary files", func() bool {
		c := f.server.Counts()
		return c.Kept == 0 && c.Spooled == 0 && c.SpoolFiles == 0
	})
}

// holdsNoBackend lets clients ask for a long answer that they do not take, which leaves the only worker free for others.
func (f *front) holdsNoBackend(t *testing.T, clients ...*client) {
	t.Helper()
	for i, c := range clients {
		c.send(get)
		await(t, "the answer", func() bool { return f.server.Counts().SpoolFiles == int64(i+1) && f.server.Counts().Backends == 0 })
	}
}

// TestLongAnswersToSlowClientsHoldNoBackend: what is too much for memory is in a temporary file until it is taken.
func TestLongAnswersToSlowClientsHoldNoBackend(t *testing.T) {
	text := longText(24 << 20)
	b := startText(t, 1, text, len(text))
	f := startTLS(t, secureSite(`{path: /, http: {url: "http://`+b.address+`", keepalive: off}}`))
	clients := []*client{f.dial(), f.dialSecure()}
	f.holdsNoBackend(t, clients...)
	h2, _ := f.dialH2()
	for stream := uint32(1); stream < 8; stream += 2 {
		h2.request(stream, getPath("/")...)
		await(t, "the answer", func() bool {
			return f.server.Counts().SpoolFiles == int64(2+(stream+1)/2) && f.server.Counts().Backends == 0
		})
	}
	c := f.server.Counts()
	if c.Kept > 16<<20 || c.Spooled < 70<<20 {
		t.Errorf("%d bytes in memory and %d in files", c.Kept, c.Spooled)
	}
	for _, c := range clients {
		if a := c.expect(200); a.err != nil || a.body != string(text) {
			t.Errorf("%d bytes that are not those of the backend: %v", len(a.body), a.err)
		}
	}
	sums := map[uint32]hash.Hash{}
	h2.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	h2.WriteWindowUpdate(0, 1<<30)
	for ended := 0; ended < 4; {
		frame, err := h2.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if data, ok := frame.(*http2.DataFrame); ok {
			if sums[data.StreamID] == nil {
				sums[data.StreamID] = sha256.New()
			}
			sums[data.StreamID].Write(data.Data())
			if data.StreamEnded() {
				ended++
			}
		}
	}
	for stream, sum := range sums {
		if [32]byte(sum.Sum(nil)) != sha256.Sum256(text) {
			t.Errorf("stream %d did not bring what the backend sent", stream)
		}
	}
	f.awaitNoSpools(t)
}

// TestAnswerIsSpooledUpToItsBounds: beyond those its backend waits, and nothing is lost.
func TestAnswerIsSpooledUpToItsBounds(t *testing.T) {
	text := longText(64 << 20)
	for name, settings := range map[string]string{
		"spool_max":    "spool_max: 4MiB\n",
		"spool_space":  "limits: {spool_space: 4MiB}\n",
		"no directory": "",
	} {
		t.Run(name, func(t *testing.T) {
			least, most, complaints := int64(4<<20), int64(4<<20), 1
			switch t.TempDir(); name { // it is under TMPDIR itself
			case "no directory":
				t.Setenv("TMPDIR", "/nowhere")
				least, most = 0, 0
			case "spool_space":
				least -= 4 * 64 << 10 // what would be too much is not written
			default: // as it was asked for
				complaints = 0
			}
			b := startText(t, 1, text, len(text))
			f := startTLS(t, settings+secureSite(httpTo(b.address)))
			c := f.dialSecure()
			c.send(get)
			await(t, "the bound", func() bool {
				c := f.server.Counts()
				return c.Spooled >= least && c.Kept >= 1<<20 && f.complaints() == complaints
			})
			if got := f.server.Counts(); got.Backends != 1 || got.Spooled > most || got.Kept > 1<<20+7*64<<10 { // reads more, and what was to be written, each a little longer as TLS has it
				t.Errorf("%+v", got)
			}
			if a := c.expect(200); a.err != nil || a.body != string(text) {
				t.Errorf("%d bytes that are not those of the backend: %v", len(a.body), a.err)
			}
			f.awaitNoSpools(t)
			if n := f.complaints(); n != complaints {
				t.Errorf("%d complaints", n)
			}
		})
	}
}

// complaints counts the lines about files that can't be written.
func (f *front) complaints() int {
	return strings.Count(f.log.String(), `"msg":"backends wait for slow clients"`)
}

// TestAnswerThatBreaksOffIsNeverWhole, though what came of it is taken from a file long after.
func TestAnswerThatBreaksOffIsNeverWhole(t *testing.T) {
	text := longText(20 << 20)
	b := startText(t, 1, text, len(text)+1)
	f := startTLS(t, secureSite(httpTo(b.address)))
	plain, secure := f.dial(), f.dialSecure()
	f.holdsNoBackend(t, plain, secure)
	for _, c := range []*client{plain, secure} {
		if a := c.expect(200); a.err == nil || a.body != string(text) {
			t.Errorf("%d bytes, %v", len(a.body), a.err)
		}
	}
	await(t, "two lines", func() bool { return strings.Count(f.log.String(), "reading the response body") == 2 })
	f.awaitNoSpools(t)
}

// TestClientThatLeavesLeavesNoFile.
func TestClientThatLeavesLeavesNoFile(t *testing.T) {
	text := longText(30 << 20)
	b := startText(t, 1, text, len(text))
	f := startTLS(t, secureSite(httpTo(b.address)))
	c := f.dialSecure()
	f.holdsNoBackend(t, c)
	c.Close()
	f.awaitNoSpools(t)
	await(t, "its line", func() bool { return strings.Contains(f.log.String(), `"status":499`) })

	for range 20 { // while the file is written
		c := f.dialSecure()
		c.send(get)
		c.head()
		time.Sleep(rand.N(300 * time.Millisecond))
		c.Close()
	}
	f.awaitNoSpools(t)
	await(t, "no connections", func() bool { c := f.server.Counts(); return c.Clients == 0 && c.Backends == 0 })
}

// TestEventsAreNotDelayedBySpooling of a client that takes them.
func TestEventsAreNotDelayedBySpooling(t *testing.T) {
	next := make(chan bool)
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		rawHead(bufio.NewReader(conn))
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
		for range next {
			io.WriteString(conn, "data: x\n\n")
		}
	})
	f := start(t, oneSite(httpTo(b.address)))
	c := f.dial()
	c.send(get)
	c.head()
	for range 10 {
		next <- true
		if got := mustRead(t, c.br, len("9\r\ndata: x\n\n\r\n")); got != "9\r\ndata: x\n\n\r\n" {
			t.Errorf("got %q", got)
		}
	}
	close(next)
	if n := f.server.Counts().SpoolFiles; n != 0 {
		t.Errorf("%d files", n)
	}
}

// startBodies is a backend with one worker that answers with what it was told of a body, and the body's sum.
func startBodies(t *testing.T) *backend {
	free := make(chan bool, 1)
	return startBackend(t, func(_ *backend, conn net.Conn) {
		free <- true
		defer func() { <-free }()
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%d %d %x %v %v", r.ContentLength, n, sum.Sum(nil), r.Trailer, err)
	})
}

func told(announced int, text []byte) string {
	return fmt.Sprintf("%d %d %x map[] <nil>", announced, len(text), sha256.Sum256(text))
}

// TestSpooledUploadHoldsNoBackend: the server is asked when the body is whole.
func TestSpooledUploadHoldsNoBackend(t *testing.T) {
	b := startBodies(t)
	f := startTLS(t, "spool: true\n"+secureSite(`{path: /, http: {url: "http://`+b.address+`", keepalive: off}}`))
	text := longText(9 << 20)
	half := len(text) / 2
	known := fmt.Sprintf("POST / HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n", host, len(text))
	waiting := strings.Replace(known, host, host+"Expect: 100-continue\r\n", 1)
	chunked := "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n"

	a, w, c := f.dial(), f.dialSecure(), f.dial()
	a.send(known, string(text[:half]))
	w.send(waiting)
	if got := w.head(); got != "HTTP/1.1 100 Continue\r\n\r\n" {
		t.Fatalf("answered %q", got)
	}
	w.send(string(text[:half]))
	c.send(chunked, fmt.Sprintf("%x\r\n%s\r\n", half, text[:half]))
	h2, _ := f.dialH2()
	h2.post(1)
	h2.sendBody(1, text[:half], false)
	await(t, "halves", func() bool { return f.server.Counts().Spooled >= int64(4*half-4*128<<10) })

	quick := f.dial()
	quick.send(get)
	if got := quick.expect(200).body; got != told(0, nil) {
		t.Errorf("told %s", got)
	}
	if n := b.accepted(); n != 1 {
		t.Errorf("%d connections to the backend", n)
	}
	a.send(string(text[half:]))
	w.send(string(text[half:]))
	c.send(fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(text)-half, text[half:]))
	h2.sendBody(1, text[half:], true)
	for _, c := range []*client{a, w, c} {
		if got := c.expect(200).body; got != told(len(text), text) {
			t.Errorf("told %s", got)
		}
	}
	if got := h2.whole(1); !strings.Contains(got, fmt.Sprintf("%d %d %x", len(text), len(text), sha256.Sum256(text))) {
		t.Errorf("told %s", got)
	}
	f.awaitNoSpools(t)
}

// sendBody sends a body as the windows allow.
func (c *h2Client) sendBody(stream uint32, p []byte, end bool) {
	if _, known := c.window[stream]; !known {
		c.window[stream] = c.begin
	}
	for len(p) > 0 {
		n := min(len(p), 16<<10, c.window[0], c.window[stream])
		if n <= 0 {
			frame, err := c.ReadFrame()
			if err != nil {
				c.t.Fatal(err)
			}
			if update, ok := frame.(*http2.WindowUpdateFrame); ok {
				c.window[update.StreamID] += int(update.Increment)
			}
			continue
		}
		c.window[0] -= n
		c.window[stream] -= n
		c.WriteData(stream, end && n == len(p), p[:n])
		p = p[n:]
	}
}

// TestSpooledUploadKeepsItsTrailers, for which it goes in chunks as it came.
func TestSpooledUploadKeepsItsTrailers(t *testing.T) {
	b := startBodies(t)
	f := start(t, "spool: true\n"+oneSite(httpTo(b.address)))
	c := f.dial()
	c.send("POST / HTTP/1.1\r\n", host, "Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n")
	if got := c.expect(200).body; got != fmt.Sprintf("-1 3 %x map[X-Sum:[1]] <nil>", sha256.Sum256([]byte("abc"))) {
		t.Errorf("told %s", got)
	}
	c = f.dial()
	c.send("POST / HTTP/1.1\r\n", host, "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n")
	if got := c.expect(200).body; got != told(0, nil) {
		t.Errorf("told %s", got)
	}
}

// TestUploadThatIsTooLongForItsSpoolIsStreamed.
func TestUploadThatIsTooLongForItsSpoolIsStreamed(t *testing.T) {
	text := longText(12 << 20)
	known := fmt.Sprintf("POST / HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n", host, len(text))
	chunked := "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n"
	for name, settings := range map[string]string{
		"spool_max":    "spool_max: 2MiB\n",
		"no files":     "spool_max: off\n",
		"spool_space":  "limits: {spool_space: 2MiB}\n",
		"no directory": "",
	} {
		t.Run(name, func(t *testing.T) {
			if t.TempDir(); name == "no directory" {
				t.Setenv("TMPDIR", "/nowhere")
			}
			b := startBodies(t)
			f := start(t, "spool: true\n"+settings+oneSite(httpTo(b.address)))
			c := f.dial()
			c.send(known)
			go c.send(string(text))
			if got := c.expect(200).body; got != told(len(text), text) {
				t.Errorf("told %s", got)
			}
			c = f.dial()
			go func() {
				c.send(chunked)
				for rest := text; len(rest) > 0; rest = rest[min(len(rest), 100_000):] {
					p := rest[:min(len(rest), 100_000)]
					c.send(fmt.Sprintf("%x\r\n%s\r\n", len(p), p))
				}
				c.send("0\r\n\r\n")
			}()
			if got := c.expect(200).body; got != told(-1, text) {
				t.Errorf("told %s", got)
			}
			f.awaitNoSpools(t)
		})
	}
}

// TestUploadThatIsGivenUpLeavesNoFile, whoever gives it up, and when.
func TestUploadThatIsGivenUpLeavesNoFile(t *testing.T) {
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		if rawHead(br); rand.N(2) == 0 {
			io.CopyN(io.Discard, br, rand.Int64N(5<<20))
		}
		if rand.N(2) == 0 {
			io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
		}
	})
	f := start(t, "spool: true\n"+oneSite(httpTo(b.address)))
	text := longText(6 << 20)
	for range 30 {
		c := f.dial()
		c.send(fmt.Sprintf("POST / HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n", host, len(text)))
		if rand.N(2) == 0 {
			c.send(string(text[:rand.N(len(text))]))
			c.Close()
			continue
		}
		c.send(string(text))
		if a := c.answer(http.MethodPost); a.StatusCode != 403 && a.StatusCode != 502 {
			t.Errorf("answered %d", a.StatusCode)
		}
	}
	f.awaitNoSpools(t)
	await(t, "no connections", func() bool { c := f.server.Counts(); return c.Backends == 0 })
}

// TestManySmallSpoolsAreBounded by limits.buffer_memory: where that is used up, less than usual is written at a time.
func TestManySmallSpoolsAreBounded(t *testing.T) {
	b := startBodies(t)
	f := start(t, "spool: true\nbuffer: {request: 1KiB}\nlimits: {buffer_memory: 8MiB, max_connections_per_client: 1000}\n"+oneSite(httpTo(b.address)))
	text := longText(60 << 10)
	var clients []*client
	for i := range 250 {
		c := f.dial()
		c.send("POST / HTTP/1.1\r\n"+host+"Transfer-Encoding: chunked\r\n\r\n", fmt.Sprintf("%x\r\n%s\r\n", len(text), text))
		await(t, "the body", func() bool {
			c := f.server.Counts()
			return c.Kept+c.Spooled >= int64((i+1)*len(text)) && c.Kept <= 8<<20+64<<10
		})
		clients = append(clients, c)
	}
	for _, c := range clients {
		c.send("0\r\n\r\n")
		if got := c.expect(200).body; got != told(len(text), text) {
			t.Errorf("told %s", got)
		}
	}
	f.awaitNoSpools(t)
}

// TestStopLeavesNoTemporaryFile, not even one that is being written.
func TestStopLeavesNoTemporaryFile(t *testing.T) {
	text := longText(30 << 20)
	b := startText(t, 9, text, len(text))
	for range 10 {
		f := startTLS(t, secureSite(httpTo(b.address)))
		for range 4 {
			f.dialSecure().send(get)
		}
		await(t, "a file", func() bool { return f.server.Counts().Spooled > 0 })
		time.Sleep(rand.N(50 * time.Millisecond))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		f.stopped = true
		f.server.Shutdown(ctx)
		f.awaitNoSpools(t)
	}
}

// TestEarlyAnswerLetsTheClientSendOn: what nobody wants any more is not waited for.
func TestEarlyAnswerLetsTheClientSendOn(t *testing.T) {
	text, body := longText(24<<20), longText(40<<20)
	for name, settings := range map[string]string{"streamed": "", "spooled": "spool: true\n"} {
		t.Run(name, func(t *testing.T) {
			answer := make(chan bool)
			b := startBackend(t, func(_ *backend, conn net.Conn) {
				rawHead(bufio.NewReader(conn))
				<-answer
				fmt.Fprintf(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: %d\r\n\r\n", len(text))
				conn.Write(text)
				<-answer
			})
			f := start(t, settings+oneSite(httpTo(b.address)))
			c := f.dial()
			c.send(fmt.Sprintf("POST / HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n", host, len(body)+1))
			sent := make(chan error)
			go func() {
				_, err := c.Write(body)
				sent <- err
			}()
			if name == "spooled" {
				await(t, "the body", func() bool { return f.server.Counts().Spooled > int64(len(body)-1<<20) })
			}
			time.Sleep(300 * time.Millisecond)
			if name == "spooled" {
				c.Write([]byte("x"))
			}
			answer <- true
			await(t, "the answer", func() bool { n := f.server.Counts(); return n.Spooled > 5<<20 && n.Backends == 0 })
			close(answer)
			select {
			case err := <-sent:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(patience):
				t.Fatal("the client can't send on")
			}
			await(t, "one file", func() bool { return f.server.Counts().SpoolFiles == 1 && f.server.Counts().Backends == 0 })
			if a := c.expect(403); a.body != string(text) {
				t.Errorf("%d bytes", len(a.body))
			}
			f.awaitNoSpools(t)
		})
	}
}

// TestRefusedUpgradeToASlowClientHoldsNoSlot of max_connections.
func TestRefusedUpgradeToASlowClientHoldsNoSlot(t *testing.T) {
	text := longText(20 << 20)
	b := startText(t, 9, text, len(text))
	f := startTLS(t, fmt.Sprintf("upstreams: {one: {servers: [%q], max_connections: 1, queue: 2s}}\n", b.address)+
		secureSite(`{path: /, websocket: "ws://one"}`))
	upgrade := "GET / HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: websocket\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
	for i := range 3 {
		c := f.dialSecure()
		c.send(upgrade)
		if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 200") {
			t.Fatalf("answered %q", head)
		}
		await(t, "the answer", func() bool { n := f.server.Counts(); return n.Spooled > int64(i+1)*12<<20 && n.Backends == 0 })
	}
}
