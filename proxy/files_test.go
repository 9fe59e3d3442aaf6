package proxy_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startFiles serves files in the ways of nginx's root, index, autoindex, expires and try_files.
func startFiles(t *testing.T) (f *front, root string, b *backend) {
	t.Helper()
	root = directory(t, map[string]string{
		"index.html": "home", "app/index.html": "app", "app/a.js": "script", "app/sub/home.htm": "sub", "list/b.txt": "bb", "list/A.txt": "a", "list/dir/x": "",
		"list/.hidden": "", "list/dump.sql": "", "list/<i>.txt": "", "both/a.txt": "file", "both/dir/index.html": "index", "../outside.txt": "secret",
	})
	b = startEcho(t)
	f = start(t, `
sites:
  - hosts: [example.com]
    locations:
      - {path: /, root: `+root+`}
      - {path: /app/, root: `+root+`, try_files: [$uri, $uri/, /app/index.html], expires: 1h}
      - {path: /app/sub, root: `+root+`, index: [nothing.html, home.htm]}
      - {path: /strict/, static: `+root+`, try_files: [$uri.js, "/strict/app/a.js?x", =410]}
      - {path: /list, root: `+root+`, listing: true, expires: 0}
      - {path: /both/, root: `+root+`, http: "http://`+b.address+`"}
      - {path: /php/, root: `+root+`, try_files: [$uri, "/back$uri?$args"]}
      - {path: /back/, http: "http://`+b.address+`"}
      - {path: /loop/, root: `+root+`, try_files: [$uri, /loop/x]}
      - {path: "~ ^/re/(.*)$", root: `+root+`, try_files: [/app/$1, =404]}
`)
	return f, root, b
}

func TestFilesBelowARoot(t *testing.T) {
	f, root, _ := startFiles(t)
	if err := os.Symlink("../../outside.txt", filepath.Join(root, "list", "out")); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		request string
		status  int
		body    string // for a redirect its Location
	}{
		{"GET /", 200, "home"},
		{"GET /app/a.js", 200, "script"},
		{"GET /app/", 200, "app"},
		{"GET /app/deep/link", 200, "app"},
		{"GET /app", 301, "/app/"},
		{"GET /app/sub/", 200, "sub"},
		{"GET /app/sub?x", 301, "/app/sub/?x"},
		{"POST /app/a.js", 405, ""},
		{"GET /app/%2e%2e/%2e%2e/outside.txt", 400, ""},
		{"GET /strict/app/a", 200, "script"},
		{"GET /strict/none", 410, ""},
		{"GET /both/a.txt", 200, "file"},
		{"GET /both/none?x=y", 200, "GET /both/none?x=y "},
		{"POST /both/a.txt", 200, "POST /both/a.txt "},
		{"GET /both/dir", 301, "/both/dir/"},
		{"GET /both/dir/", 200, "index"},
		{"GET /both/", 200, "GET /both/ "},
		{"GET /php/x?a=b", 200, "GET /back/php/x?a=b "},
		{"POST /php/x", 200, "POST /back/php/x body"},
		{"GET /loop/y", 500, ""},
		{"GET /re/a.js", 200, "script"},
		{"GET /re/none", 404, ""},
		{"GET /list/dir/", 200, "*"},
		{"GET /list/out", 404, ""},
	} {
		c := f.dial()
		line, body := tt.request+" HTTP/1.1\r\nHost: example.com\r\n", ""
		if strings.HasPrefix(line, "POST /php") {
			body = "body"
			line += "Content-Length: 4\r\n"
		} else if strings.HasPrefix(line, "POST") {
			line += "Content-Length: 0\r\n"
		}
		c.send(line, "\r\n", body)
		a := c.answer("GET")
		got := a.body
		if a.StatusCode == 301 {
			got = a.Header.Get("Location")
		}
		if a.StatusCode != tt.status || tt.body != "*" && tt.body != "" && got != tt.body {
			t.Errorf("%s: %s %q, want %d %q", tt.request, a.Status, got, tt.status, tt.body)
		}
	}
}

func TestListing(t *testing.T) {
	f, root, _ := startFiles(t)
	if err := os.Symlink("../../outside.txt", filepath.Join(root, "list", "out")); err != nil {
		t.Fatal(err)
	}
	c := f.dial()
	c.send(request("GET", "/list/"))
	a := c.expect(200)
	var names []string
	for _, part := range strings.Split(a.body, `<a href="`)[1:] {
		name, _, _ := strings.Cut(part, `"`)
		names = append(names, name)
	}
	if got, want := strings.Join(names, " "), "../ ./dir/ ./%3Ci%3E.txt ./A.txt ./b.txt"; got != want {
		t.Errorf("listed are %s, want %s", got, want)
	}
	if strings.Contains(a.body, "<i>") {
		t.Error("a name is taken for markup")
	}
	if got := a.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("type %q", got)
	}
	c.send(request("GET", "/list"))
	if a := c.expect(301); a.Header.Get("Location") != "/list/" {
		t.Errorf("location %q", a.Header.Get("Location"))
	}
}

func TestFilesAreFreshForSoLong(t *testing.T) {
	f, _, _ := startFiles(t)
	c := f.dial()
	c.send(request("GET", "/app/a.js"))
	a := c.expect(200)
	expires, err := http.ParseTime(a.Header.Get("Expires"))
	if left := time.Until(expires); a.Header.Get("Cache-Control") != "max-age=3600" || err != nil || left > time.Hour || left < time.Hour-patience {
		t.Errorf("%v, %v", a.Header, err)
	}
	c.send(request("GET", "/app/a.js", "If-None-Match: "+a.Header.Get("ETag")+"\r\n"))
	if a := c.expect(304); a.Header.Get("Cache-Control") != "max-age=3600" {
		t.Errorf("%v", a.Header)
	}
	c.send(request("GET", "/list/b.txt"))
	if a := c.expect(200); a.Header.Get("Cache-Control") != "no-cache" || a.Header.Get("Expires") != "Thu, 01 Jan 1970 00:00:00 GMT" {
		t.Errorf("%v", a.Header)
	}
	c.send(request("GET", "/index.html"))
	if a := c.expect(200); a.Header.Get("Cache-Control") != "" || a.Header.Get("Expires") != "" {
		t.Errorf("%v", a.Header)
	}
}

func TestErrorPagesInTheFormThatTheClientLikes(t *testing.T) {
	f := start(t, oneSite(`{path: /, respond: 404}`, `{path: /down, http: "http://127.0.0.1:1"}`))
	for accept, want := range map[string]string{
		"":    "text/plain; charset=utf-8",
		"*/*": "text/plain; charset=utf-8",
		"text/html,application/xml;q=0.9,*/*;q=0.8": "text/html; charset=utf-8",
		"application/json":                          "application/json",
		"application/json, text/plain, */*":         "application/json",
		"text/html;q=0.5, application/json":         "application/json",
		"text/plain, text/html;q=0.2":               "text/plain; charset=utf-8",
	} {
		c := f.dial()
		c.send(request("GET", "/down", "Accept: "+accept+"\r\n"))
		a := c.expect(502)
		if got := a.Header.Get("Content-Type"); got != want || a.Header.Get("Retry-After") == "" || a.Header.Get("Vary") != "Accept" {
			t.Errorf("%q: %s with %v, want %s", accept, got, a.Header, want)
		}
		if want != "text/plain; charset=utf-8" && !strings.Contains(f.log.String(), `"id":"`+idIn(a.body)+`"`) {
			t.Errorf("%q: the id %q is not in the log", accept, idIn(a.body))
		}
	}
	c := f.dial()
	c.send(request("GET", "/", "Accept: text/html\r\n"))
	if a := c.expect(404); strings.Contains(a.body, "refresh") || strings.Contains(a.body, "<script") || a.Header.Get("Retry-After") != "" {
		t.Errorf("%v %s", a.Header, a.body)
	}
}

// idIn returns what names the request in a page.
func idIn(page string) string {
	for word := range strings.FieldsFuncSeq(page, func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) }) {
		if len(word) == 32 {
			return word
		}
	}
	return "none"
}

func TestErrorPagesOfTheConfigurationsOwn(t *testing.T) {
	pages := directory(t, map[string]string{"404.html": "<p>not here", "sorry.json": `{"sorry":true}`, "5xx.txt": "sorry"})
	b := startHeads(t, always("HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nX-Own: 1\r\n\r\ntheir"))
	f := start(t, `
error_pages: {404: `+pages+`/404.html, 5xx: `+pages+`/5xx.txt}
sites:
  - hosts: [example.com]
    error_pages: {502: `+pages+`/sorry.json}
    locations:
      - {path: /, respond: 404}
      - {path: /down, http: "http://127.0.0.1:1"}
      - {path: /busy, respond: 503}
      - {path: /theirs, http: "http://`+b.address+`"}
      - {path: /ours, http: "http://`+b.address+`", intercept_errors: true}
`)
	for path, want := range map[string]struct {
		status     int
		kind, body string
	}{
		"/":       {404, "text/html; charset=utf-8", "<p>not here"},
		"/down":   {502, "application/json", `{"sorry":true}`},
		"/busy":   {503, "text/plain; charset=utf-8", "sorry"},
		"/theirs": {404, "", "their"},
		"/ours":   {404, "text/html; charset=utf-8", "<p>not here"},
	} {
		c := f.dial()
		for range 2 { // the connection goes on
			c.send(request("GET", path, "Accept: text/html\r\n"))
			if a := c.expect(want.status); a.Header.Get("Content-Type") != want.kind || a.body != want.body {
				t.Errorf("%s: %q %q, want %+v", path, a.Header.Get("Content-Type"), a.body, want)
			}
		}
	}
}
