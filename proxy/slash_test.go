package proxy_test

import (
	"bufio"
	"net"
	"strings"
	"testing"
)

func TestPathWithoutItsSlashIsRedirected(t *testing.T) {
	b := startEcho(t)
	f := start(t, oneSite(`{path: /app/, http: "http://`+b.address+`"}`, `{path: /both/, http: "http://`+b.address+`"}`, `{path: = /both, http: "http://`+b.address+`"}`))
	c := f.dial()
	for _, tt := range []struct {
		method, target string
		status         int
		location       string
	}{
		{"GET", "/app", 301, "/app/"},
		{"GET", "/app?a=b&c=%2F", 301, "/app/?a=b&c=%2F"},
		{"HEAD", "/app?a", 301, "/app/?a"},
		{"POST", "/app", 301, "/app/"},
		{"GET", "//%61pp?a", 301, "/app/?a"},
		{"GET", "/app/", 200, ""},
		{"GET", "/both", 200, ""},
		{"GET", "/ap", 404, ""},
		{"GET", "/apps", 404, ""},
	} {
		c.send(tt.method + " " + tt.target + " HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n")
		if a := c.answer(tt.method); a.StatusCode != tt.status || a.Header.Get("Location") != tt.location {
			t.Errorf("%s %s: %d to %q, want %d to %q", tt.method, tt.target, a.StatusCode, a.Header.Get("Location"), tt.status, tt.location)
		}
	}
}

func TestUpgradeWithoutItsSlashIsServedAsIfItHadIt(t *testing.T) {
	b := startSocket(t, func(_ net.Conn, br *bufio.Reader) { br.ReadByte() })
	f := start(t, oneSite(`{path: /ws/, websocket: "ws://`+b.address+`"}`, `{path: /sub/, websocket: "ws://`+b.address+`/x/"}`))
	for i, tt := range []struct{ target, want string }{
		{"/ws?a=b", "GET /ws/?a=b HTTP/1.1"},
		{"/sub?a=b", "GET /x/?a=b HTTP/1.1"},
	} {
		c := f.dial()
		c.send(strings.Replace(upgrade, "/ws", tt.target, 1))
		if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
			t.Errorf("%s: %q", tt.target, head)
		}
		if line, _, _ := strings.Cut(b.seen()[i], "\r"); line != tt.want {
			t.Errorf("%s: the backend saw %q", tt.target, line)
		}
	}
}

// TestEncodedAndDoubleSlashesReachTheBackendAsTheyCame has a target with a path, of which only the matched prefix takes the place.
func TestEncodedAndDoubleSlashesReachTheBackendAsTheyCame(t *testing.T) {
	b := startEcho(t)
	c := start(t, oneSite(`{path: /app/, http: "http://`+b.address+`/x/"}`, `{path: /, http: "http://`+b.address+`"}`)).dial()
	for _, tt := range []struct{ target, want string }{
		{"/app/a%2Fb//c%20d?e%2Ff//g", "/x/a%2Fb//c%20d?e%2Ff//g"},
		{"/app//a", "/x//a"},
		{"/app/a/../b%2Fc", "/x/b/c"},
		{"/a%2Fb//c/./d", "/a%2Fb//c/./d"},
	} {
		c.send("GET " + tt.target + " HTTP/1.1\r\n" + host + "\r\n")
		if a := c.expect(200); a.body != "GET "+tt.want+" " {
			t.Errorf("%s: the backend saw %q", tt.target, a.body)
		}
	}
}
