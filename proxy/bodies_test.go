package proxy_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"net/http"
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
