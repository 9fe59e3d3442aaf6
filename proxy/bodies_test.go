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
	tests := []struct {
		name, head, piece string
		size              int // of a piece's payload
	}{
		{"Content-Length", "Content-Length: 100\r\n\r\n", "hello", 5},
		{"long Content-Length", "Content-Length: 10000000\r\n\r\n", piece, len(piece)},
		{"chunks", chunked, "5\r\nhello\r\n", 5},
		{"several chunks", chunked, "5\r\nhello\r\n5\r\nhello\r\n100\r\n" + strings.Repeat("x", 256) + "\r\n", 266},
		{"until the end", "\r\n", "hello", 5},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			more, ended := make(chan bool), make(chan error, 1)
			b := startBackend(t, func(_ *backend, conn net.Conn) {
				br := bufio.NewReader(conn)
				rawHead(br)
				io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+tt.head)
				for range 4 {
					pass(more)
					io.WriteString(conn, tt.piece)
				}
				io.Copy(io.Discard, br)
			})
			f := startTLS(t, secureSite(httpTo(b.address)))
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
				piece := make([]byte, tt.size)
				for range 4 {
					f.server.Skip(50 * time.Second)
					more <- true
					if _, err := io.ReadFull(resp.Body, piece); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
				}
				go func() {
					_, err := io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					ended <- err
				}()
				f.server.Skip(50 * time.Second)
				select {
				case err := <-ended:
					t.Fatalf("%s: ended too early, %v", name, err)
				case <-time.After(20 * time.Millisecond):
				}
				f.server.Skip(10 * time.Second)
				if err := <-ended; err == nil {
					t.Errorf("%s: a clean end", name)
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
