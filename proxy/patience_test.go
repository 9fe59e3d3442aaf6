package proxy_test

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// slowly is a backend that needs longer for an answer than hasty's keepalive and request_head last.
func slowly(t *testing.T) *backend {
	return startHeads(t, func(string) string {
		time.Sleep(800 * time.Millisecond)
		return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	})
}

const hastyKeepAlive = "timeouts: {request_head: 300ms, keepalive: 500ms}\n"

func TestIdleClientConnectionIsClosedAfterKeepalive(t *testing.T) {
	c := start(t, hastyKeepAlive+oneSite(httpTo(slowly(t).address))).dial()
	c.send(get)
	c.expect(200)
	begin := time.Now()
	if rest := c.rest(); rest != "" {
		t.Errorf("got %q", rest)
	}
	if idle := time.Since(begin); idle < 400*time.Millisecond || idle > 3*time.Second {
		t.Errorf("closed after %s, want 500ms", idle)
	}
}

func TestSecondHeadHasItsOwnTime(t *testing.T) {
	c := start(t, hastyKeepAlive+oneSite(httpTo(startEcho(t).address))).dial()
	c.send(get)
	c.expect(200)
	begin := time.Now()
	for range 10 {
		c.send("G")
		time.Sleep(100 * time.Millisecond)
	}
	c.rest()
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("a head that never ends was waited for %s", took)
	}
}

// TestRequestBehindASlowOneIsAnswered: it came, whole or in part, while the one before it was served.
func TestRequestBehindASlowOneIsAnswered(t *testing.T) {
	f := start(t, hastyKeepAlive+oneSite(httpTo(slowly(t).address)))
	for _, first := range []int{0, 20, len(get)} {
		c := f.dial()
		c.send(get, get[:first])
		time.Sleep(100 * time.Millisecond)
		c.send(get[first:])
		c.expect(200)
		c.expect(200)
	}
}

func TestIdleHTTP2ConnectionIsToldToGoAway(t *testing.T) {
	f := startTLS(t, hastyKeepAlive+secureSite(httpTo(slowly(t).address)))
	c, _ := f.dialH2()
	c.request(1, ":method", "GET", ":scheme", "https", ":authority", "example.com", ":path", "/")
	var answered bool
	var goAway *http2.GoAwayFrame
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				t.Error(err)
			}
			break
		}
		switch frame := frame.(type) {
		case *http2.DataFrame:
			answered = answered || string(frame.Data()) == "ok"
		case *http2.GoAwayFrame:
			goAway = frame
		}
	}
	if !answered {
		t.Error("a stream that takes longer than keepalive was cut")
	}
	if goAway == nil || goAway.LastStreamID != 1 || goAway.ErrCode != http2.ErrCodeNo {
		t.Errorf("the last word was %v", goAway)
	}
}

// TestSilentConnectionsDoNotDelayShutdown: browsers open connections in advance.
func TestSilentConnectionsDoNotDelayShutdown(t *testing.T) {
	f := start(t, oneSite(httpTo(startEcho(t).address)))
	c := f.dial()
	time.Sleep(50 * time.Millisecond)
	if took, err := shutdown(f, patience); err != nil || took > time.Second {
		t.Errorf("shutdown took %s: %v", took, err)
	}
	if rest := c.rest(); rest != "" {
		t.Errorf("got %q", rest)
	}
}

// TestUnaskedBytesInsideTLSSpoilAPooledConnection: they come in one record with an answer, so that the socket itself looks quiet.
func TestUnaskedBytesInsideTLSSpoilAPooledConnection(t *testing.T) {
	// The reader of a TLS backend takes 4096 bytes at once: the forged answer lies in the same record, beyond them.
	first := "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + strings.Repeat("x", 5000)
	forged := "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged"
	b := startSecureBackend(t, func(_ *backend, conn net.Conn) {
		buf := make([]byte, 4096)
		for {
			if _, err := conn.Read(buf); err != nil {
				return
			}
			if strings.HasPrefix(string(buf), "GET /first") {
				io.WriteString(conn, first+forged)
			} else {
				io.WriteString(conn, ok)
			}
		}
	})
	f := start(t, oneSite(`{path: /, http: "https://`+b.address+`", tls_verify: false}`))
	for range 3 {
		c := f.dial()
		c.send(strings.Replace(get, "/ ", "/first ", 1))
		c.expect(200)
		c.send(get)
		if a := c.expect(200); a.body != "ok" {
			t.Fatalf("got %q", a.body)
		}
	}
}

// TestFileThatShrinksEndsItsResponseOnly: a shortened answer must not look whole.
func TestFileThatShrinksEndsItsResponseOnly(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "big")
	if err := os.WriteFile(name, make([]byte, 16<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	f := start(t, oneSite(`{path: /, static: "`+dir+`"}`))
	c := f.dial()
	c.send(strings.Replace(get, "/ ", "/big ", 1))
	c.head()
	if err := os.Truncate(name, 0); err != nil {
		t.Fatal(err)
	}
	if got := len(c.rest()); got >= 16<<20 {
		t.Errorf("got %d bytes", got)
	}
	next := f.dial()
	next.send(get)
	next.expect(404)
}
