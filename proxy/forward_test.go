package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestBackendConnectionsAreKeptAlive(t *testing.T) {
	for _, request := range []string{get, "POST / HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\nhi"} {
		b := startEcho(t)
		f := start(t, oneSite(httpTo(b.address)))
		for range 10 {
			c := f.dial()
			c.send(request, request)
			c.expect(200)
			c.expect(200)
			c.Close()
			await(t, "it to be kept", func() bool { return f.server.Counts().Idle == 1 })
		}
		if n := b.accepted(); n != 1 {
			t.Errorf("%d connections for twenty times %q one after the other", n, request)
		}
	}
}

// TestBackendConnectionIsNotReused has responses after which the connection is over or out of step.
func TestBackendConnectionIsNotReused(t *testing.T) {
	tests := []struct{ name, request, answer string }{
		{"Connection: close", get, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"},
		{"HTTP/1.0", get, "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{"GET with a body", "GET / HTTP/1.1\r\n" + host + "Content-Length: 1\r\n\r\nx", ok},
		{"early response", "POST / HTTP/1.1\r\n" + host + "Content-Length: 100\r\n\r\nhalf", "HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"},
		{"surplus", get, ok + "surplus"},
		{"204 with a length", get, "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"},
		{"204 in chunks", get, "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := startHeads(t, always(tt.answer))
			f := start(t, streaming+oneSite(httpTo(b.address)))
			c := f.dial()
			c.send(tt.request)
			c.answer("GET")
			f.server.Skip(0)
			c = f.dial()
			c.send(get)
			c.answer("GET")
			if n := b.accepted(); n != 2 {
				t.Errorf("%d connections for two requests", n)
			}
		})
	}
}

// TestStaleConnectionIsReplacedForGETOnly has a backend that closes a kept-alive connection when its second request comes.
func TestStaleConnectionIsReplacedForGETOnly(t *testing.T) {
	for method, want := range map[string]int{"GET": 200, "HEAD": 200, "POST": 502, "PATCH": 502} {
		t.Run(method, func(t *testing.T) {
			b := startBackend(t, func(b *backend, conn net.Conn) {
				br := bufio.NewReader(conn)
				rawHead(br)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
				if b.accepted() > 1 {
					io.Copy(io.Discard, br)
					return
				}
				head, _ := rawHead(br)
				b.note(head)
			})
			f := start(t, oneSite(httpTo(b.address)))
			c := f.dial()
			c.send(get)
			c.expect(200)
			c.send(method + " / HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n")
			if a := c.answer(method); a.StatusCode != want {
				t.Errorf("got %s, want %d", a.Status, want)
			}
			if n := b.accepted(); (want == 200) != (n == 2) {
				t.Errorf("%d connections", n)
			}
		})
	}
}

func TestConnectionTheBackendClosedIsNotUsed(t *testing.T) {
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		rawHead(bufio.NewReader(conn))
		io.WriteString(conn, ok)
	})
	f := start(t, oneSite(httpTo(b.address)))
	c := f.dial()
	for range 3 {
		c.send("POST / HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n")
		c.expect(200)
		await(t, "its end", func() bool { return f.server.Counts().Backends == 0 })
	}
}

func TestChunksStreamBothWays(t *testing.T) {
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		rawHead(br)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		io.Copy(conn, io.LimitReader(br, 3*6+5)) // three chunks of one byte and the last
	})
	c := start(t, oneSite(httpTo(b.address))).dial()
	c.send("POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n")
	if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 200") {
		t.Fatalf("answered %q", head)
	}
	for _, piece := range []string{"1\r\na\r\n", "1\r\nb\r\n", "1\r\nc\r\n", "0\r\n\r\n"} {
		c.send(piece)
		if got := mustRead(t, c.br, len(piece)); got != piece {
			t.Errorf("sent %q, got %q", piece, got)
		}
	}
}

// TestBodiesAreNotHeldBack has the backend send a piece and wait until the client has it.
func TestBodiesAreNotHeldBack(t *testing.T) {
	tests := []struct{ name, head, piece string }{
		{"chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n"},
		{"events", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n", "9\r\ndata: 1\n\n\r\n"},
		{"events with a length", "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 27\r\n\r\n", "data: 1\n\n"},
		{"until the connection ends", "HTTP/1.1 200 OK\r\n\r\n", "hello"},
		{"Content-Length", "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n", "hello"},
		{"long Content-Length", "HTTP/1.1 200 OK\r\nContent-Length: 1500000\r\n\r\n", "hello"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			goOn := make(chan bool, 3)
			b := startBackend(t, func(_ *backend, conn net.Conn) {
				rawHead(bufio.NewReader(conn))
				io.WriteString(conn, tt.head)
				for range 3 {
					io.WriteString(conn, tt.piece)
					if !<-goOn {
						return
					}
				}
			})
			defer close(goOn)
			c := start(t, oneSite(httpTo(b.address))).dial()
			c.send(get)
			if _, err := rawHead(c.br); err != nil {
				t.Fatalf("the head is held back: %v", err)
			}
			word := []byte(strings.Fields(tt.piece)[len(strings.Fields(tt.piece))-1])
			for i := range 3 {
				if !readPast(c.br, string(word)) {
					t.Fatalf("piece %d is held back", i+1)
				}
				goOn <- true
			}
		})
	}
}

// readPast reads until a word has come.
func readPast(br *bufio.Reader, word string) bool {
	var got strings.Builder
	for !strings.Contains(got.String(), word) {
		c, err := br.ReadByte()
		if err != nil {
			return false
		}
		got.WriteByte(c)
	}
	return true
}

func TestContinueIsSentOnlyWhenTheBodyIsWanted(t *testing.T) {
	const request = "POST / HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n"
	b := startHeads(t, always(ok))
	f := start(t, oneSite(`{path: /down, http: "http://`+closedPort(t)+`"}`, httpTo(b.address)))
	c := f.dial()
	c.send(strings.Replace(request, "/", "/down", 1))
	c.expect(502)
	c = f.dial()
	c.send(strings.Replace(request, "example.com", "nobody.example", 1))
	c.expect(404)
	echo := startEcho(t)
	c = start(t, oneSite(httpTo(echo.address))).dial()
	c.send(request)
	if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 100 ") {
		t.Fatalf("answered %q", head)
	}
	c.send("hello")
	if a := c.expect(200); a.body != "POST / hello" {
		t.Errorf("the backend got %q", a.body)
	}
	c = f.dial()
	c.send(request)
	c.head()
	await(t, "the request", func() bool { return len(b.seen()) > 0 })
	if head := b.seen()[0]; field(head, "Expect") != nil {
		t.Errorf("the backend was sent %q", head)
	}
}

// TestContinueIsSaidOnce, however often the backend says it too.
func TestContinueIsSaidOnce(t *testing.T) {
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		rawHead(br)
		io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
		io.ReadFull(br, make([]byte, len("hello")))
		io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n"+ok)
	})
	c := start(t, oneSite(httpTo(b.address))).dial()
	c.send("POST / HTTP/1.1\r\n" + host + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 100 ") {
		t.Fatalf("answered %q", head)
	}
	c.send("hello")
	c.expect(200)
}

func TestEarlyHintsArePassedOn(t *testing.T) {
	b := startHeads(t, always("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n"+
		strings.Replace(ok, "\r\n\r\n", "\r\nX-Final: 1\r\n\r\n", 1)))
	f := start(t, oneSite(httpTo(b.address)))
	c := f.dial()
	c.send(get)
	hints := c.head()
	if !strings.HasPrefix(hints, "HTTP/1.1 103 ") || len(field(hints, "Link")) != 1 || field(hints, "X-Hop") != nil {
		t.Errorf("the hints came as %q", hints)
	}
	if a := c.expect(200); a.Header.Get("Link") != "" || a.Header.Get("X-Final") != "1" || a.body != "ok" {
		t.Errorf("then %v %q", a.Header, a.body)
	}
	c = f.dial()
	c.send("GET / HTTP/1.0\r\n" + host + "\r\n")
	c.expect(200)
}

func TestTrailersArePassedOn(t *testing.T) {
	got := make(chan string, 1)
	b := startBackend(t, func(b *backend, conn net.Conn) {
		readUntilLastChunk(got)(b, conn)
	})
	c := start(t, oneSite(httpTo(b.address))).dial()
	c.send("POST / HTTP/1.1\r\n" + host + "Trailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: abc\r\n\r\n")
	c.expect(200)
	if request := <-got; !strings.HasSuffix(request, "5\r\nhello\r\n0\r\nX-Sum: abc\r\n\r\n") || len(field(request, "Trailer")) != 1 {
		t.Errorf("the backend was sent %q", request)
	}
	for _, announced := range []string{"Trailer: X-Sum\r\n", ""} {
		b := startHeads(t, always("HTTP/1.1 200 OK\r\n"+announced+"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: abc\r\n\r\n"))
		c := start(t, oneSite(httpTo(b.address))).dial()
		for range 2 {
			c.send(get)
			if a := c.expect(200); a.body != "hello" || a.Trailer.Get("X-Sum") != "abc" {
				t.Errorf("with %q announced the client got %q and trailers %v", announced, a.body, a.Trailer)
			}
		}
	}
}

func TestResponseFraming(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
	tests := []struct{ name, method, version, answer, body, has, hasNot string }{
		{"chunked to HTTP/1.0", "GET", "1.0", chunked, "ok", "", "Transfer-Encoding"},
		{"chunked to HTTP/1.1", "GET", "1.1", chunked, "ok", "", "Content-Length"},
		{"HEAD with Content-Length", "HEAD", "1.1", "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n", "", "Content-Length: 1234", "Transfer-Encoding"},
		{"HEAD without", "HEAD", "1.1", "HTTP/1.1 200 OK\r\n\r\n", "", "", "Content-Length"},
		{"HEAD in chunks", "HEAD", "1.1", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "", "", "Transfer-Encoding"},
		{"204", "GET", "1.1", "HTTP/1.1 204 No Content\r\n\r\n", "", "", "Content-Length"},
		{"204 in chunks", "GET", "1.1", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", "", "", "Transfer-Encoding"},
		{"204 with a length", "GET", "1.1", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", "", "", "Content-Length"},
		{"304", "GET", "1.1", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\n\r\n", "", "ETag: \"a\"", "Transfer-Encoding"},
		{"304 with a length", "GET", "1.1", "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", "", "", "Transfer-Encoding"},
		{"304 in chunks", "GET", "1.1", "HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n", "", "", "Transfer-Encoding"},
		{"no Content-Type", "GET", "1.1", "HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n<html>hi</html>", "<html>hi</html>", "", "Content-Type"},
		{"empty", "GET", "1.1", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", "Content-Length: 0", "Content-Type"},
		{"bare LF", "GET", "1.1", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", "ok", "Content-Length: 2", ""},
		{"folded", "GET", "1.1", "HTTP/1.1 200 OK\r\nX-Long: a\r\n\t b\r\nContent-Length: 2\r\n\r\nok", "ok", "X-Long: a b\r\n", ""},
		{"no reason", "GET", "1.1", "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", "ok", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := startHeads(t, always(tt.answer))
			c := start(t, oneSite(httpTo(b.address))).dial()
			c.send(tt.method + " / HTTP/" + tt.version + "\r\n" + host + "Connection: close\r\n\r\n")
			all := c.rest()
			head, body, _ := strings.Cut(all, "\r\n\r\n")
			if strings.Contains(head, "Transfer-Encoding: chunked") {
				body = strings.TrimSuffix(strings.TrimPrefix(body, "2\r\n"), "\r\n0\r\n\r\n")
			}
			if body != tt.body || !strings.Contains(strings.ToLower(head), strings.ToLower(tt.has)) || tt.hasNot != "" && strings.Contains(head, tt.hasNot) {
				t.Errorf("the client got %q", all)
			}
		})
	}
}

func TestUpstreamWithARefusingServerIsServedByTheOther(t *testing.T) {
	b := startEcho(t)
	f := start(t, oneSite(`{path: /, http: "http://two"}`)+"upstreams:\n  two: {servers: [\""+closedPort(t)+"\", \""+b.address+"\"]}\n")
	for range 6 {
		c := f.dial()
		c.send("POST / HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\nhi")
		c.expect(200)
	}
}

func TestUnixSocketBackend(t *testing.T) {
	path := filepath.Join(t.TempDir(), "backend.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	startBackendOn(t, l, serveEcho)
	c := start(t, oneSite(`{path: /, http: "unix:`+path+`"}`)).dial()
	for range 2 {
		c.send(get)
		if a := c.expect(200); a.body != "GET / " {
			t.Errorf("got %q", a.body)
		}
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	b := startBackend(t, serveEcho)
	c := start(t, oneSite(httpTo(b.address))).dial()
	var all strings.Builder
	for i := range 100 {
		fmt.Fprintf(&all, "GET /%d HTTP/1.1\r\n%s\r\n", i, host)
	}
	go c.send(all.String())
	for i := range 100 {
		if a, want := c.expect(200), fmt.Sprintf("GET /%d ", i); a.body != want {
			t.Fatalf("answer %d is %q", i, a.body)
		}
	}
}

func TestClientConnectionLastsAsLongAsTheClientAsks(t *testing.T) {
	b := startEcho(t)
	f := start(t, oneSite(httpTo(b.address)))
	tests := []struct {
		head  string
		stays bool
	}{
		{"GET / HTTP/1.1\r\n" + host, true},
		{"GET / HTTP/1.1\r\n" + host + "Connection: keep-alive\r\n", true},
		{"GET / HTTP/1.1\r\n" + host + "Connection: foo, Close\r\n", false},
		{"GET / HTTP/1.0\r\n" + host, false},
		{"GET / HTTP/1.0\r\n" + host + "Connection: keep-alive\r\n", true},
	}
	for _, tt := range tests {
		c := f.dial()
		c.send(tt.head, "\r\n")
		c.expect(200)
		if tt.stays {
			c.send(get)
			c.expect(200)
			continue
		}
		if rest := c.rest(); rest != "" {
			t.Errorf("%q: went on with %q", tt.head, rest)
		}
	}
}

func TestForwardedHeadersOfTrustedProxiesOnly(t *testing.T) {
	const said = "X-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: public.example\r\nX-Forwarded-Port: 443\r\nX-Real-IP: 6.6.6.6\r\n"
	for _, trusted := range []bool{false, true} {
		b := startHeads(t, always(ok))
		yaml := oneSite(both(b.address))
		want := []string{"127.0.0.1", "http", "example.com", "", "127.0.0.1"}
		if trusted {
			yaml = "trusted_proxies: [127.0.0.1]\n" + yaml
			want = []string{"203.0.113.9, 127.0.0.1", "https", "public.example", "443", "203.0.113.9"}
		}
		f := start(t, yaml)
		_, port, _ := net.SplitHostPort(f.plain)
		if !trusted {
			want[3] = port
		}
		for _, request := range []string{get, upgrade} {
			c := f.dial()
			c.send(strings.Replace(request, "\r\n\r\n", "\r\n"+said+"\r\n", 1))
			c.expect(200)
			head := b.seen()[len(b.seen())-1]
			got := slices.Concat(field(head, "X-Forwarded-For"), field(head, "X-Forwarded-Proto"), field(head, "X-Forwarded-Host"),
				field(head, "X-Forwarded-Port"), field(head, "X-Real-Ip"))
			if !slices.Equal(got, want) {
				t.Errorf("trusted %v: the backend was sent %q, want %q", trusted, got, want)
			}
		}
	}
}

// TestWhatOthersForwardIsBelievedFromTrustedProxiesOnly is of the fields that this front end does not set itself.
func TestWhatOthersForwardIsBelievedFromTrustedProxiesOnly(t *testing.T) {
	names := []string{
		"X-Forwarded-Prefix", "X-Forwarded-Server", "X-Forwarded-Ssl", "X-Forwarded-Scheme", "X-Forwarded-User", "Forwarded", "X-Original-URL", "X-Rewrite-URL",
	}
	said := ""
	for _, name := range names {
		said += name + ": by=client\r\n"
	}
	for _, trusted := range []string{"", "trusted_proxies: [127.0.0.1]\n"} {
		b := startHeads(t, answerOrSwitch)
		f := start(t, trusted+oneSite(both(b.address)))
		for i, request := range []string{get, upgrade} {
			c := f.dial()
			c.send(strings.Replace(request, "\r\n\r\n", "\r\n"+said+"\r\n", 1))
			c.head()
			for _, name := range names {
				if got := field(b.seen()[i], name); (trusted != "") != slices.Equal(got, []string{"by=client"}) || trusted == "" && got != nil {
					t.Errorf("with %q the backend was sent %s %q", trusted, name, got)
				}
			}
		}
	}
}

func TestSpoofedChainEndsAtTheFirstUntrustedHop(t *testing.T) {
	b := startHeads(t, always(ok))
	c := start(t, "trusted_proxies: [127.0.0.1, 10.0.0.0/8]\n"+oneSite(httpTo(b.address))).dial()
	c.send("GET / HTTP/1.1\r\n" + host + "X-Forwarded-For: 6.6.6.6, 203.0.113.9\r\nX-Forwarded-For: 10.1.2.3\r\n\r\n")
	c.expect(200)
	head := b.seen()[0]
	if got := field(head, "X-Real-Ip"); len(got) != 1 || got[0] != "203.0.113.9" {
		t.Errorf("X-Real-IP %q", got)
	}
	if got := field(head, "X-Forwarded-For"); len(got) != 1 || got[0] != "6.6.6.6, 203.0.113.9, 10.1.2.3, 127.0.0.1" {
		t.Errorf("X-Forwarded-For %q", got)
	}
}

// TestClientConnectionSurvivesManyBodies: the backend's answer to a body may come at the very moment the body has left.
func TestClientConnectionSurvivesManyBodies(t *testing.T) {
	b := startEcho(t)
	c := start(t, oneSite(httpTo(b.address))).dial()
	for i := range 3_000 {
		c.send("POST / HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\nhi")
		resp, err := http.ReadResponse(c.br, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i+1, err)
		}
		io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != 200 || resp.Close {
			t.Fatalf("request %d: %s, close %v", i+1, resp.Status, resp.Close)
		}
	}
}

// TestWhatConnectionListsEndsHere, in heads and in trailers of both directions, also where it says close.
func TestWhatConnectionListsEndsHere(t *testing.T) {
	for _, connection := range []string{
		"Connection: X-A\r\n", "Connection: X-A, close\r\n", "Connection: close, x-a\r\n", "Connection: close\r\nConnection: X-A\r\n",
		"Connection: X-A\r\nConnection: close\r\n", "Connection: upgrade, X-A, close\r\n",
	} {
		const message = "X-A: head\r\nX-B: head\r\nTrailer: X-A, X-B\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-A: end\r\nX-B: end\r\n\r\n"
		got := make(chan string, 1)
		b := startBackend(t, func(_ *backend, conn net.Conn) {
			br := bufio.NewReader(conn)
			head, _ := rawHead(br)
			body, _ := rawHead(br) // up to the empty line behind the trailers
			got <- head + body
			io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+connection+message)
		})
		c := start(t, oneSite(httpTo(b.address))).dial()
		c.send("POST / HTTP/1.1\r\n" + host + connection + message)
		answered := c.head()
		trailers := c.head()
		for name, all := range map[string]string{"the backend": <-got, "the client": answered + trailers} {
			if strings.Contains(strings.ToLower(all), "x-a") || strings.Count(all, "X-B: ") != 2 {
				t.Errorf("%q: %s was sent\n%s", connection, name, all)
			}
		}
	}
}
