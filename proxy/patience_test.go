package proxy_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

const restless = "timeouts: {request_head: 10s, keepalive: 30s}\n"

// TestIdleClientConnectionIsClosedAfterKeepalive, though its answer took longer.
func TestIdleClientConnectionIsClosedAfterKeepalive(t *testing.T) {
	release := make(chan bool, 1)
	b := startHeld(t, release)
	f := start(t, restless+oneSite(httpTo(b.address)))
	c := f.dial()
	c.send(get)
	b.awaitRequests(t, 1)
	c.waits(f, 50*time.Second)
	release <- true
	c.expect(200)
	c.waits(f, 25*time.Second)
	f.server.Skip(5 * time.Second)
	if rest := c.rest(); rest != "" {
		t.Errorf("got %q", rest)
	}
}

func TestSecondHeadHasItsOwnTime(t *testing.T) {
	f := start(t, restless+oneSite(httpTo(startEcho(t).address)))
	c := f.dial()
	c.send(get)
	c.expect(200)
	c.send("G")
	for range 4 {
		c.waits(f, 2*time.Second)
		c.send("E")
	}
	f.server.Skip(2 * time.Second)
	if rest := c.rest(); rest != "" {
		t.Errorf("got %q", rest)
	}
}

// TestRequestBehindASlowOneIsAnswered: it came, whole or in part, while the one before it was served.
func TestRequestBehindASlowOneIsAnswered(t *testing.T) {
	release := make(chan bool, 2)
	b := startHeld(t, release)
	f := start(t, restless+oneSite(httpTo(b.address)))
	for i, first := range []int{0, 20, len(get)} {
		c := f.dial()
		c.send(get, get[:first])
		b.awaitRequests(t, 2*i+1)
		c.waits(f, 50*time.Second)
		c.send(get[first:])
		release <- true
		release <- true
		c.expect(200)
		c.expect(200)
	}
}

func TestIdleHTTP2ConnectionIsToldToGoAway(t *testing.T) {
	release := make(chan bool, 1)
	b := startHeld(t, release)
	f := startTLS(t, restless+secureSite(httpTo(b.address)))
	c, _ := f.dialH2()
	c.request(1, getPath("/")...)
	b.awaitRequests(t, 1)
	f.server.Skip(50 * time.Second)
	release <- true
	if got := c.whole(1); got != `200 "ok" end` {
		t.Errorf("answered %s", got)
	}
	f.server.Skip(25 * time.Second)
	c.WritePing(false, [8]byte{})
	for pinged := false; !pinged; {
		switch frame := c.next().(type) {
		case *http2.PingFrame:
			pinged = frame.IsAck()
		case *http2.GoAwayFrame:
			t.Fatal("told to go away too early")
		}
	}
	f.server.Skip(5 * time.Second)
	for {
		if goAway, ok := c.next().(*http2.GoAwayFrame); ok {
			if goAway.LastStreamID != 1 || goAway.ErrCode != http2.ErrCodeNo {
				t.Errorf("the last word was %v", goAway)
			}
			break
		}
	}
	f.server.Skip(time.Second)
	if frame, err := c.ReadFrame(); err != io.EOF {
		t.Errorf("then came %v, %v", frame, err)
	}
}

// TestSilentConnectionsDoNotDelayShutdown: browsers open connections in advance.
func TestSilentConnectionsDoNotDelayShutdown(t *testing.T) {
	f := start(t, "timeouts: {request_head: 10m}\n"+oneSite(httpTo(startEcho(t).address)))
	c := f.dial()
	await(t, "the connection", func() bool { return f.server.Counts().Clients == 1 })
	if took, err := shutdown(f, patience); err != nil {
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
