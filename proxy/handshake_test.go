package proxy_test

import (
	"strings"
	"testing"
)

// TestHandshakesReachTheBackendAsTheyCame has a backend that answers each in its own words, on a connection of its own.
func TestHandshakesReachTheBackendAsTheyCame(t *testing.T) {
	without := func(line string) string { return strings.Replace(upgrade, line, "", 1) }
	tests := []struct {
		name, request string
		keys, version string // as the backend sees them
	}{
		{"no version", without("Sec-WebSocket-Version: 13\r\n"), sampleKey, ""},
		{"version 8", strings.Replace(upgrade, "Version: 13", "Version: 8", 1), sampleKey, "8"},
		{"two versions", strings.Replace(upgrade, "Version: 13", "Version: 13, 8", 1), sampleKey, "13, 8"},
		{"no key", without("Sec-WebSocket-Key: " + sampleKey + "\r\n"), "", "13"},
		{"two keys", strings.Replace(upgrade, "Sec-WebSocket-Version", "Sec-WebSocket-Key: b\r\nSec-WebSocket-Version", 1), sampleKey + ",b", "13"},
		{"short key", strings.Replace(upgrade, sampleKey, "AAAA", 1), "AAAA", "13"},
		{"key that is no base64", strings.Replace(upgrade, sampleKey, "!!!", 1), "!!!", "13"},
		{"listed in Connection", strings.Replace(upgrade, "Connection: Upgrade", "Connection: Upgrade, Sec-WebSocket-Key", 1), sampleKey, "13"},
	}
	answers := []struct {
		status int
		text   string
	}{
		{400, "HTTP/1.1 400 Bad Request\r\nX-Why: key\r\nContent-Length: 3\r\n\r\nkey"},
		{401, "HTTP/1.1 401 Unauthorized\r\nX-Why: key\r\nContent-Length: 3\r\n\r\nkey"},
		{405, "HTTP/1.1 405 Method Not Allowed\r\nX-Why: key\r\nContent-Length: 3\r\n\r\nkey"},
		{426, "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nX-Why: key\r\nContent-Length: 3\r\n\r\nkey"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, want := range answers {
				b := startHeads(t, always(want.text))
				f := start(t, oneSite(both(b.address)))
				c := dial(t, f.plain)
				c.send(tt.request)
				a := c.expect(want.status)
				if a.body != "key" || a.Header.Get("X-Why") != "key" {
					t.Errorf("%d: %v %q", want.status, a.Header, a.body)
				}
				if want.status == 426 && (a.Header.Get("Upgrade") != "websocket" || a.Header.Get("Sec-WebSocket-Version") != "13") {
					t.Errorf("a 426 with %v", a.Header)
				}
				if rest := c.rest(); rest != "" {
					t.Errorf("the connection went on with %q", rest)
				}
				head := b.seen()[0]
				if field(head, "Upgrade") == nil || field(head, "Connection") == nil || strings.Join(field(head, "Sec-WebSocket-Key"), ",") != tt.keys ||
					strings.Join(field(head, "Sec-WebSocket-Version"), ",") != tt.version {
					t.Errorf("the backend saw %q", head)
				}
				other := dial(t, f.plain)
				other.send(get)
				other.expect(want.status)
				if b.accepted() != 2 {
					t.Errorf("%d connections for a handshake and a page", b.accepted())
				}
			}
		})
	}
}

func TestNoTunnelOpensWithoutOneKeyAndItsAccept(t *testing.T) {
	keyLine := "Sec-WebSocket-Key: " + sampleKey + "\r\n"
	for _, mode := range []string{"tunnel", "relay"} {
		b := startHeads(t, always(switching))
		f := start(t, oneSite(`{path: /ws, websocket: "ws://`+b.address+`", mode: `+mode+`}`))
		for _, request := range []string{
			strings.Replace(upgrade, keyLine, "", 1),
			strings.Replace(upgrade, keyLine, keyLine+keyLine, 1),
			strings.Replace(upgrade, sampleKey, "AAAAAAAAAAAAAAAAAAAAAA==", 1),
		} {
			c := f.dial()
			c.send(request)
			c.expect(502)
		}
		await(t, "the reason in the log", func() bool { return strings.Count(f.log.String(), "Sec-WebSocket-") == 3 })
	}
}

func TestUpgradeByAnotherMethodIsPlainHTTP(t *testing.T) {
	b := startHeads(t, always(ok))
	f := start(t, oneSite(both(b.address), `{path: /only, websocket: "ws://`+b.address+`"}`))
	c := f.dial()
	c.send(strings.Replace(upgrade, "GET", "POST", 1))
	c.expect(200)
	if head := b.seen()[0]; field(head, "Upgrade") != nil {
		t.Errorf("the backend was sent %q", head)
	}
	for _, request := range []string{
		strings.Replace(upgrade, "GET", "POST", 1),
		"GET /ws HTTP/1.1\r\n" + host + "\r\n",
		strings.Replace(upgrade, "Connection: Upgrade\r\n", "", 1),
		strings.Replace(upgrade, "Upgrade: websocket\r\n", "", 1),
		strings.Replace(upgrade, "websocket", "h2c", 1),
	} {
		c := f.dial()
		c.send(strings.Replace(request, "/ws", "/only", 1))
		if a := c.expect(426); a.Header.Get("Upgrade") != "websocket" || a.Header.Get("Sec-WebSocket-Version") != "13" {
			t.Errorf("a 426 with %v", a.Header)
		}
	}
}

func TestUpgradeWithABodyIs400WhateverItsMethod(t *testing.T) {
	b := startHeads(t, always(switching))
	f := start(t, oneSite(both(b.address), `{path: /only, websocket: "ws://`+b.address+`"}`, `{path: /pages, http: "http://`+b.address+`"}`))
	for _, path := range []string{"/ws", "/only", "/pages"} {
		for _, method := range []string{"GET", "POST", "PUT"} {
			for _, framing := range []string{"Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"} {
				c := f.dial()
				c.send(strings.NewReplacer("/ws", path, "GET", method).Replace(strings.TrimSuffix(upgrade, "\r\n")), framing)
				c.expect(400)
				c.rest()
			}
		}
	}
	if seen := b.seen(); len(seen) > 0 {
		t.Errorf("the backend saw %q", seen)
	}
}

func TestUpgradeOnALocationWithoutOneIsToldOfOnce(t *testing.T) {
	b := startHeads(t, always(ok))
	f := start(t, oneSite(`{path: /ws, http: "http://`+b.address+`"}`, `{path: /pages, http: "http://`+b.address+`"}`))
	for range 3 {
		for _, request := range []string{upgrade, get, strings.Replace(get, "/", "/pages", 1)} {
			c := f.dial()
			c.send(request)
			c.answer("GET")
		}
	}
	const hint = "a WebSocket was asked for on a location that has none"
	await(t, "the hint", func() bool { return strings.Contains(f.log.String(), hint) })
	if n := strings.Count(f.log.String(), hint); n != 1 {
		t.Errorf("told %d times:\n%s", n, f.log.String())
	}
}
