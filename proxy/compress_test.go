package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// inflated returns what the body of an answer stands for.
func inflated(t *testing.T, resp *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("reading the body: %v after %d bytes", err, len(body))
	}
	r := io.Reader(bytes.NewReader(body))
	switch resp.Header.Get("Content-Encoding") {
	case "zstd":
		d, err := zstd.NewReader(r)
		if err != nil {
			t.Fatal(err)
		}
		defer d.Close()
		r = d
	case "br":
		r = brotli.NewReader(r)
	case "gzip":
		if r, err = gzip.NewReader(r); err != nil {
			t.Fatal(err)
		}
	}
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatalf("inflating: %v after %d bytes", err, len(text))
	}
	return string(text)
}

// prose is a text that can be compressed.
func prose(n int) string {
	var b strings.Builder
	for b.Len() < n {
		fmt.Fprintf(&b, "line %d of a text that says little more than %d\n", b.Len(), rand.IntN(100))
	}
	return b.String()[:n]
}

func TestAnswersAreCompressedForThoseThatTakeIt(t *testing.T) {
	bodies := map[string]string{"/small": prose(100), "/page": prose(5000), "/long": prose(3_000_000)}
	root := directory(t, map[string]string{"f.html": bodies["/page"], "long.js": bodies["/long"], "p.png": bodies["/page"]})
	b := startHeads(t, func(head string) string {
		_, rest, _ := strings.Cut(head, " ")
		path, _, _ := strings.Cut(rest, " ")
		body := bodies[path]
		return "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nETag: \"x\"\r\nAccept-Ranges: bytes\r\nContent-Length: " + fmt.Sprint(len(body)) + "\r\n\r\n" + body
	})
	f := startTLS(t, "compress: true\n"+secureSite(`{path: /files/, static: "`+root+`"}`, httpTo(b.address)))
	bodies["/files/f.html"], bodies["/files/long.js"], bodies["/files/p.png"] = bodies["/page"], bodies["/long"], bodies["/page"]
	for path, body := range bodies {
		for _, accept := range []string{"", "gzip", "br", "zstd", "gzip, br", "identity"} {
			for _, h2 := range []bool{false, true} {
				resp := f.fetch(t, h2, "https://"+f.secure+path, map[string]string{"Accept-Encoding": accept})
				want := strings.TrimPrefix(accept, "gzip, ")
				if accept == "identity" || path == "/small" || path == "/files/p.png" {
					want = ""
				}
				vary := "Accept-Encoding"
				if path == "/small" || path == "/files/p.png" {
					vary = ""
				}
				if got := resp.Header.Get("Content-Encoding"); got != want || resp.Header.Get("Vary") != vary {
					t.Errorf("%s, %q: coding %q, Vary %q", path, accept, got, resp.Header.Get("Vary"))
				}
				if weak := strings.HasPrefix(resp.Header.Get("ETag"), "W/"); weak != (want != "") {
					t.Errorf("%s, %q: ETag %s", path, accept, resp.Header.Get("ETag"))
				}
				if (resp.ContentLength < 0) != (want != "") || want != "" && resp.Header.Get("Accept-Ranges") != "" {
					t.Errorf("%s, %q: %d bytes, %v", path, accept, resp.ContentLength, resp.Header)
				}
				if got := inflated(t, resp); got != body {
					t.Errorf("%s, %q: %d bytes instead of %d", path, accept, len(got), len(body))
				}
			}
		}
	}
}

func TestWhatIsNotCompressed(t *testing.T) {
	text := prose(5000)
	for name, lines := range map[string]string{
		"an event stream":         "Content-Type: text/event-stream",
		"a picture":               "Content-Type: image/png",
		"no type":                 "X-A: b",
		"compressed already":      "Content-Type: text/html\r\nContent-Encoding: br",
		"not to be transformed":   "Content-Type: text/html\r\nCache-Control: public, no-transform",
		"a part":                  "Content-Type: text/html\r\nContent-Range: bytes 0-4999/9000",
		"with a digest":           "Content-Type: text/html\r\nContent-Digest: sha-256=:x:",
		"a type that is not told": "Content-Type: application/octet-stream",
	} {
		status := "200 OK"
		if name == "a part" {
			status = "206 Partial Content"
		}
		b := startHeads(t, always("HTTP/1.1 "+status+"\r\n"+lines+"\r\nContent-Length: 5000\r\n\r\n"+text))
		f := start(t, "compress: true\n"+oneSite(httpTo(b.address)))
		c := f.dial()
		c.send(request("GET", "/", "Accept-Encoding: gzip, br, zstd\r\n"))
		a := c.answer("GET")
		want := ""
		if name == "compressed already" {
			want = "br"
		}
		if got := a.Header.Get("Content-Encoding"); got != want || a.body != text {
			t.Errorf("%s: coding %q, %d bytes", name, got, len(a.body))
		}
	}
	b := startHeads(t, always("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5000\r\n\r\n"+text))
	f := start(t, "compress: {types: [text/html], min_size: 4KiB, level: 9}\n"+oneSite(httpTo(b.address), `{path: /off, http: "http://`+b.address+`", compress: false}`))
	for request, want := range map[string]string{
		"GET / HTTP/1.1\r\nHost: example.com\r\nAccept-Encoding: gzip\r\n\r\n":                     "gzip",
		"GET / HTTP/1.1\r\nHost: example.com\r\nAccept-Encoding: gzip\r\nRange: bytes=0-9\r\n\r\n": "",
		"GET / HTTP/1.0\r\nHost: example.com\r\nAccept-Encoding: gzip\r\n\r\n":                     "",
		"GET /off HTTP/1.1\r\nHost: example.com\r\nAccept-Encoding: gzip\r\n\r\n":                  "",
	} {
		c := f.dial()
		c.send(request)
		if a := c.expect(200); a.Header.Get("Content-Encoding") != want || a.err != nil {
			t.Errorf("%q: coding %q, %v", request, a.Header.Get("Content-Encoding"), a.err)
		}
	}
	c := f.dial()
	c.send("HEAD / HTTP/1.1\r\nHost: example.com\r\nAccept-Encoding: gzip\r\n\r\n")
	if a := c.answer("HEAD"); a.Header.Get("Content-Encoding") != "gzip" || a.ContentLength >= 0 {
		t.Errorf("HEAD: %v", a.Header)
	}
	c.send(get)
	c.expect(200)
}

// TestPiecesOfAPageArriveAsTheyComeThoughCompressed: a page that is made slowly is not held back.
func TestPiecesOfAPageArriveAsTheyComeThoughCompressed(t *testing.T) {
	more := make(chan string)
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n")
		for piece := range more {
			fmt.Fprintf(conn, "%x\r\n%s\r\n", len(piece), piece)
		}
		io.WriteString(conn, "0\r\n\r\n")
	})
	f := start(t, "compress: true\n"+oneSite(httpTo(b.address)))
	c := f.dial()
	c.send(request("GET", "/", "Accept-Encoding: gzip\r\n"))
	more <- "first"
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := gzip.NewReader(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, piece := range []string{"first", "second", "third"} {
		if piece != "first" {
			more <- piece
		}
		p := make([]byte, len(piece))
		if _, err := io.ReadFull(r, p); err != nil || string(p) != piece {
			t.Fatalf("%q, %v; want %q", p, err, piece)
		}
	}
	close(more)
	if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestClientThatLeavesACompressedAnswer(t *testing.T) {
	body := prose(20_000_000)
	b := startHeads(t, always("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: "+fmt.Sprint(len(body))+"\r\n\r\n"+body))
	f := start(t, "compress: true\n"+oneSite(httpTo(b.address)))
	for range 20 {
		c := f.dial()
		c.send(request("GET", "/", "Accept-Encoding: br\r\n"))
		c.head()
		c.Close()
	}
	await(t, "their lines", func() bool { return strings.Count(f.log.String(), `"status":499`) == 20 })
}

// TestBrokenAnswerDoesNotLookWholeWhenCompressed: the backend leaves in the middle.
func TestBrokenAnswerDoesNotLookWholeWhenCompressed(t *testing.T) {
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n"+prose(50_000))
	})
	f := start(t, "compress: true\n"+oneSite(httpTo(b.address)))
	c := f.dial()
	c.send(request("GET", "/", "Accept-Encoding: gzip\r\n"))
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); err == nil {
		t.Errorf("%d bytes look like all", n)
	}
}
