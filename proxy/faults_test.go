package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// closedPort is an address that refuses connections: of an IP address at which nobody else takes a port meanwhile.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.6:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// both is a location with socket and pages on one backend.
func both(address string) string {
	return `{path: /, websocket: "ws://` + address + `", http: "http://` + address + `"}`
}

func TestRefusingBackendIs502(t *testing.T) {
	f := start(t, oneSite(both(closedPort(t))))
	for _, request := range []string{get, upgrade} {
		c := f.dial()
		c.send(request)
		c.expect(502)
	}
	if !strings.Contains(f.log.String(), "connection refused") {
		t.Error("no reason in the log")
	}
}

func TestSilentBackendIs504(t *testing.T) {
	silence := make(chan bool)
	defer close(silence)
	b := startHeld(t, silence)
	f := start(t, oneSite(both(b.address)))
	for i, tt := range []struct {
		request string
		limit   time.Duration
	}{{get, time.Minute}, {upgrade, 10 * time.Second}, {"POST / HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\nhi", time.Minute}} {
		c := f.dial()
		c.send(tt.request)
		b.awaitRequests(t, i+1)
		c.waits(f, tt.limit-5*time.Second)
		f.server.Skip(5 * time.Second)
		c.expect(504)
	}
}

// TestBrokenBackendIs502 has backends that answer a page and a handshake alike with something that is no answer.
func TestBrokenBackendIs502(t *testing.T) {
	const tooLong, noHTTP = "the response head is above 131072 bytes", "which is no status line of HTTP/1"
	tests := []struct{ name, answer, logged string }{
		{"nothing", "", "EOF"},
		{"half a status line", "HTTP/1.", "after 7 bytes of the response head: unexpected EOF"},
		{"half a head", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", "after 36 bytes of the response head: unexpected EOF"},
		{"a megabyte of head", "HTTP/1.1 200 OK\r\n" + strings.Repeat("X-Long: "+strings.Repeat("a", 1000)+"\r\n", 1000) + "\r\n", tooLong},
		{"one header of a megabyte", "HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("a", 1<<20) + "\r\n\r\n", tooLong},
		{"a megabyte without a line", strings.Repeat("a", 1<<20), noHTTP},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := startBackend(t, func(_ *backend, conn net.Conn) {
				rawHead(bufio.NewReader(conn))
				io.WriteString(conn, tt.answer)
			})
			f := start(t, oneSite(both(b.address)))
			for _, request := range []string{get, upgrade} {
				c := f.dial()
				c.send(request)
				if tt.answer == "" && request == get { // it is asked whether it speaks FastCGI
					await(t, "the question", func() bool { return b.accepted() == 2 })
					c.waits(f, 500*time.Millisecond)
					f.server.Skip(500 * time.Millisecond)
				}
				c.expect(502)
			}
			if log := f.log.String(); strings.Count(log, `"error":`) != 2 || strings.Count(log, tt.logged+`"}`) != 2 {
				t.Error("no reason in the log")
			}
		})
	}
}

// TestBackendThatSpeaksNoHTTPIs502AtOnce: its connections stay open, and the rest of a head never comes.
func TestBackendThatSpeaksNoHTTPIs502AtOnce(t *testing.T) {
	for _, begin := range []string{"foo\r\n", "f", "\r\n", "\x15\x03\x01", "\x00", "HTTP/2 200 OK\r\n", "HTTP/1.x", "HTTP/1.1 OK\r\n", "HTTP 200 OK\r\n"} {
		serve := func(_ *backend, conn net.Conn) {
			br := bufio.NewReader(conn)
			rawHead(br)
			io.WriteString(conn, begin)
			io.Copy(io.Discard, br)
		}
		secure := strings.Replace(both(startSecureBackend(t, serve).address), "/,", "/secure, tls_verify: false,", 1)
		secure = strings.NewReplacer("ws:", "wss:", "http:/", "https:/").Replace(secure)
		f := start(t, oneSite(both(startBackend(t, serve).address), secure))
		for _, request := range []string{get, upgrade} {
			for _, path := range []string{" /ws ", " /secure "} {
				started := time.Now()
				c := f.dial()
				c.send(strings.NewReplacer(" / ", path, " /ws ", path).Replace(request))
				c.expect(502)
				if took := time.Since(started); took > 2*time.Second {
					t.Errorf("%q to%sis waited for %v", begin, path, took)
				}
			}
		}
		if n := strings.Count(f.log.String(), "no status line"); n != 4 {
			t.Errorf("%d of 4 lines of the log say why", n)
		}
	}
}

func TestWrong101Is502WithTheReasonInTheLog(t *testing.T) {
	const upgraded = "HTTP/1.1 101 Switching Protocols\r\n"
	tests := []struct{ name, answer, logged string }{
		{"wrong accept", strings.Replace(switching, sampleAccept, "AAAAAAAAAAAAAAAAAAAAAAAAAAA=", 1), "Sec-WebSocket-Accept"},
		{"no accept", upgraded + "Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "Sec-WebSocket-Accept"},
		{"two accepts", strings.Replace(switching, "\r\n\r\n", "\r\nSec-WebSocket-Accept: "+sampleAccept+"\r\n\r\n", 1), "Sec-WebSocket-Accept"},
		{"no Upgrade", upgraded + "Connection: Upgrade\r\nSec-WebSocket-Accept: " + sampleAccept + "\r\n\r\n", "Upgrade"},
		{"Upgrade: h2c", strings.Replace(switching, "websocket", "h2c", 1), "h2c"},
		{"no Connection", upgraded + "Upgrade: websocket\r\nSec-WebSocket-Accept: " + sampleAccept + "\r\n\r\n", "Connection"},
		{"nothing at all", upgraded + "\r\n", "Upgrade"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := startHeads(t, always(tt.answer))
			f := start(t, oneSite(socketTo(b.address)))
			c := f.dial()
			c.send(upgrade)
			c.expect(502)
			if !strings.Contains(f.log.String(), tt.logged) {
				t.Error("the reason is not in the log")
			}
			if f.server.TunnelCount() != 0 {
				t.Error("a tunnel was opened")
			}
		})
	}
}

func TestRefusalOfAHandshakeIsPassedOn(t *testing.T) {
	for _, status := range []string{"200 OK", "302 Found", "401 Unauthorized", "403 Forbidden", "404 Not Found", "426 Upgrade Required", "503 Service Unavailable"} {
		b := startHeads(t, always("HTTP/1.1 "+status+"\r\nLocation: https://login.example/?a=b\r\nWWW-Authenticate: Basic\r\n"+
			"X-Own: 1\r\nContent-Type: text/x-own\r\nContent-Length: 7\r\n\r\nbecause"))
		f := start(t, oneSite(socketTo(b.address)))
		c := f.dial()
		c.send(upgrade)
		a := c.answer("GET")
		h := a.Header
		if !strings.HasSuffix(a.Status, status) || a.body != "because" || h.Get("Location") != "https://login.example/?a=b" ||
			h.Get("WWW-Authenticate") != "Basic" || h.Get("X-Own") != "1" || h.Get("Content-Type") != "text/x-own" {
			t.Errorf("%s was passed on as %s %v %q", status, a.Status, a.Header, a.body)
		}
		c.rest()
	}
}

func TestChunkedRefusalOfAHandshakeIsPassedOn(t *testing.T) {
	b := startHeads(t, always("HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nbecause\r\n0\r\n\r\n"))
	c := start(t, oneSite(socketTo(b.address))).dial()
	c.send(upgrade)
	if a := c.expect(403); a.body != "because" || a.err != nil {
		t.Errorf("the body is %q, %v", a.body, a.err)
	}
}

func TestHandshakeWithAnExpectationIsNotPassedOn(t *testing.T) {
	b := startEchoSocket(t)
	c := start(t, oneSite(socketTo(b.address))).dial()
	c.send(strings.Replace(upgrade, host, host+"Expect: a miracle\r\n", 1))
	c.expect(417)
	if b.accepted() != 0 {
		t.Error("the backend was asked")
	}
}

// TestBodyThatBreaksOffNeverLooksWhole has a backend that closes in the middle of a body.
func TestBodyThatBreaksOffNeverLooksWhole(t *testing.T) {
	tests := []struct{ name, answer string }{
		{"Content-Length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"},
		{"long Content-Length", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 500_000)},
		{"no byte of Content-Length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"},
		{"chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhello"},
		{"between chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"},
		{"no chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"before the trailers' end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n"},
		{"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n0\r\n\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := startBackend(t, func(_ *backend, conn net.Conn) {
				rawHead(bufio.NewReader(conn))
				io.WriteString(conn, tt.answer)
			})
			f := start(t, oneSite(httpTo(b.address)))
			c := f.dial()
			c.send(get)
			resp, err := http.ReadResponse(c.br, nil)
			switch {
			case tt.name == "bad chunk": // nothing of it had left
				if err == nil {
					t.Errorf("answered %s", resp.Status)
				}
			case err != nil || resp.StatusCode != 200:
				t.Errorf("answered %v, %v", resp, err)
			default:
				if body, err := io.ReadAll(resp.Body); err == nil {
					t.Errorf("%d bytes and a clean end", len(body))
				}
			}
			c.rest()
			await(t, "a line in the log", func() bool { return strings.Contains(f.log.String(), `"error":`) })
		})
	}
}

// TestResetIsNoEndOfABody: of one that ends with its connection, a reset is no more an end than anything else.
func TestResetIsNoEndOfABody(t *testing.T) {
	taken := make(chan bool)
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		rawHead(bufio.NewReader(conn))
		io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\nhello")
		pass(taken)
		conn.(*net.TCPConn).SetLinger(0)
	})
	f := startTLS(t, secureSite(httpTo(b.address)))
	for _, version := range []string{"1.0", "1.1"} {
		for _, c := range []*client{f.dial(), f.dialSecure()} {
			c.send("GET / HTTP/" + version + "\r\n" + host + "\r\n")
			resp, err := http.ReadResponse(c.br, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.ReadFull(resp.Body, make([]byte, len("hello")))
			taken <- true
			if rest, err := io.ReadAll(resp.Body); err == nil {
				t.Errorf("HTTP/%s: %q and a clean end", version, rest)
			}
		}
	}
	c, _ := f.dialH2()
	c.request(1, getPath("/")...)
	for {
		if _, ok := c.next().(*http2.DataFrame); ok {
			break
		}
	}
	taken <- true
	if got := c.whole(1); got != "INTERNAL_ERROR" {
		t.Errorf("HTTP/2: %s", got)
	}
}

// TestBodyThatBreaksOffForAnHTTP10Client can only be told by a reset: its end is the connection's.
func TestBodyThatBreaksOffForAnHTTP10Client(t *testing.T) {
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		rawHead(bufio.NewReader(conn))
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	})
	f := startTLS(t, secureSite(httpTo(b.address)))
	for _, c := range []*client{f.dial(), f.dialSecure()} {
		c.send("GET / HTTP/1.0\r\n" + host + "\r\n")
		if all, err := io.ReadAll(c.br); err == nil {
			t.Errorf("%q and a clean end", all)
		}
	}
}

func TestHalfAHeadIsNotWaitedForForever(t *testing.T) {
	b := startEcho(t)
	f := start(t, oneSite(httpTo(b.address)))
	for _, begin := range []string{"", "G", "GET / HTTP/1.1\r\nHost: exam", "GET / HTTP/1.1\r\n" + host + "X: y\r\n", get + "GET /2 HTTP/1.1\r\n"} {
		c := f.dial()
		c.send(begin)
		if strings.HasPrefix(begin, get) {
			c.expect(200)
		}
		c.waits(f, 8*time.Second)
		f.server.Skip(2 * time.Second)
		if rest := c.rest(); rest != "" {
			t.Errorf("%q was answered %q", begin, rest)
		}
	}
}

// TestUnwantedBodyIsNotWaitedForForever is answered without a look at the body, which never ends.
func TestUnwantedBodyIsNotWaitedForForever(t *testing.T) {
	f := start(t, oneSite(`{path: /, static: "`+t.TempDir()+`"}`))
	for _, framing := range []string{"Content-Length: 10\r\n\r\nhalf", "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"} {
		c := f.dial()
		c.send("POST / HTTP/1.1\r\n" + host + framing)
		c.expect(405)
		if rest := c.rest(); rest != "" {
			t.Errorf("%q: then came %q", framing, rest)
		}
		f.server.Skip(4 * time.Second)
		if n := f.server.Counts().Clients; n != 1 {
			t.Errorf("%q: %d clients, though a body may still come", framing, n)
		}
		f.server.Skip(time.Second)
		await(t, "the connection's end", func() bool { return f.server.Counts().Clients == 0 })
	}
}

func TestHeadThatIsTooLongIs431(t *testing.T) {
	b := startEcho(t)
	f := start(t, oneSite(both(b.address)))
	for _, size := range []int{64<<10 + 1, 66 << 10, 100 << 10, 1 << 20} {
		for _, head := range []string{
			"GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("a", size) + "\r\n\r\n",
			"GET / HTTP/1.1\r\n" + host + strings.Repeat("X: a\r\n", size/6) + "\r\n",
			"GET /" + strings.Repeat("a", size) + " HTTP/1.1\r\n" + host + "\r\n",
			strings.Replace(upgrade, host, host+"X: "+strings.Repeat("a", size)+"\r\n", 1),
		} {
			c := dial(t, f.plain)
			go c.send(head)
			c.expect(431)
		}
	}
	if len(b.seen()) > 0 {
		t.Error("the backend saw one")
	}
	c := f.dial()
	c.send("GET / HTTP/1.1\r\n" + host + "X: " + strings.Repeat("a", 60<<10) + "\r\n\r\n")
	c.expect(200)
}

// TestClientThatIsStillSendingGetsItsAnswer: a reset would overtake it.
func TestClientThatIsStillSendingGetsItsAnswer(t *testing.T) {
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		rawHead(bufio.NewReader(conn))
		io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
	})
	f := startTLS(t, secureSite(`{path: /static/, static: "`+t.TempDir()+`"}`, socketTo(b.address), httpTo(b.address)))
	const length = "Content-Length: 30000000\r\n\r\n"
	for name, c := range map[string]struct {
		head   string
		status int
	}{
		"own refusal":       {"POST /static/x HTTP/1.1\r\n" + host + length, 405},
		"no handshake":      {"POST /ws HTTP/1.1\r\n" + host + length, 426},
		"bad path":          {"POST /../x HTTP/1.1\r\n" + host + length, 400},
		"bad head":          {"POST / HTTP/1.1\r\n" + host + "A B: c\r\n" + length, 400},
		"chunks":            {"POST /static/x HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\nffffff\r\n", 405},
		"backend's refusal": {"POST / HTTP/1.1\r\n" + host + length, 413},
	} {
		for _, client := range []*client{f.dial(), f.dialSecure()} {
			t.Run(name, func(t *testing.T) {
				client.send(c.head)
				piece := make([]byte, 100_000)
				for i := range 20 {
					if _, err := client.Write(piece); err != nil {
						t.Fatalf("piece %d: %v", i, err)
					}
					time.Sleep(5 * time.Millisecond)
				}
				client.expect(c.status)
				client.rest()
				client.Close()
			})
		}
	}
	await(t, "the end of all connections", func() bool { return f.server.Counts().Clients == 0 })
}

func TestClientThatLeavesEndsTheBackendsPart(t *testing.T) {
	for _, request := range []string{get, upgrade, "POST / HTTP/1.1\r\n" + host + "Content-Length: 100\r\n\r\nhalf"} {
		asked, ended := make(chan bool, 1), make(chan bool, 1)
		b := startBackend(t, func(_ *backend, conn net.Conn) {
			br := bufio.NewReader(conn)
			rawHead(br)
			asked <- true
			io.Copy(io.Discard, br)
			ended <- true
		})
		f := start(t, streaming+oneSite(both(b.address)))
		c := f.dial()
		c.send(request)
		<-asked
		c.Close()
		select {
		case <-ended:
		case <-time.After(3 * time.Second):
			t.Errorf("the backend is still at %q", request)
		}
		await(t, "the line in the log", func() bool { return strings.Contains(f.log.String(), `"status":499`) })
	}
}

// TestHalfClosedClientIsTakenForGone: it is answered nothing, rather than half of something.
func TestHalfClosedClientIsTakenForGone(t *testing.T) {
	release := make(chan bool, 1)
	b := startHeld(t, release)
	f := start(t, oneSite(httpTo(b.address)))
	c := f.dial()
	c.send(get)
	b.awaitRequests(t, 1)
	c.Conn.(*net.TCPConn).CloseWrite()
	if rest := c.rest(); rest != "" {
		t.Errorf("got %q", rest)
	}
	release <- true
	await(t, "the line in the log", func() bool { return strings.Contains(f.log.String(), `"status":499`) })
}

// TestHalfClosedEarlyClientStillGetsItsTunnel sends all it has to say with its handshake.
func TestHalfClosedEarlyClientStillGetsItsTunnel(t *testing.T) {
	release := make(chan bool)
	b := startBackend(t, func(b *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		head, _ := rawHead(br)
		b.note(head)
		pass(release)
		io.WriteString(conn, switching)
		io.Copy(io.Discard, br)
		io.WriteString(conn, serverText("bye"))
	})
	pages := startEcho(t)
	f := start(t, oneSite(socketTo(b.address), httpTo(pages.address)))
	for i, before := range []string{"", get} {
		c := f.dial()
		if c.send(before); before != "" {
			c.expect(200)
		}
		c.send(upgrade, text("hello"))
		c.Conn.(*net.TCPConn).CloseWrite()
		b.awaitRequests(t, i+1)
		c.waits(f, 0)
		release <- true
		if all := c.rest(); !strings.HasPrefix(all, "HTTP/1.1 101 ") || !strings.HasSuffix(all, serverText("bye")) {
			t.Errorf("after %q: got %q", before, all)
		}
	}
}

// TestClientsThatLeaveAtOnceEndTheBackendsPart: they go at the moment that their request has reached the backend.
func TestClientsThatLeaveAtOnceEndTheBackendsPart(t *testing.T) {
	asked, ended := make(chan bool, 1), make(chan bool, 1)
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		rawHead(br)
		asked <- true
		io.Copy(io.Discard, br)
		ended <- true
	})
	f := start(t, oneSite(both(b.address)))
	for i := range 500 {
		c := f.dial()
		c.send([]string{get, upgrade}[i%2])
		<-asked
		c.Close()
		select {
		case <-ended:
		case <-time.After(3 * time.Second):
			t.Fatalf("after %d clients that left, the backend is kept busy", i+1)
		}
	}
}

// TestTimeForTheResponseHeadDoesNotBoundTheBody has a response that began before the request's end and pauses after it.
func TestTimeForTheResponseHeadDoesNotBoundTheBody(t *testing.T) {
	release := make(chan bool)
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		rawHead(br)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
		io.ReadFull(br, make([]byte, len("2\r\nhi\r\n0\r\n\r\n")))
		pass(release)
		io.WriteString(conn, "world")
	})
	f := start(t, "timeouts: {response_head: 20s}\n"+streaming+oneSite(httpTo(b.address)))
	c := f.dial()
	c.send("POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
	head := c.head()
	c.send("0\r\n\r\n")
	if got := mustRead(t, c.br, 5); got != "hello" {
		t.Errorf("after %q came %q", head, got)
	}
	c.waits(f, 50*time.Second)
	close(release)
	if got := mustRead(t, c.br, 5); got != "world" {
		t.Errorf("after %q came %q", head, got)
	}
}
