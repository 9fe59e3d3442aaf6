package proxy_test

import (
	ctls "crypto/tls"
	"net"
	"strings"
	"testing"
	"time"
)

// TestOneFormOfAHostHoldsForAll asks for a site with a rule of its own on a connection that was made for another, in all the ways
// in which its host can be written.
func TestOneFormOfAHostHoldsForAll(t *testing.T) {
	b := startEcho(t)
	site := func(hosts, more string) string {
		return "  - {hosts: [" + hosts + "], tls: self-signed, " + more + "locations: [" + httpTo(b.address) + "]}\n"
	}
	f := startTLS(t, "sites:\n"+site("example.com", "")+site("bücher.test", `min_version: "1.3", `)+site("_", ""))
	for _, tt := range []struct {
		host   string
		status int
	}{
		{"example.com", 200},
		{"xn--bcher-kva.test", 421},
		{"XN--BCHER-KVA.test.:443", 421},
		{"b\xc3\xbccher.test", 400},
		{"b\xc3\x9ccher.test", 400},
		{"b\xfccher.test", 400},
		{"example.com\xff", 400},
		{"", 400},
	} {
		conn, err := ctls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", f.secure,
			&ctls.Config{ServerName: "example.com", InsecureSkipVerify: true, MaxVersion: ctls.VersionTLS12})
		if err != nil {
			t.Fatal(err)
		}
		conn.SetDeadline(time.Now().Add(patience))
		c := clientOver(t, conn)
		c.send("GET / HTTP/1.1\r\nHost: " + tt.host + "\r\n\r\n")
		if a := c.answer("GET"); a.StatusCode != tt.status {
			t.Errorf("Host %q: %s, want %d", tt.host, a.Status, tt.status)
		}
	}
	if seen := b.seen(); len(seen) != 1 {
		t.Errorf("the backend saw %q", seen)
	}
}

func TestRawBytesInAPathAreUTF8(t *testing.T) {
	b := startEcho(t)
	f := startTLS(t, secureSite(httpTo(b.address)))
	for _, tt := range []struct {
		target string
		status int
	}{
		{"/b\xc3\xbccher", 200},
		{"/b%FCcher", 200},
		{"/?q=\xfc", 200},
		{"/b\xfccher", 400},
		{"/\xc3", 400},
		{"/\xed\xa0\x80", 400},
		{"/\xc0\xaf", 400},
	} {
		for _, c := range []*client{f.dial(), f.dialSecure()} {
			c.send("GET " + tt.target + " HTTP/1.1\r\n" + host + "\r\n")
			if a := c.answer("GET"); a.StatusCode != tt.status {
				t.Errorf("%q: %s, want %d", tt.target, a.Status, tt.status)
			}
		}
	}
}

func TestChunkExtensionsInOrderAreTaken(t *testing.T) {
	b := startEcho(t)
	c := start(t, oneSite(httpTo(b.address))).dial()
	for _, ext := range []string{"", ";a", ";a=b", `;a="b c"`, `;a="\"";b`, `;a="` + strings.Repeat("b", 3000) + `"`} {
		c.send("POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n5" + ext + "\r\nhello\r\n0" + ext + "\r\n\r\n")
		if a := c.expect(200); a.body != "POST / hello" {
			t.Errorf("%q: %q", ext, a.body)
		}
	}
}
