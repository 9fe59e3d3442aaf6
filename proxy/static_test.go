package proxy_test

import (
	"crypto/tls"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// directory makes files of names and contents in a directory of the test's.
func directory(t *testing.T, files map[string]string) string {
	t.Helper()
	root := filepath.Join(t.TempDir(), "root")
	for name, content := range files {
		name = filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// startStatic serves a few files under /files and at the root; what lies beside the root is no one's business.
func startStatic(t *testing.T) (*front, string) {
	t.Helper()
	root := directory(t, map[string]string{
		"index.html": "<p>home", "a.txt": "0123456789", "dir/index.html": "<p>dir", "empty/a.txt": "a", "a b.txt": "space", "ü.txt": "umlaut",
		".htaccess": "secret", ".git/config": "secret", "dir/.env": "secret", ".well-known/security.txt": "contact", "unknown": "what", "..a": "secret",
		"../outside.txt": "secret", "../root2/a.txt": "secret",
	})
	return start(t, oneSite(`{path: /, static: "`+root+`"}`, `{path: /files, static: "`+root+`"}`)), root
}

func TestStaticFiles(t *testing.T) {
	tests := []struct {
		method, target string
		status         int
		body           string // for a 200; for a redirect its Location
	}{
		{"GET", "/", 200, "<p>home"},
		{"GET", "/index.html", 200, "<p>home"},
		{"GET", "/a.txt", 200, "0123456789"},
		{"GET", "/a.txt?x=y", 200, "0123456789"},
		{"GET", "/files/a.txt", 200, "0123456789"},
		{"GET", "/files//a.txt", 200, "0123456789"},
		{"GET", "/files/", 200, "<p>home"},
		{"GET", "/files", 301, "/files/"},
		{"GET", "/dir/", 200, "<p>dir"},
		{"GET", "/dir", 301, "/dir/"},
		{"GET", "/dir?a=b", 301, "/dir/?a=b"},
		{"GET", "//dir", 301, "/dir/"},
		{"GET", "//example.org/..//dir", 301, "/dir/"},
		{"GET", "/files/dir", 301, "/files/dir/"},
		{"GET", "/a%20b.txt", 200, "space"},
		{"GET", "/%C3%BC.txt", 200, "umlaut"},
		{"GET", "/%61.txt", 200, "0123456789"},
		{"GET", "/dir/../a.txt", 200, "0123456789"},
		{"HEAD", "/a.txt", 200, ""},
		{"GET", "/.well-known/security.txt", 200, "contact"},
		{"GET", "/empty/", 404, ""},
		{"GET", "/none", 404, ""},
		{"GET", "/a.txt/", 404, ""},
		{"GET", "/a.txt/b", 404, ""},
		{"GET", "/filesx", 404, ""},
		{"GET", "/A.TXT", 404, ""},
		{"GET", "/" + strings.Repeat("a", 5000), 404, ""},
		{"POST", "/a.txt", 405, ""},
		{"PUT", "/a.txt", 405, ""},
		{"DELETE", "/a.txt", 405, ""},
		{"OPTIONS", "/a.txt", 405, ""},
	}
	f, _ := startStatic(t)
	for _, tt := range tests {
		c := dial(t, f.plain)
		c.send(tt.method + " " + tt.target + " HTTP/1.1\r\n" + host + "\r\n")
		a := c.answer(tt.method)
		if a.StatusCode != tt.status || tt.status == 200 && a.body != tt.body || tt.status == 301 && a.Header.Get("Location") != tt.body {
			t.Errorf("%s %.60s: %s %v %q", tt.method, tt.target, a.Status, a.Header, a.body)
		}
		if tt.status == 405 && a.Header.Get("Allow") == "" {
			t.Errorf("%s: a 405 without Allow", tt.method)
		}
		if tt.method == "HEAD" && a.ContentLength != 10 {
			t.Errorf("HEAD announces %d bytes", a.ContentLength)
		}
	}
}

func TestStaticServesNothingHiddenOrOutside(t *testing.T) {
	f, root := startStatic(t)
	for name, target := range map[string]string{"link.txt": "../outside.txt", "dirlink": "..", "abs.txt": filepath.Join(filepath.Dir(root), "outside.txt"), "hop": "dir/../../root2"} {
		if err := os.Symlink(target, filepath.Join(root, name)); err != nil {
			t.Fatal(err)
		}
	}
	for status, targets := range map[int][]string{
		404: {
			"/.htaccess", "/%2ehtaccess", "/.git/config", "/.git/", "/.git", "/dir/.env", "/dir/%2Eenv", "/files/.htaccess", "/..a", "/.well-known/../.htaccess",
			"/files..%2f..%2foutside.txt", "/files../outside.txt", "/..%5coutside.txt", "/..\\outside.txt",
			"/%252e%252e/outside.txt", "/%c0%ae%c0%ae/outside.txt", "/..;/outside.txt",
			"/link.txt", "/abs.txt", "/dirlink/outside.txt", "/hop/a.txt", "/dirlink/", "/dirlink",
		},
		400: {
			"/../outside.txt", "/%2e%2e/outside.txt", "/..%2foutside.txt", "/%2e%2e%2foutside.txt", "/.%2e/outside.txt", "/files/../../outside.txt",
			"/files/..%2f..%2foutside.txt", "/dir/..%2f..%2foutside.txt", "/%2e%2e/root2/a.txt", "//../outside.txt", "/a.txt%00", "/a.txt%00.html",
		},
	} {
		for _, target := range targets {
			c := dial(t, f.plain)
			c.send("GET " + target + " HTTP/1.1\r\n" + host + "\r\n")
			if a := c.expect(status); strings.Contains(a.body, "secret") {
				t.Errorf("%s: %v %q", target, a.Header, a.body)
			}
		}
	}
}

func TestStaticFollowsLinksWithinTheRoot(t *testing.T) {
	f, root := startStatic(t)
	if err := os.Symlink("dir", filepath.Join(root, "current")); err != nil {
		t.Fatal(err)
	}
	c := f.dial()
	c.send("GET /current/ HTTP/1.1\r\n" + host + "\r\n")
	if a := c.expect(200); a.body != "<p>dir" {
		t.Errorf("got %q", a.body)
	}
}

func TestStaticConditionsAndRanges(t *testing.T) {
	f, root := startStatic(t)
	past := time.Date(2020, 2, 3, 4, 5, 6, 0, time.UTC)
	if err := os.Chtimes(filepath.Join(root, "a.txt"), past, past); err != nil {
		t.Fatal(err)
	}
	ask := func(headers string) answer {
		c := dial(t, f.plain)
		c.send("GET /a.txt HTTP/1.1\r\n" + host + headers + "\r\n")
		return c.answer("GET")
	}
	whole := ask("")
	tag, modified := whole.Header.Get("ETag"), whole.Header.Get("Last-Modified")
	if tag == "" || modified != "Mon, 03 Feb 2020 04:05:06 GMT" || !strings.HasPrefix(whole.Header.Get("Content-Type"), "text/plain") {
		t.Fatalf("headers %v", whole.Header)
	}
	tests := []struct {
		headers string
		status  int
		body    string
	}{
		{"If-None-Match: " + tag + "\r\n", 304, ""},
		{"If-None-Match: \"x\", W/" + tag + "\r\n", 304, ""},
		{"If-None-Match: *\r\n", 304, ""},
		{"If-None-Match: \"x\"\r\n", 200, "0123456789"},
		{"If-None-Match: \"x\"\r\nIf-Modified-Since: " + modified + "\r\n", 200, "0123456789"},
		{"If-Modified-Since: " + modified + "\r\n", 304, ""},
		{"If-Modified-Since: Sun, 02 Feb 2020 04:05:06 GMT\r\n", 200, "0123456789"},
		{"If-Match: \"x\"\r\n", 412, ""},
		{"If-Unmodified-Since: Sun, 02 Feb 2020 04:05:06 GMT\r\n", 412, ""},
		{"Range: bytes=2-4\r\n", 206, "234"},
		{"Range: bytes=-3\r\n", 206, "789"},
		{"Range: bytes=8-\r\n", 206, "89"},
		{"Range: bytes=0-18446744073709551615\r\n", 206, "0123456789"},
		{"Range: bytes=2-99999999999999999999\r\n", 206, "23456789"},
		{"Range: bytes=-18446744073709551615\r\n", 206, "0123456789"},
		{"Range: bytes=18446744073709551615-\r\n", 416, ""},
		{"Range: bytes=18446744073709551614-18446744073709551615\r\n", 416, ""},
		{"Range: bytes=10-\r\n", 416, ""},
		{"Range: bytes=-0\r\n", 416, ""},
		{"Range: bytes=5-2\r\n", 416, ""},
		{"Range: bytes=-0, 2-4\r\n", 206, "234"},
		{"Range: BYTES=2-4\r\n", 206, "234"},
		{"Range: lines=2-4\r\n", 200, "0123456789"},
		{"Range: bytes=2-4\r\nIf-Range: " + tag + "\r\n", 206, "234"},
		{"Range: bytes=2-4\r\nIf-Range: \"x\"\r\n", 200, "0123456789"},
	}
	for _, tt := range tests {
		a := ask(tt.headers)
		if a.StatusCode != tt.status || tt.body != "" && a.body != tt.body {
			t.Errorf("%q: %s %q", tt.headers, a.Status, a.body)
		}
		if got := a.Header.Get("Content-Range"); tt.status == 416 && got != "bytes */10" {
			t.Errorf("%q: Content-Range %q", tt.headers, got)
		}
	}
	if a := ask("Range: bytes=2-4\r\n"); a.Header.Get("Content-Range") != "bytes 2-4/10" {
		t.Errorf("Content-Range %q", a.Header.Get("Content-Range"))
	}
	if err := os.WriteFile(filepath.Join(root, "a.txt"), []byte("9876543210"), 0o644); err != nil {
		t.Fatal(err)
	}
	if a := ask("If-None-Match: " + tag + "\r\n"); a.StatusCode != 200 || a.Header.Get("ETag") == tag {
		t.Errorf("a changed file is %s, with the tag %s", a.Status, a.Header.Get("ETag"))
	}
}

func TestUpgradeOnAStaticLocationIsPlainHTTP(t *testing.T) {
	f, _ := startStatic(t)
	c := f.dial()
	c.send(strings.Replace(upgrade, "/ws", "/a.txt", 1))
	if a := c.expect(200); a.body != "0123456789" {
		t.Errorf("got %q", a.body)
	}
}

func TestStaticHandsOutNoSourceOrSecretsUnlessToldTo(t *testing.T) {
	kept := []string{
		"index.php", "INDEX.PHP", "a.php7", "a.phps", "wp-config.php.bak", "wp-config.php_old", "wp-config.php.txt", "a.phtml", "a.pht", "a.phar", "db.inc",
		"dump.sql", "dump.sql.gz", "dump.sql.tar.gz", "data.sqlite3", "prod.env", ".env", "config.ini", "site.bak", "site.bak.2", "a.html.old", "a.html.orig", "a.html.save",
		"a.swp", ".a.html.swp", "a.html~", "#a.html#", ".git/config", "repository.git/config", "old.bak/a.html", "a.php/b.html", "a.cgi", "a.jsp", "a.aspx",
	}
	served := []string{
		"a.html", "php.html", "php", "a.inc.js", "style.old.css", "sql.js", "worker.sql.js", "a.environment", "backup.tar.gz", "a.zip", "jquery-3.7.1.min.js", "a.1", "v1.2/a.txt",
		".well-known/security.txt", "incs/a.html", "git/a.html", "readme.txt",
	}
	files := map[string]string{}
	for _, name := range slices.Concat(kept, served) {
		files[name] = "content"
	}
	root := directory(t, files)
	f := start(t, oneSite(`{path: /, static: "`+root+`"}`, `{path: /open, static: "`+root+`", serve_sources: true}`))
	status := func(target string) int {
		c := f.dial()
		c.send("GET " + target + " HTTP/1.1\r\n" + host + "\r\n")
		return c.answer("GET").StatusCode
	}
	escape := strings.NewReplacer("#", "%23").Replace
	for _, name := range kept {
		if got := status("/" + escape(name)); got != 404 {
			t.Errorf("%s: %d", name, got)
		}
	}
	for _, name := range served {
		if got := status("/" + name); got != 200 {
			t.Errorf("%s: %d", name, got)
		}
	}
	for _, name := range slices.Concat(kept, served) {
		if got := status("/open/" + escape(name)); got != 200 {
			t.Errorf("%s with serve_sources: %d", name, got)
		}
	}
	for _, spelling := range []string{"/index%2ephp", "/index.ph%70", "/%69ndex.php", "//index.php", "/x/../index.php", "/./index.php", "/index.php?a", "/index.php/", "/index.php/a"} {
		if got := status(spelling); got != 404 {
			t.Errorf("%s: %d", spelling, got)
		}
	}
}

// TestStaticTypesAreNginxsAndNothingIsSniffed: nor does the machine's own table count, which knows .xyz on some.
func TestStaticTypesAreNginxsAndNothingIsSniffed(t *testing.T) {
	const unknown = "application/octet-stream"
	types := map[string]string{
		"a.html": "text/html", "a.HTM": "text/html", "a.css": "text/css", "a.js": "text/javascript", "a.mjs": "text/javascript", "a.txt": "text/plain", "a.xml": "text/xml",
		"a.png": "image/png", "a.jpg": "image/jpeg", "a.svg": "image/svg+xml", "a.ico": "image/x-icon", "a.webp": "image/webp", "a.avif": "image/avif", "a.bmp": "image/x-ms-bmp",
		"a.woff": "font/woff", "a.woff2": "font/woff2", "a.eot": "application/vnd.ms-fontobject", "a.json": "application/json", "a.webmanifest": "application/manifest+json",
		"a.wasm": "application/wasm", "a.pdf": "application/pdf", "a.rss": "application/rss+xml", "a.xhtml": "application/xhtml+xml", "a.zip": "application/zip",
		"a.docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document", "a.m3u8": "application/vnd.apple.mpegurl", "a.mp3": "audio/mpeg", "a.mp4": "video/mp4",
		"a.ts": "video/mp2t", "a.webm": "video/webm", "a.pem": "application/x-x509-ca-cert", "a.7z": "application/x-7z-compressed", "a.exe": unknown, "a.iso": unknown,
		"a": unknown, "a.xyz": unknown, "a.html.unknown": unknown, "a.": unknown,
	}
	files := map[string]string{}
	for name := range types {
		files[name] = "<!doctype html><script>alert(1)</script>"
	}
	f := start(t, oneSite(`{path: /, static: "`+directory(t, files)+`"}`))
	for name, want := range types {
		c := f.dial()
		c.send("GET /" + name + " HTTP/1.1\r\n" + host + "\r\n")
		a := c.expect(200)
		nosniff := a.Header.Get("X-Content-Type-Options") == "nosniff"
		if got := a.Header.Get("Content-Type"); got != want || nosniff != (want == unknown) {
			t.Errorf("%s: %q, nosniff %v, want %q", name, got, nosniff, want)
		}
	}
}

// TestLongFileReachesASlowClientWhole has several that take it at the same time, each at its own pace.
func TestLongFileReachesASlowClientWhole(t *testing.T) {
	content := make([]byte, 5<<20)
	for i := range content {
		content[i] = byte(i * 2654435761 >> 11)
	}
	root := directory(t, map[string]string{"long": string(content), "short": "short"})
	f := startTLS(t, secureSite(`{path: /, static: "`+root+`"}`))
	var clients sync.WaitGroup
	for i := range 6 {
		c := f.dial()
		if i%2 == 0 {
			c = f.dialSecure()
		}
		clients.Go(func() {
			for range 2 {
				c.send("GET /long HTTP/1.1\r\n" + host + "\r\nGET /short HTTP/1.1\r\n" + host + "\r\n")
				time.Sleep(time.Duration(i) * 20 * time.Millisecond)
				if a := c.answer("GET"); a.StatusCode != 200 || a.err != nil || a.body != string(content) {
					t.Errorf("client %d: %s, %d bytes, %v", i, a.Status, len(a.body), a.err)
				}
				if a := c.answer("GET"); a.body != "short" {
					t.Errorf("client %d: %q", i, a.body)
				}
			}
		})
	}
	clients.Wait()
}

// TestSeveralRangesComeAsOneAnswer: their parts stand in it in the order in which they were asked for, over plain HTTP, TLS and HTTP/2.
func TestSeveralRangesComeAsOneAnswer(t *testing.T) {
	long := strings.Repeat("0123456789", 20_000)
	root := directory(t, map[string]string{"long.txt": long})
	f := startTLS(t, secureSite(`{path: /, static: "`+root+`"}`))
	for name, address := range map[string]string{"http": "http://" + f.plain, "https": "https://" + f.secure, "h2": "https://" + f.secure} {
		resp := f.fetch(t, name == "h2", address+"/long.txt", map[string]string{"Range": "bytes=100000-189999, 5-9, -3"})
		_, parameters, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
		if err != nil || resp.StatusCode != 206 {
			t.Fatalf("%s: %s %v, %v", name, resp.Status, resp.Header, err)
		}
		parts := multipart.NewReader(resp.Body, parameters["boundary"])
		for _, want := range []struct{ at, content string }{
			{"bytes 100000-189999/200000", long[100000:190000]}, {"bytes 5-9/200000", "56789"}, {"bytes 199997-199999/200000", "789"},
		} {
			part, err := parts.NextPart()
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			content, err := io.ReadAll(part)
			if err != nil || string(content) != want.content || part.Header.Get("Content-Range") != want.at || part.Header.Get("Content-Type") != "text/plain" {
				t.Errorf("%s: %v, %d bytes, %v", name, part.Header, len(content), err)
			}
		}
		if _, err := parts.NextPart(); err != io.EOF {
			t.Errorf("%s: behind the last part: %v", name, err)
		}
		resp.Body.Close()
	}
}

// fetch gets a file of example.com over TLS or not.
func (f *front) fetch(t *testing.T, overH2 bool, url string, header map[string]string) *http.Response {
	t.Helper()
	transport := &http.Transport{
		TLSClientConfig:    &tls.Config{ServerName: "example.com", InsecureSkipVerify: true},
		ForceAttemptHTTP2:  overH2,
		DisableCompression: true,
		DialContext:        dialPatiently,
	}
	t.Cleanup(transport.CloseIdleConnections)
	r, err := http.NewRequest("GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "example.com"
	for name, value := range header {
		r.Header.Set(name, value)
	}
	resp, err := (&http.Client{Transport: transport}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestPrecompressedNeighbourIsSentToThoseThatTakeIt(t *testing.T) {
	root := directory(t, map[string]string{
		"a.js": "plain", "a.js.br": "brotli", "a.js.gz": "gzipped", "b.css": "only plain", "dir/index.html": "page", "dir/index.html.zst": "zstandard",
		"d.txt": "text", "d.txt.gz/x": "", "e.php": "source", "e.php.gz": "source",
	})
	f := start(t, oneSite(`{path: /, static: "`+root+`", precompressed: true}`, `{path: /off, static: "`+root+`"}`))
	tests := []struct {
		target, accept string
		status         int
		body, coding   string
		kind           string
	}{
		{"/a.js", "gzip, br", 200, "brotli", "br", "text/javascript"},
		{"/a.js", "gzip, br;q=0.1", 200, "gzipped", "gzip", "text/javascript"},
		{"/a.js", "zstd", 200, "plain", "", "text/javascript"},
		{"/a.js", "zstd, gzip", 200, "gzipped", "gzip", "text/javascript"},
		{"/a.js", "", 200, "plain", "", "text/javascript"},
		{"/a.js.gz", "gzip", 200, "gzipped", "", "application/gzip"},
		{"/b.css", "gzip, br, zstd", 200, "only plain", "", "text/css"},
		{"/dir/", "zstd", 200, "zstandard", "zstd", "text/html"},
		{"/d.txt", "gzip", 200, "text", "", "text/plain"},
		{"/dir", "gzip", 301, "", "", ""},
		{"/none", "gzip", 404, "", "", ""},
		{"/e.php", "gzip", 404, "", "", ""},
		{"/off/a.js", "gzip, br", 200, "plain", "", "text/javascript"},
	}
	tags := map[string]string{}
	for range 2 { // the second time out of what was found a moment ago
		for _, tt := range tests {
			c := f.dial()
			c.send("GET " + tt.target + " HTTP/1.1\r\n" + host + "Accept-Encoding: " + tt.accept + "\r\n\r\n")
			a := c.answer("GET")
			if a.StatusCode != tt.status || tt.status == 200 && (a.body != tt.body || a.Header.Get("Content-Type") != tt.kind) || a.Header.Get("Content-Encoding") != tt.coding {
				t.Errorf("%s for %q: %s %v %q", tt.target, tt.accept, a.Status, a.Header, a.body)
			}
			if vary := a.Header.Get("Vary"); tt.status == 200 && (vary == "Accept-Encoding") == strings.HasPrefix(tt.target, "/off") {
				t.Errorf("%s: Vary %q", tt.target, vary)
			}
			if tag := a.Header.Get("ETag"); tt.target == "/a.js" {
				if other, ok := tags[tag]; ok && other != tt.coding {
					t.Errorf("%q and %q have the tag %s", other, tt.coding, tag)
				}
				tags[tag] = tt.coding
			}
		}
	}
	for tag, coding := range tags {
		c := f.dial()
		c.send("GET /a.js HTTP/1.1\r\n" + host + "Accept-Encoding: " + coding + "\r\nIf-None-Match: " + tag + "\r\n\r\n")
		if a := c.expect(304); a.Header.Get("Vary") != "Accept-Encoding" || a.Header.Get("ETag") != tag {
			t.Errorf("304 with %v", a.Header)
		}
	}
	c := f.dial()
	c.send("GET /a.js HTTP/1.1\r\n" + host + "Accept-Encoding: gzip\r\nRange: bytes=1-3\r\n\r\n")
	if a := c.expect(206); a.body != "lai" || a.Header.Get("Content-Encoding") != "" {
		t.Errorf("%v %q", a.Header, a.body)
	}
}

// TestChangesOfAFileAreSeenAtOnce, although it was found a moment ago; where a link leads within a second.
func TestChangesOfAFileAreSeenAtOnce(t *testing.T) {
	root := directory(t, map[string]string{"a": "first", "b": "other", "v1/c": "old", "v2/c": "new"})
	name := func(s string) string { return filepath.Join(root, s) }
	link := func(to string) {
		t.Helper()
		if err := errors.Join(os.Symlink(to, name("next")), os.Rename(name("next"), name("current"))); err != nil {
			t.Fatal(err)
		}
	}
	link("v1")
	f := start(t, oneSite(`{path: /, static: "`+root+`"}`))
	c := f.dial()
	get := func(target string) answer {
		c.send("GET " + target + " HTTP/1.1\r\n" + host + "\r\n")
		return c.answer("GET")
	}
	expect := func(want string) {
		t.Helper()
		if a := get("/a"); a.body != want {
			t.Errorf("got %s %q, want %q", a.Status, a.body, want)
		}
	}
	expect("first")
	os.WriteFile(name("a"), []byte("written"), 0o644)
	expect("written")
	os.Rename(name("b"), name("a"))
	expect("other")
	os.Remove(name("a"))
	if a := get("/a"); a.StatusCode != 404 {
		t.Errorf("removed: %s", a.Status)
	}
	os.WriteFile(name("a"), []byte("back"), 0o644)
	expect("back")
	if a := get("/current/c"); a.body != "old" {
		t.Errorf("got %q", a.body)
	}
	link("v2")
	f.server.Skip(time.Second)
	if a := get("/current/c"); a.body != "new" {
		t.Errorf("the link's old end is served after a second: %q", a.body)
	}
}
