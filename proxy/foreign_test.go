package proxy_test

import (
	"io"
	"strings"
	"testing"
	"time"
)

// TestWhatCanBeNoRequestIsRefusedAtOnce sends no end of a head; the server has ten seconds to wait for one.
func TestWhatCanBeNoRequestIsRefusedAtOnce(t *testing.T) {
	b := startEcho(t)
	f := startTLS(t, secureSite(httpTo(b.address)))
	over := map[string]func() *client{
		"plain": f.dial,
		"TLS":   f.dialSecure,
	}
	tests := []struct {
		name, bytes string
		status      int
	}{
		{"no version", "GET /x\r\n", 400},
		{"version 9.9", "GET / HTTP/9.9\r\n", 505},
		{"HTTP/2 without TLS or ALPN", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505},
		{"ClientHello", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400},
		{"bare LF", "GET / HTTP/1.1\n", 400},
		{"SSH", "SSH-2.0-OpenSSH_9.2\r\n", 400},
		{"control byte", "\x00", 400},
		{"three words", "EHLO mail.example\r\n", 400},
		{"empty line and then one", "\r\nGET /x\r\n", 400},
	}
	for transport, dial := range over {
		for _, tt := range tests {
			for _, before := range []string{"", get} {
				t.Run(transport+" "+tt.name, func(t *testing.T) {
					began := time.Now()
					c := dial()
					if before != "" {
						c.send(before)
						c.expect(200)
					}
					c.send(tt.bytes)
					c.expect(tt.status)
					if took := time.Since(began); took > 4*time.Second {
						t.Errorf("answered after %s", took)
					}
				})
			}
		}
	}
	if seen := b.seen(); strings.Contains(strings.Join(seen, "\n"), "x") {
		t.Errorf("the backend saw %q", seen)
	}
}

// TestRefusedRequestBehindAnotherLosesNoAnswer pipelines both.
func TestRefusedRequestBehindAnotherLosesNoAnswer(t *testing.T) {
	b := startEcho(t)
	f := start(t, oneSite(httpTo(b.address)))
	for _, bad := range []string{"GET /x\r\n", "\x16\x03\x01", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n" + smuggled} {
		for _, pause := range []bool{false, true} {
			c := f.dial()
			c.send(strings.Replace(get, "/", "/first", 1))
			if pause {
				f.server.Skip(0) // so that both come apart
			}
			io.WriteString(c, bad)
			if a := c.expect(200); a.body != "GET /first " {
				t.Errorf("%q: %q", bad, a.body)
			}
			c.expect(400)
			if rest := c.rest(); rest != "" {
				t.Errorf("%q: the connection went on with %q", bad, rest)
			}
		}
	}
}
