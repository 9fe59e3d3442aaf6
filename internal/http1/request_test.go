package http1

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"wstunnel/internal/head"
)

// told is what a decoder tells of a stream: a line for each event, bodies joined.
func told(stream string, piece int) (lines []string, err error) {
	var d RequestDecoder
	body := ""
	for len(stream) > 0 {
		p := []byte(stream[:min(piece, len(stream))])
		stream = stream[len(p):]
		for event := Head; event != More; {
			var n int
			n, event, err = d.Next(p)
			if err != nil {
				return lines, err
			}
			p = p[n:]
			switch event {
			case Head:
				r := d.Request
				lines = append(lines, fmt.Sprintf("%s %s 1.%d %s %d", r.Method, r.Target, r.Minor, r.Host, r.Length))
			case Data:
				body += string(d.Data)
			case End:
				line := "end " + body
				for _, f := range d.Trailers {
					line += " " + f.Name + "=" + f.Value
				}
				lines, body = append(lines, line), ""
			}
		}
		if len(p) > 0 {
			return lines, errors.New("bytes left")
		}
	}
	if body != "" {
		lines = append(lines, "open "+body)
	}
	return lines, nil
}

const hostLine = "Host: a\r\n"

func TestRequestsInOrder(t *testing.T) {
	tests := []struct {
		stream string
		want   []string
	}{
		{"GET / HTTP/1.1\r\n" + hostLine + "\r\n", []string{"GET / 1.1 a 0", "end "}},
		{"GET / HTTP/1.0\r\n\r\n", []string{"GET / 1.0  0", "end "}},
		{"\r\nGET / HTTP/1.1\r\n" + hostLine + "\r\n\r\nHEAD /b HTTP/1.1\r\n" + hostLine + "\r\n", []string{"GET / 1.1 a 0", "end ", "HEAD /b 1.1 a 0", "end "}},
		{"POST / HTTP/1.1\r\n" + hostLine + "content-length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n" + hostLine + "\r\n", []string{"POST / 1.1 a 5", "end hello", "GET / 1.1 a 0", "end "}},
		{"POST / HTTP/1.1\r\n" + hostLine + "TRANSFER-ENCODING: CHUNKED\r\n\r\n5\r\nhello\r\n006;a=b\r\n world\r\n0\r\nX: y\r\n\r\n", []string{"POST / 1.1 a -1", "end hello world X=y"}},
		{"POST / HTTP/1.1\r\n" + hostLine + "Transfer-Encoding: chunked\r\n\r\n1 ; a = \"b\\\"c\" ;d\r\nx\r\n0\r\n\r\n", []string{"POST / 1.1 a -1", "end x"}},
		{"GET http://a/b HTTP/1.1\r\n" + hostLine + "\r\n", []string{"GET http://a/b 1.1 a 0", "end "}},
		{"GET http://A:80 HTTP/1.1\r\n" + hostLine + "\r\n", []string{"GET http://A:80 1.1 A:80 0", "end "}},
		{"GET http://a/ HTTP/1.0\r\n\r\n", []string{"GET http://a/ 1.0 a 0", "end "}},
		{"OPTIONS * HTTP/1.1\r\n" + hostLine + "\r\n", []string{"OPTIONS * 1.1 a 0", "end "}},
		{"GET / HTTP/1.1\r\n" + hostLine + "Upgrade: foo, WebSocket\r\nConnection: upgrade\r\n\r\nGET / HTTP/9\r\n", []string{"GET / 1.1 a 0", "open GET / HTTP/9\r\n"}},
		{"GET / HTTP/1.1\r\n" + hostLine + "Upgrade: websocket\r\n\r\n", []string{"GET / 1.1 a 0", "end "}},
	}
	for _, tt := range tests {
		for _, piece := range []int{1, 7, 1 << 20} {
			got, err := told(tt.stream, piece)
			if err != nil || strings.Join(got, "|") != strings.Join(tt.want, "|") {
				t.Errorf("%q in pieces of %d: %q, %v; want %q", tt.stream, piece, got, err, tt.want)
			}
		}
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	get := "GET / HTTP/1.1\r\n" + hostLine
	post := "POST / HTTP/1.1\r\n" + hostLine
	chunked := post + "Transfer-Encoding: chunked\r\n\r\n"
	tests := []struct {
		stream string
		status int
	}{
		{"GET / HTTP/1.1\r\n\r\n", 400},
		{get + hostLine + "\r\n", 400},
		{"GET / HTTP/1.1\r\nHost:\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a,b\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: b\xc3\xbccher\r\n\r\n", 400},
		{"GET http://b/ HTTP/1.1\r\n" + hostLine + "\r\n", 400},
		{"GET http://u@a/ HTTP/1.1\r\n" + hostLine + "\r\n", 400},
		{"GET * HTTP/1.1\r\n" + hostLine + "\r\n", 400},
		{"GET / HTTP/2.0\r\n", 505},
		{"GET / HTTP/9.9\r\n", 505},
		{"GET / HTTP/1.10\r\n", 400},
		{"GET /x\r\n", 400},
		{"GET / HTTP/1.1\n", 400},
		{"\x16\x03\x01", 400},
		{" GET", 400},
		{"\r\n\r\n", 400},
		{"\rG", 400},
		{get + "X : y\r\n\r\n", 400},
		{get + " X: y\r\n\r\n", 400},
		{get + "X: y\r\n z\r\n\r\n", 400},
		{get + "X: \x00\r\n\r\n", 400},
		{get + "X: a\rb\r\n\r\n", 400},
		{get + "X: a\nY: b\r\n\r\n", 400},
		{get + "X\r\n\r\n", 400},
		{get + ": y\r\n\r\n", 400},
		{get + strings.Repeat("X: y\r\n", head.MaxFields) + "\r\n", 431},
		{get + "X: " + strings.Repeat("y", MaxRequestHead), 431},
		{get + "Connection: x" + strings.Repeat(",y", head.MaxConnectionTokens) + "\r\n\r\n", 400},
		{get + "Expect: 200-ok\r\n\r\n", 417},
		{get + "Upgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\n", 400},
		{get + "Upgrade: websocket\r\nConnection: upgrade\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		{post + "Content-Length: +5\r\n\r\n", 400},
		{post + "Content-Length: 5, 5\r\n\r\n", 400},
		{post + "Content-Length: 5\r\nContent-Length: 5\r\n\r\n", 400},
		{post + "Content-Length:\r\n\r\n", 400},
		{post + "Content-Length: 9223372036854775808\r\n\r\n", 400},
		{post + "Transfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n", 400},
		{"POST / HTTP/1.0\r\n" + hostLine + "Transfer-Encoding: chunked\r\n\r\n", 400},
		{post + "Transfer-Encoding: gzip\r\n\r\n", 400},
		{post + "Transfer-Encoding: chunked, gzip\r\n\r\n", 400},
		{post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		{post + "Transfer-Encoding:\r\n\r\n", 400},
		{post + "Transfer-Encoding: gzip, chunked\r\n\r\n", 501},
		{post + "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n", 501},
		{chunked + "+5\r\nhello", 400},
		{chunked + "5\nhello", 400},
		{chunked + "5\r\nhello0", 400},
		{chunked + "5\r\nhello\n0", 400},
		{chunked + "\r\n", 400},
		{chunked + "1000000000000000\r\n", 400},
		{chunked + "5;\r\n", 400},
		{chunked + "5;a=\r\n", 400},
		{chunked + "5;a=\"\r\n\"\r\n", 400},
		{chunked + "5;a=\"\\\x00\"\r\n", 400},
		{chunked + "5;" + strings.Repeat("a", maxChunkLine) + "\r\n", 400},
		{chunked + strings.Repeat("1;"+strings.Repeat("a", 4000)+"\r\nx\r\n", 5), 400},
		{chunked + "0\r\nX: y\n\r\n", 400},
		{chunked + "0\r\n\n", 400},
		{chunked + "0\r\nX\r\n\r\n", 400},
		{chunked + "0\r\nX: " + strings.Repeat("y", maxTrailers) + "\r\n\r\n", 400},
		{chunked + "0\r\n" + strings.Repeat("X: y\r\n", 3000) + "\r\n", 400},
	}
	for _, tt := range tests {
		for _, piece := range []int{1, 7, 1 << 20} {
			_, err := told(tt.stream, piece)
			var bad *head.Error
			if !errors.As(err, &bad) || bad.Status != tt.status {
				t.Errorf("%q in pieces of %d: %v, want %d", tt.stream[:min(len(tt.stream), 120)], piece, err, tt.status)
			}
		}
	}
}

func TestWhatAHeadSays(t *testing.T) {
	for _, tt := range []struct {
		lines         string
		minor         int
		close, expect bool
		protocol      string
	}{
		{"", 1, false, false, ""},
		{"Connection: close\r\n", 1, true, false, ""},
		{"Connection: a, CLOSE\r\n", 1, true, false, ""},
		{"", 0, true, false, ""},
		{"Connection: keep-alive\r\n", 0, false, false, ""},
		{"Content-Length: 1\r\nExpect: 100-Continue\r\n", 1, false, true, ""},
		{"Expect: 100-continue\r\n", 0, true, false, ""},
		{"Connection: keep-alive\r\nConnection: upgrade\r\nUpgrade: websocket\r\n", 1, false, false, "websocket"},
		{"Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\n", 0, false, false, ""},
		{"Connection: keep-alive, uPGRADE\r\nUpgrade: WebSocket\r\n", 1, false, false, "websocket"},
		{"Connection: upgrade\r\nUpgrade: h2c, websocket\r\n", 1, false, false, "websocket"},
		{"Upgrade: websocket\r\n", 1, false, false, ""},
		{"Connection: Upgrades\r\nUpgrade: websocket\r\n", 1, false, false, ""},
		{"Connection: upgrade\r\nUpgrade: h2c\r\n", 1, false, false, ""},
	} {
		var d RequestDecoder
		_, event, err := d.Next([]byte(fmt.Sprintf("GET / HTTP/1.%d\r\n%s%s\r\n", tt.minor, hostLine, tt.lines)))
		if r := d.Request; event != Head || err != nil || r.Close != tt.close || r.Expect != tt.expect || r.Protocol != tt.protocol {
			t.Errorf("%q: %+v, %v", tt.lines, r, err)
		}
	}
}

func TestBodyMayBeSkipped(t *testing.T) {
	var d RequestDecoder
	p := []byte("POST / HTTP/1.1\r\n" + hostLine + "Content-Length: 10\r\n\r\nabc")
	n, _, _ := d.Next(p)
	d.Next(p[n:])
	if d.Payload() != 7 {
		t.Fatalf("%d bytes to come", d.Payload())
	}
	d.Skip(7)
	if _, event, err := d.Next(nil); event != End || err != nil || !d.Idle() {
		t.Errorf("%v, %v", event, err)
	}
}
