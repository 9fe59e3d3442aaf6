package proxy_test

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/net/http2"
)

// TestNobodyGoesRoundAGuard: by other spellings of its path, by what leads there inside, or by another kind of request.
func TestNobodyGoesRoundAGuard(t *testing.T) {
	b := startEcho(t)
	root := t.TempDir()
	for _, name := range []string{"public", "admin"} {
		if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, name, "secret.txt"), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f := start(t, `
sites:
  - hosts: [example.com]
    rewrite: {path: "^/site/(.*)$", to: "/admin/$1"}
    locations:
      - {path: /admin, deny: [all], http: "http://`+b.address+`", root: `+root+`, websocket: "ws://`+startEchoSocket(t).address+`"}
      - {path: /rewrite/, rewrite: {path: "^/rewrite/(.*)$", to: "/admin/$1"}}
      - {path: /tries/, root: `+root+`, try_files: [/none, "/admin$uri"]}
      - {path: /static/, static: `+root+`/public}
      - {path: /try/, root: `+root+`/public, try_files: [$arg_f, =404]}
      - {path: /, http: "http://`+b.address+`"}
      - {path: "~ ^/re/(.*)$", http: "http://`+b.address+`/files/$1"}
`)
	for _, tt := range []struct {
		target string
		status int
	}{
		{"/admin", 403},
		{"/admin/", 403},
		{"/admin/secret.txt", 403},
		{"/%61dmin/secret.txt", 403},
		{"//admin", 403},
		{"/./admin", 403},
		{"/x/../admin/a", 403},
		{"/x/%2e%2e/admin/a", 403},
		{"/x%2f..%2fadmin", 403},
		{"/admin%2fsecret.txt", 403},
		{"/admin/%2e/x", 403},
		{"http://example.com/admin", 403},
		{"/admin?x", 403},
		{"/admin//x", 403},
		{"/admin/;x", 403},
		{"/site/x", 403},
		{"/rewrite/secret.txt", 403},
		{"/tries/x", 403},
		{"/rewrite/..%2f..%2fadmin/x", 400},
		{"/static/../admin/secret.txt", 403},
		{"/static/..%2fadmin/secret.txt", 403},
		{"/static/secret.txt", 200},
		{"/try/x?f=../admin/secret.txt", 404},
		{"/try/x?f=/secret.txt", 200},
		{"/%00/admin", 400},
		{"/..%2fadmin", 400},
	} {
		for _, method := range []string{"GET", "HEAD", "POST", "OPTIONS", "PROPFIND"} {
			if tt.status == 200 && method != "GET" {
				continue
			}
			c := f.dial()
			c.send(request(method, tt.target, "Content-Length: 0\r\nX-Original-URL: /\r\nX-Rewrite-URL: /\r\n"))
			if a := c.answer(method); a.StatusCode != tt.status {
				t.Errorf("%s %s: %s, want %d", method, tt.target, a.Status, tt.status)
			}
		}
	}
	c := f.dial()
	c.send(request("GET", "/admin", upgradeLines))
	c.expect(403)
}

func TestNobodyGoesRoundAGuardOverHTTP2(t *testing.T) {
	authority, _ := startAuthority(t)
	f := startTLS(t, secureSite(
		`{path: /ws, deny: [all], websocket: "ws://`+startEchoSocket(t).address+`"}`,
		`{path: /asked, auth_request: "`+authority+`", websocket: "ws://`+startEchoSocket(t).address+`"}`,
		`{path: /respond, deny: [all], respond: 200}`,
		`{path: /open, respond: 200}`,
		`{path: /short, max_body: 1KiB, http: "http://`+startEcho(t).address+`"}`,
	))
	c, _ := f.dialH2()
	for i, tt := range []struct{ path, status string }{{"/ws", "403"}, {"/asked", "401"}, {"/respond", "403"}, {"/open", "501"}} {
		stream := uint32(2*i + 1)
		c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndHeaders: true, BlockFragment: c.fields(
			":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "example.com", ":path", tt.path, "sec-websocket-version", "13")})
		if got := c.status(stream); got != tt.status {
			t.Errorf("%s: %s, want %s", tt.path, got, tt.status)
		}
	}
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: 21, EndHeaders: true, BlockFragment: c.fields(
		":method", "POST", ":scheme", "https", ":authority", "example.com", ":path", "/short")})
	c.WriteData(21, false, make([]byte, 2000))
	if got := c.status(21); got != "413" {
		t.Errorf("a long body: %s", got)
	}
}
