package proxy_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestHostsNoSiteHasAreRefused has a site that answers everything, so that only the check of the name is left.
func TestHostsNoSiteHasAreRefused(t *testing.T) {
	b := startEcho(t)
	f := start(t, strings.Replace(oneSite(httpTo(b.address)), "[example.com]", "[_]", 1))
	for _, hosts := range []string{
		"Host: localhost:-1\r\n", "Host: localhost:+1\r\n", "Host: localhost:0\r\n", "Host: localhost:65536\r\n", "Host: localhost:80a\r\n",
		"Host: localhost:80:80\r\n", "Host: a,b\r\n", "Host: a b\r\n", "Host: [::1\r\n", "Host: ::1\r\n", "Host: [::1]x\r\n", "Host: [1.2.3.4]\r\n",
		"Host: [fe80::1%25eth0]\r\n", "Host: a%0d%0ab\r\n", "Host: evil@x\r\n", "Host: a/b\r\n", "Host: a?b\r\n", "Host: a#b\r\n", "Host: a\\b\r\n",
		"Host: a\"b\r\n", "Host: <a>\r\n", "Host: a..b\r\n", "Host: .a\r\n", "Host: http://a\r\n", "Host: :80\r\n", "Host: a\x00\r\n",
		"Host: " + strings.Repeat("a", 300) + "\r\n", "Host: a\r\nHost: a\r\n", "Host: a\r\nhost: b\r\n", "",
	} {
		c := dial(t, f.plain)
		c.send("GET / HTTP/1.1\r\n", hosts, "\r\n")
		if a := c.answer("GET"); a.StatusCode != 400 {
			t.Errorf("%q: %s", hosts, a.Status)
		}
	}
	if seen := b.seen(); len(seen) > 0 {
		t.Errorf("the backend saw %q", seen)
	}
}

func TestHostsAreMatchedInAnyCase(t *testing.T) {
	var sites strings.Builder
	b := startEcho(t)
	for i := range 300 {
		fmt.Fprintf(&sites, "  - {hosts: [site%d.example], locations: [%s]}\n", i, httpTo(b.address))
	}
	f := start(t, "sites:\n"+sites.String())
	c := f.dial()
	for _, host := range []string{"site7.example", "SITE7.EXAMPLE", "Site7.example:80", "siTE299.exAMPle.", "site0.EXAMPLE.:8080"} {
		c.send("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
		c.expect(200)
	}
	for _, host := range []string{"site300.example", "example", "a.site7.example"} {
		c.send("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
		c.expect(404)
	}
	c.send("GET / HTTP/1.0\r\n\r\n") // legal, and no site's
	c.expect(404)
}

func TestHeadersThatTurnIntoOthersInCGIAreDropped(t *testing.T) {
	b := startHeads(t, always(ok))
	f := start(t, oneSite(`{path: /, websocket: "ws://`+b.address+`", http: "http://`+b.address+`"}`))
	for _, request := range []string{get, upgrade} {
		c := dial(t, f.plain)
		c.send(strings.Replace(request, "\r\n\r\n", "\r\nX_Forwarded_For: 6.6.6.6\r\nx_real-ip: 6.6.6.6\r\nContent_Length: 7\r\nX.Forwarded.For: 6.6.6.6\r\nProxy: http://evil\r\nX-Kept: 1\r\n\r\n", 1))
		c.expect(200)
		head := b.seen()[len(b.seen())-1]
		if strings.Contains(afterFirstLine(head), "_") || field(head, "X.Forwarded.For") != nil || field(head, "Proxy") != nil || field(head, "X-Kept") == nil {
			t.Errorf("the backend was sent %q", head)
		}
	}
}

func TestTrailersCannotBringWhatHeadersMayNot(t *testing.T) {
	got := make(chan string, 1)
	b := startBackend(t, readUntilLastChunk(got))
	f := start(t, oneSite(httpTo(b.address)))
	c := f.dial()
	c.send("POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\nTrailer: X-Kept\r\n\r\n5\r\nhello\r\n0\r\n" +
		"X-Kept: 1\r\nX-Forwarded-For: 6.6.6.6\r\nX_Forwarded_For: 6.6.6.6\r\nProxy: http://evil\r\nContent-Length: 7\r\nHost: evil\r\n" +
		"Authorization: Basic Og==\r\nCookie: a=b\r\nContent-Type: a/b\r\nIf-Match: *\r\n\r\n")
	c.expect(200)
	_, trailers, _ := strings.Cut(<-got, "\r\n0\r\n")
	for _, name := range []string{
		"X-Forwarded-For", "X_Forwarded_For", "Proxy", "Content-Length", "Host", "Authorization", "Cookie", "Content-Type", "If-Match",
	} {
		if strings.Contains(trailers, "\n"+name+":") || strings.HasPrefix(trailers, name+":") {
			t.Errorf("the backend was sent the trailer %s: %q", name, trailers)
		}
	}
}

func TestConnectionRemovesWhatItLists(t *testing.T) {
	b := startHeads(t, always(ok))
	f := start(t, oneSite(`{path: /, websocket: "ws://`+b.address+`", http: "http://`+b.address+`"}`))
	for _, request := range []string{get, upgrade} {
		c := dial(t, f.plain)
		c.send(strings.Replace(request, "\r\n\r\n", "\r\nConnection: X-One ,, x-TWO\r\nConnection: X-Three\r\nX-One: 1\r\nX-Two: 2\r\nX-Three: 3\r\nX-Kept: 4\r\n\r\n", 1))
		c.expect(200)
		head := b.seen()[len(b.seen())-1]
		if field(head, "X-One") != nil || field(head, "X-Two") != nil || field(head, "X-Three") != nil || field(head, "X-Kept") == nil {
			t.Errorf("the backend was sent %q", head)
		}
	}
}

func TestConnectionCannotRemoveWhatTheFrontEndNeeds(t *testing.T) {
	b := startEcho(t)
	socket := startHeads(t, always(switching))
	f := start(t, "trusted_proxies: [127.0.0.0/8]\n"+oneSite(httpTo(b.address), socketTo(socket.address)))
	list := "Connection: Host, Content-Length, Transfer-Encoding, X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, X-Real-IP, " +
		"Sec-WebSocket-Key, Sec-WebSocket-Version\r\nX-Forwarded-For: 203.0.113.9\r\n"
	c := f.dial()
	c.send("POST /a HTTP/1.1\r\n" + host + list + "Content-Length: 5\r\n\r\nhello")
	if a := c.expect(200); a.body != "POST /a hello" {
		t.Errorf("the backend got %q", a.body)
	}
	c.send("POST /b HTTP/1.1\r\n" + host + list + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
	if a := c.expect(200); a.body != "POST /b hello" {
		t.Errorf("the backend got %q", a.body)
	}
	c.send(strings.Replace(upgrade, "\r\n\r\n", "\r\n"+list+"\r\n", 1))
	c.head()
	head := socket.seen()[0]
	for name, want := range map[string]string{
		"Host": "example.com", "X-Forwarded-For": "203.0.113.9, 127.0.0.1", "X-Forwarded-Host": "example.com", "X-Forwarded-Proto": "http",
		"X-Real-IP": "203.0.113.9", "Sec-WebSocket-Key": sampleKey, "Sec-WebSocket-Version": "13",
	} {
		if got := field(head, name); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestConnectionListOfTheAnswerAppliesToThe101Too(t *testing.T) {
	const listed = "Connection: X-Internal, Sec-WebSocket-Accept, Sec-WebSocket-Protocol\r\nKeep-Alive: 5\r\nX-Internal: 1\r\nX-Kept: 2\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
	for _, answer := range []string{strings.TrimSuffix(switching, "\r\n") + listed, strings.Replace(ok, "\r\n\r\n", "\r\n"+listed, 1)} {
		b := startHeads(t, always(answer))
		c := start(t, oneSite(socketTo(b.address))).dial()
		c.send(strings.Replace(upgrade, "\r\n\r\n", "\r\nSec-WebSocket-Protocol: chat\r\n\r\n", 1))
		head := c.head()
		if field(head, "X-Internal") != nil || field(head, "Keep-Alive") != nil || field(head, "X-Kept") == nil {
			t.Errorf("answered %q", head)
		}
		if strings.HasPrefix(head, "HTTP/1.1 101") && field(head, "Sec-WebSocket-Accept") == nil {
			t.Errorf("a 101 without its Sec-WebSocket-Accept: %q", head)
		}
	}
}

func TestBackendHeadsNobodyCheckedAre502(t *testing.T) {
	tests := []struct{ name, answer string }{
		{"bare CR in a value", "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 0\r\n\r\n"},
		{"NUL in a value", "HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n"},
		{"DEL in a value", "HTTP/1.1 200 OK\r\nX: a\x7fb\r\nContent-Length: 0\r\n\r\n"},
		{"NUL in the status line", "HTTP/1.1 200 O\x00K\r\nContent-Length: 0\r\n\r\n"},
		{"CR in the status line", "HTTP/1.1 200 O\rK\r\nContent-Length: 0\r\n\r\n"},
		{"two Content-Lengths", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\n"},
		{"Content-Length and Transfer-Encoding", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"two Transfer-Encodings", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
		{"an unknown Transfer-Encoding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n"},
		{"Content-Length with a sign", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"},
		{"Content-Length of two numbers", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok"},
		{"negative Content-Length", "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n"},
		{"no colon", "HTTP/1.1 200 OK\r\nX\r\nContent-Length: 0\r\n\r\n"},
		{"empty name", "HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n"},
		{"101 nobody asked for", switching},
		{"101 to h2c", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n"},
		{"no HTTP", "SSH-2.0-OpenSSH_9.2\r\n\r\n"},
		{"HTTP/2", "HTTP/2 200\r\n\r\n"},
		{"status of two digits", "HTTP/1.1 20 OK\r\n\r\n"},
		{"no status", "HTTP/1.1\r\n\r\n"},
		{"status 099", "HTTP/1.1 099 OK\r\n\r\n"},
		{"status 000", "HTTP/1.1 000 OK\r\n\r\n"},
		{"a hundred 103s", strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 100) + ok},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := startHeads(t, always(tt.answer))
			f := start(t, oneSite(httpTo(b.address)))
			c := f.dial()
			c.send(get)
			for a := c.answer("GET"); a.StatusCode != 502; a = c.answer("GET") {
				if a.StatusCode != 103 {
					t.Fatalf("answered %s %q", a.Status, a.body)
				}
			}
			if !strings.Contains(f.log.String(), `"error":`) {
				t.Error("no reason in the log")
			}
		})
	}
}

// TestSpaceBeforeTheColonOfAResponseHeaderIsNoWayAroundItsCheck: the space is to be removed (RFC 9112, section 5.1), or the head
// refused, but the header must not lose its meaning.
func TestSpaceBeforeTheColonOfAResponseHeaderIsNoWayAroundItsCheck(t *testing.T) {
	b := startHeads(t, always("HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\nnot for you"))
	c := start(t, oneSite(httpTo(b.address))).dial()
	c.send(get)
	if a := c.answer("GET"); a.StatusCode != 502 {
		t.Errorf("answered %s %q, %v", a.Status, a.body, a.err)
	}
}

// TestHeadsAreBounded in what makes work beyond their bytes, whoever serves them.
func TestHeadsAreBounded(t *testing.T) {
	b := startHeads(t, always(ok))
	f := startTLS(t, secureSite(both(b.address), `{path: /files, static: "`+t.TempDir()+`"}`))
	fields := func(n int) string { return strings.Repeat("X: y\r\n", n) }
	names := func(n int) string { return "Connection: " + strings.Repeat("a, ", n-1) + "a\r\n" }
	for _, begin := range []string{get, upgrade, strings.Replace(get, "/ ", "/files/a ", 1)} {
		begin = strings.TrimSuffix(begin, "\r\n")
		own := strings.Count(begin, "\r\n") - 1               // fields
		listed := strings.Count(begin, "Connection: Upgrade") // names
		for _, tt := range []struct {
			name, lines string
			status      int // 0: none of these
		}{
			{"1,000 fields", fields(1000 - own), 0},
			{"1,001 fields", fields(1001 - own), 431},
			{"100 names", names(100 - listed), 0},
			{"101 names", names(101 - listed), 400},
			{"101 names in as many fields", strings.Repeat("Connection: a\r\n", 101-listed), 400},
			{"64 KB", "X: " + strings.Repeat("y", 64<<10) + "\r\n", 431},
		} {
			for _, c := range []*client{f.dial(), f.dialSecure()} {
				c.send(begin + tt.lines + "\r\n")
				if got := c.answer("GET").StatusCode; got != tt.status && (tt.status != 0 || got != 200 && got != 404) {
					t.Errorf("%.20q with %s: %d", begin, tt.name, got)
				}
			}
		}
	}
}
