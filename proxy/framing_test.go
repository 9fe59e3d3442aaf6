//go:build !linux || portable

package proxy

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"wstunnel/internal/head"
)

const hostLine = "Host: a\r\n"

func TestCheckRequestHead(t *testing.T) {
	tests := []struct {
		head   string
		status int // 0 for one that is in order
		want   bodyFraming
	}{
		{"GET / HTTP/1.1\r\n" + hostLine, 0, bodyFraming{}},
		{"GET / HTTP/1.0\r\n", 0, bodyFraming{}},
		{"POST / HTTP/1.1\r\n" + hostLine + "content-length: 7\r\n", 0, bodyFraming{length: 7}},
		{"POST / HTTP/1.1\r\n" + hostLine + "Content-Length: 9223372036854775807\r\n", 0, bodyFraming{length: 1<<63 - 1}},
		{"POST / HTTP/1.1\r\n" + hostLine + "TRANSFER-ENCODING: CHUNKED\r\n", 0, bodyFraming{chunked: true}},
		{"GET / HTTP/1.1\r\n" + hostLine + "Upgrade: foo, WebSocket\r\nConnection: upgrade\r\n", 0, bodyFraming{upgrade: true}},
		{"GET http://a/b HTTP/1.1\r\n" + hostLine, 0, bodyFraming{}},
		{"GET http://A:80 HTTP/1.1\r\n" + hostLine, 0, bodyFraming{}},
		{"GET http://a/ HTTP/1.0\r\n", 0, bodyFraming{}},
		{"OPTIONS * HTTP/1.1\r\n" + hostLine, 0, bodyFraming{}},
		{"GET * HTTP/1.1\r\n" + hostLine, 400, bodyFraming{}},
		{"GET / HTTP/1.1\r\n", 400, bodyFraming{}},
		{"GET / HTTP/1.1\r\n" + hostLine + hostLine, 400, bodyFraming{}},
		{"GET http://b/ HTTP/1.1\r\n" + hostLine, 400, bodyFraming{}},
		{"GET / HTTP/2.0\r\n" + hostLine, 505, bodyFraming{}},
		{"GET / HTTP/0.9\r\n" + hostLine, 505, bodyFraming{}},
		{"POST / HTTP/1.1\r\n" + hostLine + "Content-Length: 9223372036854775808\r\n", 400, bodyFraming{}},
		{"POST / HTTP/1.1\r\n" + hostLine + "Transfer-Encoding: gzip\r\n", 400, bodyFraming{}},
		{"POST / HTTP/1.1\r\n" + hostLine + "Transfer-Encoding: gzip, chunked\r\n", 501, bodyFraming{}},
		{"POST / HTTP/1.1\r\n" + hostLine + "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 501, bodyFraming{}},
		{"POST / HTTP/1.1\r\n" + hostLine + "Transfer-Encoding: chunked, gzip\r\n", 400, bodyFraming{}},
		{"GET / HTTP/1.1\r\nHost:\r\n", 400, bodyFraming{}},
		{"GET / HTTP/1.0\r\nHost: \r\n", 400, bodyFraming{}},
		{"GET / HTTP/1.1\r\n" + hostLine + strings.Repeat("X: y\r\n", head.MaxFields-1), 0, bodyFraming{}},
		{"GET / HTTP/1.1\r\n" + hostLine + strings.Repeat("X: y\r\n", head.MaxFields), 431, bodyFraming{}},
		{"GET / HTTP/1.1\r\n" + hostLine + "Connection: x" + strings.Repeat(",y", head.MaxConnectionTokens-1) + "\r\n", 0, bodyFraming{}},
		{"GET / HTTP/1.1\r\n" + hostLine + "Connection: x" + strings.Repeat(",y", head.MaxConnectionTokens) + "\r\n", 400, bodyFraming{}},
		{"GET / HTTP/1.1\r\n" + hostLine + strings.Repeat("Connection: x\r\n", head.MaxConnectionTokens+1), 400, bodyFraming{}},
		{"POST / HTTP/1.1\r\n" + hostLine + "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", 400, bodyFraming{}},
		{"POST / HTTP/1.0\r\n" + hostLine + "Transfer-Encoding: chunked\r\n", 400, bodyFraming{}},
	}
	for _, tt := range tests {
		got, err := checkRequestHead([]byte(tt.head + "\r\n"))
		status := 0
		if err != nil {
			status = err.Status
		}
		if status != tt.status || status == 0 && got != tt.want {
			t.Errorf("%q: %+v, %v; want %+v, %d", tt.head, got, err, tt.want, tt.status)
		}
	}
}

// watched is what the watcher makes of a stream.
type watched struct {
	passed  []byte // what goes on to net/http
	heads   []int  // where in it each accepted head ends
	refused bool
	err     error
	framing requestFraming
}

// watchAll feeds a stream in pieces whose lengths are drawn from sizes.
func watchAll(stream, sizes []byte) *watched {
	w := &watched{}
	accepted := 0
	w.framing.accepted = func() { accepted++ }
	for i := 0; len(stream) > 0 && w.err == nil && !w.refused; i++ {
		size := 1
		if len(sizes) > 0 {
			size = 1 + int(sizes[i%len(sizes)])
		}
		piece := bytes.Clone(stream[:min(size, len(stream))])
		stream = stream[len(piece):]
		var n int
		n, w.err = w.framing.watch(piece)
		w.passed = append(w.passed, piece[:n]...)
		w.refused = w.framing.refused != nil
		for len(w.heads) < accepted {
			w.heads = append(w.heads, len(w.passed)) // exact when fed byte by byte
		}
	}
	return w
}

// counter counts what a bufio.Reader has taken.
type counter struct {
	io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += n
	return n, err
}

// parsed is one request as net/http has it.
type parsed struct {
	headEnd, bodyEnd int // offsets; bodyEnd is -1 if the body does not end in order
}

// parseAll reads requests with net/http until it fails, or for as long as requests are read at all.
func parseAll(stream []byte) (requests []parsed) {
	source := &counter{Reader: bytes.NewReader(stream)}
	br := bufio.NewReader(source)
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			return requests
		}
		p := parsed{headEnd: source.n - br.Buffered(), bodyEnd: -1}
		if _, err := io.Copy(io.Discard, req.Body); err == nil {
			p.bodyEnd = source.n - br.Buffered()
		}
		requests = append(requests, p)
		if p.bodyEnd < 0 {
			return requests
		}
	}
}

// FuzzRequestFraming holds the watcher against net/http: where the watcher accepts a head, net/http must see the same
// head, and a body of the same length behind it.
func FuzzRequestFraming(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
		"\r\nPOST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX: y\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n005\r\nhello\r\n000\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\nHEAD http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x00",
		"GET / HTTP/1.1\nHost: a\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	} {
		f.Add([]byte(seed), []byte{0})
		f.Add([]byte(seed), []byte{3, 0, 200})
	}
	f.Fuzz(func(t *testing.T, stream, sizes []byte) {
		w := watchAll(stream, nil)
		inPieces := watchAll(stream, sizes)
		if len(inPieces.heads) != len(w.heads) || inPieces.refused != w.refused || (inPieces.err == nil) != (w.err == nil) {
			t.Fatalf("%q in pieces %v: %d heads, refused %v, %v; byte by byte: %d, %v, %v", stream, sizes,
				len(inPieces.heads), inPieces.refused, inPieces.err, len(w.heads), w.refused, w.err)
		}
		requests := parseAll(w.passed)
		for i, end := range w.heads {
			if i >= len(requests) {
				return // net/http refuses more than the watcher: then it answers, and closes
			}
			if requests[i].headEnd != end {
				t.Fatalf("%q: head %d ends at %d for the watcher, at %d for net/http", w.passed, i+1, end, requests[i].headEnd)
			}
			last := i == len(w.heads)-1
			if last && w.framing.state == unwatched && !w.refused {
				return // an upgrade
			}
			if body := requests[i].bodyEnd; body >= 0 && last && !w.refused && w.err == nil {
				again := watchAll(w.passed[:body], nil)
				if again.framing.state != inHead || len(again.framing.line) > 0 {
					t.Fatalf("%q: body %d ends at %d for net/http, but not for the watcher", w.passed, i+1, body)
				}
			}
		}
		if len(requests) > len(w.heads) && w.framing.state != unwatched {
			t.Fatalf("%q: net/http sees %d requests, the watcher %d", w.passed, len(requests), len(w.heads))
		}
	})
}

// FuzzResponseHead holds what a backend may send against the checks on the way to a client.
func FuzzResponseHead(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2\r\nok\r\n0\r\nX: y\r\n\r\n",
		"HTTP/1.0 200\nX: a\n b\n\nuntil the end",
		"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n\x81\x00",
		"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 099 \r\n\r\n", "\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		client, server := net.Pipe()
		go func() {
			server.Write(stream)
			server.Close()
		}()
		defer client.Close()
		conn := &backendConn{Conn: client, br: bufio.NewReader(client)}
		resp, err := conn.readResponse(http.MethodGet)
		if err != nil {
			return
		}
		for name, values := range resp.Header {
			for _, v := range append(values, name) {
				if strings.ContainsAny(v, "\r\n\x00") {
					t.Fatalf("%q: header %q: %q", stream, name, v)
				}
			}
		}
		if len(resp.Header["Content-Length"]) > 1 || len(resp.TransferEncoding) > 0 && resp.ContentLength > 0 {
			t.Fatalf("%q: %v", stream, resp.Header)
		}
		if resp.StatusCode < 100 || resp.StatusCode > 999 {
			t.Fatalf("%q: status %d", stream, resp.StatusCode)
		}
		io.Copy(io.Discard, resp.body)
	})
}
