package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// recorded is a connection that notes what was read from it.
type recorded struct {
	net.Conn
	read []byte
}

func (r *recorded) Read(p []byte) (int, error) {
	n, err := r.Conn.Read(p)
	r.read = append(r.read, p[:n]...)
	return n, err
}

var smallAnswers = []string{"/", "/4k", "/12k", "/fields", "/files/small.txt", "/files/large.txt", "/files/none"}

// startSmall runs a server that has [smallAnswers].
func startSmall(t *testing.T) *front {
	t.Helper()
	dir := t.TempDir()
	for name, size := range map[string]int{"small.txt": 100, "large.txt": 14_000} {
		if err := os.WriteFile(filepath.Join(dir, name), make([]byte, size), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := startHeads(t, func(head string) string {
		body := strings.Repeat("x", map[string]int{"/": 2, "/4k": 4096, "/12k": 12_000, "/fields": 5}[strings.Fields(head)[1]])
		fields := ""
		if strings.HasPrefix(head, "GET /fields ") {
			fields = strings.Repeat("X-Long: "+strings.Repeat("a", 100)+"\r\n", 60)
		}
		return fmt.Sprintf("HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s", fields, len(body), body)
	})
	return startTLS(t, secureSite(httpTo(b.address), `{path: /files/, static: "`+dir+`"}`))
}

// TestSmallAnswerLeavesInOneWrite, a backend's, a file, and one of our own, over TLS in one record.
func TestSmallAnswerLeavesInOneWrite(t *testing.T) {
	f := startSmall(t)
	for _, path := range smallAnswers {
		request := strings.Replace(get, "/ ", path+" ", 1)
		t.Run("plain "+path, func(t *testing.T) {
			c := f.dial()
			buf := make([]byte, 64<<10)
			for range 20 {
				c.send(request)
				n, err := c.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				head, body, _ := strings.Cut(string(buf[:n]), "\r\n\r\n")
				if length := field(head+"\r\n\r\n", "Content-Length"); len(length) != 1 || length[0] != fmt.Sprint(len(body)) {
					t.Fatalf("one read brought %d bytes of the body of an answer with Content-Length %s", len(body), length)
				}
			}
		})
		t.Run("TLS "+path, func(t *testing.T) {
			wire, secure := f.recordTLS("http/1.1")
			c := clientOver(t, secure)
			for i := range 5 {
				wire.read = nil
				c.send(request)
				c.answer("GET")
				if n := records(wire.read); n != 1 && i > 0 { // the tickets of the session come with the first answer
					t.Errorf("the answer came in %d records", n)
				}
			}
		})
	}
}

// recordTLS connects to the TLS listener and notes what comes on the wire.
func (f *front) recordTLS(protocol string) (*recorded, *tls.Conn) {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.secure)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	wire := &recorded{Conn: conn}
	return wire, tls.Client(wire, &tls.Config{ServerName: "example.com", InsecureSkipVerify: true, NextProtos: []string{protocol}})
}

// records counts the TLS records in p.
func records(p []byte) (n int) {
	for len(p) >= 5 {
		p = p[min(len(p), 5+int(p[3])<<8+int(p[4])):]
		n++
	}
	return n
}

// TestHeldAnswerLeavesWhenTheBackendPauses: it is small, but not whole.
func TestHeldAnswerLeavesWhenTheBackendPauses(t *testing.T) {
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		rawHead(br)
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
		rawHead(br)
		io.WriteString(conn, "world")
	})
	c := start(t, oneSite(httpTo(b.address))).dial()
	c.send(get)
	c.head()
	if got := mustRead(t, c.br, 5); got != "hello" {
		t.Errorf("got %q", got)
	}
}
