package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestResponseBodyThatStopsComingEndsTheExchange: pauses shorter than response_body are none of it, and the client sees that the answer is
// not whole.
func TestResponseBodyThatStopsComingEndsTheExchange(t *testing.T) {
	piece := strings.Repeat("x", 100_000)
	const chunked = "Transfer-Encoding: chunked\r\n\r\n"
	tests := []struct{ name, head, piece string }{
		{"Content-Length", "Content-Length: 100\r\n\r\n", "hello"},
		{"long Content-Length", "Content-Length: 10000000\r\n\r\n", piece},
		{"chunks", chunked, "5\r\nhello\r\n"},
		{"chunk without its data", chunked, "5\r\nhello\r\n5\r\nhello\r\n100\r\n" + strings.Repeat("x", 256) + "\r\n"},
		{"until the end", "\r\n", "hello"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			silent := make(chan time.Time, 3)
			b := startBackend(t, func(_ *backend, conn net.Conn) {
				br := bufio.NewReader(conn)
				rawHead(br)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+tt.head)
				for range 4 {
					time.Sleep(250 * time.Millisecond)
					io.WriteString(conn, tt.piece)
				}
				silent <- time.Now()
				io.Copy(io.Discard, br)
			})
			location := strings.Replace(httpTo(b.address), "}", ", timeouts: {response_body: 500ms}}", 1)
			f := startTLS(t, secureSite(location))
			for name, address := range map[string]string{"http": "http://" + f.plain, "https": "https://" + f.secure, "h2": "https://" + f.secure} {
				transport := &http.Transport{
					TLSClientConfig: &tls.Config{ServerName: "example.com", InsecureSkipVerify: true}, ForceAttemptHTTP2: name == "h2",
				}
				defer transport.CloseIdleConnections()
				req, err := http.NewRequest("GET", address, nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Host = "example.com"
				resp, err := (&http.Client{Timeout: patience, Transport: transport}).Do(req)
				if err != nil {
					t.Fatal(err)
				}
				n, err := io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
				if took := time.Since(<-silent); err == nil || took < 300*time.Millisecond || took > 3*time.Second {
					t.Errorf("%s: %d bytes and %v, %v after the last byte", name, n, err, took)
				}
			}
			if log := f.log.String(); !strings.Contains(log, "reading the response body") {
				t.Error("the log does not say why")
			}
		})
	}
}

// TestLongBodiesReachASlowClientWhole sends two of each length on one connection, to a client that lets the kernel's buffers fill first.
func TestLongBodiesReachASlowClientWhole(t *testing.T) {
	body := make([]byte, 9<<20)
	for i := range body {
		body[i] = byte(i * 2654435761 >> 13)
	}
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		for {
			head, err := rawHead(br)
			if err != nil {
				return
			}
			n, _ := strconv.Atoi(strings.TrimPrefix(strings.Fields(head)[1], "/"))
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", n)
			conn.Write(body[:n])
		}
	})
	f := startTLS(t, secureSite(httpTo(b.address)))
	for name, dial := range map[string]func() *client{"plain": f.dial, "TLS": f.dialSecure} {
		for _, n := range []int{64 << 10, 64<<10 + 1, 1 << 20, 9 << 20} {
			c := dial()
			for range 2 {
				c.send(fmt.Sprintf("GET /%d HTTP/1.1\r\n%s\r\n", n, host))
				time.Sleep(30 * time.Millisecond)
				if a := c.expect(200); a.err != nil || a.body != string(body[:n]) {
					t.Errorf("%s, %d bytes: got %d, %v", name, n, len(a.body), a.err)
				}
			}
		}
	}
}
