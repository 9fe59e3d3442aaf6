package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// TestEncodersAreGivenBack: after hundreds of answers that ended in every way, answers are still compressed.
func TestEncodersAreGivenBack(t *testing.T) {
	page := prose(400_000)
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		head, err := rawHeadOf(conn)
		if err != nil {
			return
		}
		switch {
		case strings.HasPrefix(head, "GET /break"):
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 900000\r\n\r\n"+page)
		case strings.HasPrefix(head, "GET /trailers"):
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\nX-Sum: 5\r\n\r\n", len(page), page)
		case strings.HasPrefix(head, "GET /wrong"):
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\nzz\r\n", len(page), page)
		default:
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", len(page), page)
		}
	})
	f := startTLS(t, "compress: true\n"+secureSite(`{path: /off, buffer: {response: off}, http: "http://`+b.address+`"}`, httpTo(b.address)))
	for range 60 {
		for _, path := range []string{"/break", "/wrong", "/", "/off"} {
			c := f.dialSecure()
			c.send(request("GET", path, "Accept-Encoding: zstd\r\n"))
			if path == "/" || path == "/off" {
				c.head()
				c.Close()
				continue
			}
			resp, err := http.ReadResponse(c.br, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err == nil {
				t.Errorf("%s looks whole", path)
			}
		}
	}
	for range 20 { // streams that are reset
		c, _ := f.dialH2()
		for stream := uint32(1); stream < 20; stream += 2 {
			c.request(stream, ":method", "GET", ":scheme", "https", ":authority", "example.com", ":path", "/", "accept-encoding", "br")
		}
		c.conn.Close()
	}
	await(t, "their lines", func() bool { return strings.Count(f.log.String(), `"msg":"request"`) >= 240 })
	c := f.dialSecure()
	c.send(request("GET", "/trailers", "Accept-Encoding: gzip\r\n"))
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := inflated(t, resp); got != page || resp.Trailer.Get("X-Sum") != "5" {
		t.Errorf("%d bytes, trailers %v", len(got), resp.Trailer)
	}
}

// TestManyClientsThatDoNotReadCompressedAnswers: further answers go as they are, and what waits is bounded.
func TestManyClientsThatDoNotReadCompressedAnswers(t *testing.T) {
	page := prose(1_000_000)
	b := startHeads(t, always("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: "+fmt.Sprint(len(page))+"\r\n\r\n"+page))
	f := start(t, "compress: true\n"+oneSite(httpTo(b.address)))
	var clients []*client
	for range 12 {
		c := f.dial()
		c.send(request("GET", "/", "Accept-Encoding: gzip\r\n"))
		clients = append(clients, c)
	}
	for i, c := range clients {
		resp, err := http.ReadResponse(c.br, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := inflated(t, resp); got != page {
			t.Fatalf("client %d: %d bytes", i, len(got))
		}
	}
}

func rawHeadOf(conn net.Conn) (string, error) {
	var b strings.Builder
	p := make([]byte, 4096)
	for !strings.Contains(b.String(), "\r\n\r\n") {
		n, err := conn.Read(p)
		b.Write(p[:n])
		if err != nil {
			return "", err
		}
	}
	return b.String(), nil
}
