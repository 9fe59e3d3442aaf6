package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// The tests of this file and of http2_test.go and shutdown_test.go are traps for a front end that others have fallen into.

func TestTunnelKeepsBytesThatCameWithTheHandshake(t *testing.T) {
	hello := text("hello")
	for _, early := range []string{hello[:1], hello, strings.Repeat(hello, 2000)} {
		got := make(chan string, 1)
		b := startSocket(t, func(conn net.Conn, br *bufio.Reader) {
			p := make([]byte, len(early)+len(hello))
			n, _ := io.ReadFull(br, p)
			got <- string(p[:n])
		})
		f := start(t, oneSite(socketTo(b.address)))
		c := f.dial()
		c.send(upgrade, early)
		if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
			t.Fatalf("answered %q", head)
		}
		c.send(hello)
		if p := <-got; p != early+hello {
			t.Errorf("of %d early bytes and %d later ones the backend got %d", len(early), len(hello), len(p))
		}
	}
}

// TestTunnelKeepsEarlyBytesHoweverItIsOpened: for a backend that speaks TLS, on a connection that was used before, and for
// a relay.
func TestTunnelKeepsEarlyBytesHoweverItIsOpened(t *testing.T) {
	const n = 800
	var early strings.Builder
	for i := range n {
		early.WriteString(text(fmt.Sprint("message ", i)))
	}
	backends := map[string]func(serve func(net.Conn, *bufio.Reader)) (location, before string){
		"wss": func(serve func(net.Conn, *bufio.Reader)) (string, string) {
			return `{path: /ws, websocket: {url: "wss://` + startSecureSocket(t, serve).address + `", tls_verify: false}}`, ""
		},
		"kept alive": func(serve func(net.Conn, *bufio.Reader)) (string, string) {
			return socketTo(startSocket(t, serve).address), get
		},
		"relay": func(serve func(net.Conn, *bufio.Reader)) (string, string) {
			return `{path: /ws, mode: relay, websocket: "ws://` + startSocket(t, serve).address + `"}`, ""
		},
	}
	for name, start := range backends {
		t.Run(name, func(t *testing.T) {
			got := make(chan int, 1)
			location, before := start(func(conn net.Conn, br *bufio.Reader) {
				conn.SetReadDeadline(time.Now().Add(patience))
				defer close(got)
				for i := range n {
					if _, message := frame(t, br); message != fmt.Sprint("message ", i) {
						return
					}
				}
				got <- n
			})
			f := startWith(t, plainListener+oneSite(location, httpTo(startEcho(t).address)))
			c := f.dial()
			c.send(before, upgrade, early.String())
			if before != "" {
				c.expect(200)
			}
			c.expectSwitch()
			if <-got != n {
				t.Error("the backend did not get what was sent")
			}
		})
	}
}

func TestTunnelKeepsBytesThatCameWithTheAnswer(t *testing.T) {
	for _, size := range []int{1, 100, 5000, 100_000} {
		early := serverText(strings.Repeat("x", size))
		b := startBackend(t, func(_ *backend, conn net.Conn) {
			rawHead(bufio.NewReader(conn))
			io.WriteString(conn, switching+early)
			io.Copy(io.Discard, conn)
		})
		c := start(t, oneSite(socketTo(b.address))).dial()
		c.send(upgrade)
		c.head()
		if got := mustRead(t, c.br, len(early)); got != early {
			t.Errorf("%d bytes came changed", len(early))
		}
	}
}

func TestHandshakeHeadReachesTheBackendInOneRead(t *testing.T) {
	got := make(chan string, 1)
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		p := make([]byte, 2048)
		n, _ := conn.Read(p)
		select {
		case got <- string(p[:n]):
		default: // a backend that closes without an answer is asked what it speaks
		}
	})
	c := start(t, oneSite(socketTo(b.address))).dial()
	c.send(upgrade)
	if head := <-got; !strings.HasSuffix(head, "\r\n\r\n") {
		t.Errorf("the backend's first read got %q", head)
	}
}

func TestHandshakeHeadersAreSpeltAsInTheRFCBothWays(t *testing.T) {
	answer := strings.Replace(strings.ToLower(switching[:len(switching)-2]), strings.ToLower(sampleAccept), sampleAccept, 1)
	answer = "HTTP" + answer[4:] + "sec-websocket-protocol: chat\r\nsec-websocket-extensions: x-none\r\n\r\n"
	b := startHeads(t, always(answer))
	c := start(t, oneSite(socketTo(b.address))).dial()
	c.send("GET /ws HTTP/1.1\r\nhost: example.com\r\nconnection: keep-alive\r\nCONNECTION: foo, UPGRADE\r\nupgrade: WebSocket\r\n" +
		"sec-websocket-key: " + sampleKey + "\r\nsec-websocket-version: 13\r\nsec-websocket-protocol: chat\r\nsec-websocket-extensions: x-none\r\n\r\n")
	answered := c.head()
	for _, want := range []string{
		"Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: " + sampleAccept, "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Extensions: x-none",
	} {
		if !strings.Contains(answered, "\r\n"+want+"\r\n") {
			t.Errorf("no %s in the answer %q", want, answered)
		}
	}
	head := b.seen()[0]
	for _, want := range []string{
		"Host: example.com", "Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Key: " + sampleKey,
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Extensions: x-none",
	} {
		if !strings.Contains(head, "\r\n"+want+"\r\n") {
			t.Errorf("no %s in the request %q", want, head)
		}
	}
}

func TestRefusedHandshakeKeepsTheRFCsSpelling(t *testing.T) {
	b := startHeads(t, always("HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n"))
	c := start(t, oneSite(socketTo(b.address))).dial()
	c.send(upgrade)
	if head := c.head(); !strings.Contains(head, "\r\nSec-WebSocket-Version: 13\r\n") {
		t.Errorf("answered %q", head)
	}
}

// TestIgnoredBodyNeverPoisonsTheBackendConnection has a backend that takes each body it did not expect for the next request.
func TestIgnoredBodyNeverPoisonsTheBackendConnection(t *testing.T) {
	for _, request := range []string{
		"GET / HTTP/1.1\r\n" + host + "Content-Length: 47\r\n\r\n",
		"HEAD / HTTP/1.1\r\n" + host + "Content-Length: 47\r\n\r\n",
		"OPTIONS / HTTP/1.1\r\n" + host + "Content-Length: 47\r\n\r\n",
		"DELETE / HTTP/1.1\r\n" + host + "Content-Length: 47\r\n\r\n",
		"GET / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n2f\r\n",
		"GET /ws HTTP/1.1\r\n" + host + "Connection: Upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAAA\r\nContent-Length: 47\r\n\r\n",
	} {
		b := startHeads(t, func(head string) string {
			if strings.HasPrefix(head, "GET /poison") || strings.Contains(head, "\r\nGET /poison") {
				return "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
			}
			return "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
		})
		f := start(t, oneSite(httpTo(b.address), `{path: /ws, websocket: "ws://`+b.address+`", http: "http://`+b.address+`"}`))
		c := f.dial()
		c.send(request, "GET /poison HTTP/1.1\r\nHost: example.com\r\n\r\nab\r\n0\r\n\r\n"[:47])
		if strings.Contains(request, "chunked") {
			c.send("\r\n0\r\n\r\n")
		}
		c.answer(request[:strings.IndexByte(request, ' ')])
		other := f.dial()
		other.send(get)
		if a := other.expect(200); a.body != "" {
			t.Errorf("after %q another client got %q", request, a.body)
		}
	}
}

func TestSurplusOfAResponseNeverReachesTheNextClient(t *testing.T) {
	const poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
	tests := []struct{ name, method, first string }{
		{"body of a HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 48\r\n\r\n" + poison},
		{"body of a 204", "GET", "HTTP/1.1 204 No Content\r\n\r\n" + poison},
		{"body of a 304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 48\r\n\r\n" + poison},
		{"above Content-Length", "GET", ok + poison},
		{"after the last chunk", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + poison},
		{"above Content-Length, later", "GET", ok + "PAUSE" + poison},
		{"two responses", "POST", ok + poison},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			answered := make(chan bool)
			b := startBackend(t, func(b *backend, conn net.Conn) {
				br := bufio.NewReader(conn)
				for {
					if _, err := rawHead(br); err != nil {
						return
					}
					answer := ok
					if b.note("request"); len(b.seen()) == 1 {
						answer = tt.first
					}
					now, later, _ := strings.Cut(answer, "PAUSE")
					io.WriteString(conn, now)
					if later != "" {
						pass(answered)
						io.WriteString(conn, later)
						answered <- true
					}
				}
			})
			f := start(t, oneSite(httpTo(b.address)))
			c := f.dial()
			c.send(tt.method + " / HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n")
			c.answer(tt.method)
			if strings.Contains(tt.first, "PAUSE") {
				answered <- true
				pass(answered)
			}
			f.server.Skip(0)
			for range 3 {
				c.send(get)
				if a := c.expect(200); a.body != "ok" {
					t.Errorf("another exchange was answered with %q", a.body)
				}
			}
		})
	}
}

func TestRefusedUpgradeNeverReusesTheBackendConnection(t *testing.T) {
	b := startHeads(t, always(ok))
	f := start(t, oneSite(`{path: /, websocket: "ws://`+b.address+`", http: "http://`+b.address+`"}`))
	c := f.dial()
	c.send(upgrade, text("GET /smuggled HTTP/1.1"), smuggled)
	if a := c.expect(200); a.Header.Get("Sec-WebSocket-Accept") != "" {
		t.Errorf("headers %v", a.Header)
	}
	if rest := c.rest(); rest != "" {
		t.Errorf("what came behind a refused upgrade was answered with %q", rest)
	}
	other := f.dial()
	other.send(get)
	other.expect(200)
	if b.accepted() != 2 || len(b.seen()) != 2 {
		t.Errorf("%d connections for requests %q", b.accepted(), b.seen())
	}
}

func TestUpgradesThatAreNotWebSocketAreDropped(t *testing.T) {
	b := startHeads(t, always("HTTP/1.1 200 OK\r\nUpgrade: h2,h2c\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nok"))
	c := start(t, oneSite(httpTo(b.address))).dial()
	for _, upgrade := range []string{"h2c", "TLS/1.2", "foo", "websocket/13", "h2\r\nUpgrade: c", "foo\r\nUpgrade: h2c"} {
		c.send("GET / HTTP/1.1\r\n" + host + "Connection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAAA\r\nUpgrade: " + upgrade + "\r\n\r\n")
		if a := c.expect(200); a.Header.Get("Upgrade") != "" {
			t.Errorf("the client was offered %q", a.Header.Get("Upgrade"))
		}
		heads := b.seen()
		head := heads[len(heads)-1]
		if slices.Concat(field(head, "Upgrade"), field(head, "HTTP2-Settings"), field(head, "Connection")) != nil {
			t.Errorf("the backend was sent %q", head)
		}
	}
}

// TestUpgradeThatIsNotAskedForIsDropped has the Upgrade header, but not the token in Connection, or the other way round.
func TestUpgradeThatIsNotAskedForIsDropped(t *testing.T) {
	b := startHeads(t, always(ok))
	c := start(t, oneSite(both(b.address))).dial()
	for _, half := range []string{"Upgrade: websocket\r\n", "Connection: Upgrade\r\n", "Upgrade: websocket\r\nConnection: X-Other\r\n"} {
		for range 2 {
			c.send("GET /ws HTTP/1.1\r\n" + host + half + "\r\n")
			c.expect(200)
			heads := b.seen()
			if head := heads[len(heads)-1]; field(head, "Upgrade") != nil || field(head, "Connection") != nil {
				t.Errorf("with %q the backend was sent %q", half, head)
			}
		}
	}
}

// TestOnlyWebSocketIsAskedFor of all that a client offers, be it in one line or in several.
func TestOnlyWebSocketIsAskedFor(t *testing.T) {
	for _, offer := range []string{"h2c, websocket", "websocket\r\nUpgrade: h2c", "h2c\r\nUpgrade: websocket"} {
		b := startHeads(t, always(ok))
		c := start(t, oneSite(socketTo(b.address))).dial()
		c.send(strings.Replace(upgrade, "Upgrade: websocket\r\nConnection: Upgrade",
			"Upgrade: "+offer+"\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAAA", 1))
		c.expect(200)
		head := b.seen()[0]
		if got := field(head, "Upgrade"); len(got) != 1 || got[0] != "websocket" || field(head, "HTTP2-Settings") != nil {
			t.Errorf("for %q the backend was sent %q", offer, head)
		}
	}
}

func TestUpgradeOnHTTP10IsPlainHTTP(t *testing.T) {
	b := startHeads(t, always(ok))
	f := start(t, oneSite(`{path: /ws, websocket: "ws://`+b.address+`", http: "http://`+b.address+`"}`, `{path: /only, websocket: "ws://`+b.address+`"}`))
	c := f.dial()
	c.send(strings.Replace(upgrade, "HTTP/1.1", "HTTP/1.0", 1))
	c.expect(200)
	if head := b.seen()[0]; field(head, "Upgrade") != nil {
		t.Errorf("the backend was sent %q", head)
	}
	c = f.dial()
	c.send(strings.NewReplacer("HTTP/1.1", "HTTP/1.0", "/ws", "/only").Replace(upgrade))
	if a := c.expect(426); a.Header.Get("Upgrade") != "websocket" {
		t.Errorf("headers %v", a.Header)
	}
}

func TestConnectAndTraceAreRefused(t *testing.T) {
	b := startEcho(t)
	f := start(t, oneSite(httpTo(b.address)))
	for request, status := range map[string]int{
		"CONNECT example.com:443 HTTP/1.1\r\n" + host + "\r\n":                           405,
		"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n":              405,
		"CONNECT / HTTP/1.1\r\n" + host + "\r\n":                                         405,
		"CONNECT example.com:443 HTTP/1.1\r\n" + host + "Content-Length: 5\r\n\r\nhello": 405,
		"TRACE / HTTP/1.1\r\n" + host + "\r\n":                                           405,
	} {
		c := dial(t, f.plain)
		c.send(request)
		if a := c.answer("GET"); a.StatusCode != status || (a.Header.Get("Allow") != "") != (status == 405) {
			t.Errorf("%q: %s, Allow: %s; want %d", request, a.Status, a.Header.Get("Allow"), status)
		}
	}
	if seen := b.seen(); len(seen) > 0 {
		t.Errorf("the backend saw %q", seen)
	}
}

func TestStarIsForOptionsOnly(t *testing.T) {
	b := startEcho(t)
	f := start(t, oneSite(httpTo(b.address)))
	c := f.dial()
	c.send("OPTIONS * HTTP/1.1\r\n" + host + "\r\n")
	c.expect(200)
	for _, method := range []string{"GET", "HEAD", "POST"} {
		c = f.dial()
		c.send(method + " * HTTP/1.1\r\n" + host + "\r\n")
		if a := c.answer(method); a.StatusCode != 400 {
			t.Errorf("%s *: %s", method, a.Status)
		}
	}
}
