package proxy_test

import (
	"bufio"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"wstunnel/internal/upstream"
)

// hint is a line of the log that says what to write.
type hint struct{ Msg, Site, Location, Target string }

// hints are the log's lines that begin in a way.
func (f *front) hints(t *testing.T, begin string) (found []hint) {
	t.Helper()
	for line := range strings.Lines(f.log.String()) {
		var h hint
		if err := json.Unmarshal([]byte(line), &h); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if strings.HasPrefix(h.Msg, begin) {
			found = append(found, h)
		}
	}
	return found
}

// checkHint sends a request three times, and expects one hint.
func (f *front) checkHint(t *testing.T, request string, status int, want hint) {
	t.Helper()
	for range 3 {
		c := f.dial()
		c.send(request)
		c.expect(status)
		c.Close()
	}
	await(t, "the hint", func() bool { return len(f.hints(t, "")) > 0 && slices.Contains(f.hints(t, ""), want) || t.Failed() })
	if n := len(f.hints(t, want.Msg)); n != 1 {
		t.Errorf("%q is told %d times", want.Msg, n)
	}
}

// saying is a backend that answers whatever comes first with some bytes, and closes.
func saying(t *testing.T, bytes string) *backend {
	t.Helper()
	return startBackend(t, func(_ *backend, conn net.Conn) {
		bufio.NewReader(conn).ReadString('\n')
		io.WriteString(conn, bytes)
	})
}

func TestTargetThatSpeaksSomethingElseIsToldOf(t *testing.T) {
	fastCGI := startBackend(t, func(_ *backend, conn net.Conn) { // as PHP-FPM: a record is answered, and anything else ends the connection
		first := make([]byte, 24)
		io.ReadFull(conn, first[:1])
		if first[0] == 1 {
			io.ReadFull(conn, first[1:])
			io.WriteString(conn, "\x01\x0a\x00\x00\x00\x00\x00\x00")
		}
	})
	secure := startSecureBackend(t, func(_ *backend, conn net.Conn) { bufio.NewReader(conn).ReadString('\n') })
	complaining := httptest.NewUnstartedServer(nil)
	complaining.Config.ErrorLog = log.New(io.Discard, "", 0)
	complaining.StartTLS()
	defer complaining.Close()
	complains := complaining.Listener.Addr().String()
	alert, ssh := saying(t, "\x15\x03\x01\x00\x02\x02\x46"), saying(t, "SSH-2.0-OpenSSH_9.2\r\n")
	plain := startBackend(t, func(_ *backend, conn net.Conn) { // as nginx and Apache: what is no request is refused at its first bytes
		conn.Read(make([]byte, 4096))
		io.WriteString(conn, "HTTP/1.1 400 Bad Request\r\n\r\n")
	})
	const tlsBelow = ", and below it tls_ca: with the file of its authority, if that is no public one"
	tests := []struct {
		name, key, target string
		status            int
		hint              string
	}{
		{
			"FastCGI", "http", "http://" + fastCGI.address, 502,
			"the target speaks FastCGI, as PHP-FPM does, not HTTP: write `php: " + fastCGI.address + "` in place of http: or proxy:, and `root:` with the directory of the scripts",
		},
		{
			"FastCGI for a WebSocket", "websocket", "ws://" + fastCGI.address, 502,
			"the target speaks FastCGI, as PHP-FPM does, which knows no WebSockets: a WebSocket server has a port of its own, and that is what to write",
		},
		{"TLS that closes", "http", "http://" + secure.address, 502, "the target speaks TLS, and was asked without: write `https://" + secure.address + "`" + tlsBelow},
		{"TLS that closes, for a WebSocket", "websocket", "ws://" + secure.address, 502, "the target speaks TLS, and was asked without: write `wss://" + secure.address + "`" + tlsBelow},
		{"TLS with an alert", "http", "http://" + alert.address, 502, "the target speaks TLS, and was asked without: write `https://" + alert.address + "`" + tlsBelow},
		{"TLS that complains", "http", "http://" + complains, 400, "the target speaks TLS, and was asked without: write `https://" + complains + "`" + tlsBelow},
		{"no TLS", "http", "https://" + plain.address, 502, "the target speaks plain HTTP, and was asked over TLS: write `http://" + plain.address + "`"},
		{"no TLS for a WebSocket", "websocket", "wss://" + plain.address, 502, "the target speaks plain HTTP, and was asked over TLS: write `ws://" + plain.address + "`"},
		{"SSH", "http", "http://" + ssh.address, 502, "the target speaks SSH, not HTTP: it may be another port that is meant"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := start(t, oneSite(`{path: /, `+tt.key+`: "`+tt.target+`"}`))
			request := get
			if tt.key == "websocket" {
				request = upgrade
			}
			f.checkHint(t, request, tt.status, hint{tt.hint, "example.com", "/", tt.target})
		})
	}
}

func TestTargetOfPHPThatSpeaksHTTPIsToldOf(t *testing.T) {
	plain := saying(t, "HTTP/1.1 400 Bad Request\r\n\r\n")
	root := directory(t, map[string]string{"index.php": "<?php"})
	f := start(t, "sites:\n  - hosts: [example.com]\n    php: "+plain.address+"\n    root: "+root+"\n")
	f.checkHint(t, get, 502, hint{
		"the target of php: speaks no FastCGI: if it is an HTTP server, write `proxy: " + plain.address + "` in place of php:", "example.com", "/", plain.address,
	})
}

func TestBackendThatRefusesHandshakesIsToldOf(t *testing.T) {
	const answer = " X\r\nContent-Length: 0\r\n\r\n"
	for _, tt := range []struct {
		answer, path string
		status       int
		hint         string
	}{
		{
			"HTTP/1.1 200" + answer, "", 200,
			"the target answers a WebSocket's handshake with a page: it is a server of pages, whose WebSockets have another port or path, or a proxy that drops the Upgrade",
		},
		{"HTTP/1.1 404" + answer, "", 404, "the target knows no WebSocket at the path that it was asked for (404); a path in the target, as in `TARGET/socket`, takes the place of the location's"},
		{"HTTP/1.1 404" + answer, "/a", 404, "the target knows no WebSocket at the path that it was asked for (404); a path in the target, as in `ws://127.0.0.1:9000/socket`, takes the place of the location's"},
		{"HTTP/1.1 426" + answer, "", 426, "the target got the Upgrade of a handshake and asks for one (426): it is a proxy that drops the Upgrade, or has another version of WebSocket than the client"},
		{"", "", 502, "the target closes the connection at a WebSocket's handshake without a word; its own log may say why: it may know no such path, or be no WebSocket server"},
	} {
		t.Run(tt.answer, func(t *testing.T) {
			b := startHeads(t, always(tt.answer))
			target := "ws://" + b.address + tt.path
			f := start(t, oneSite(`{path: /, websocket: "`+target+`"}`))
			end := f.hurry()
			f.checkHint(t, upgrade, tt.status, hint{strings.ReplaceAll(tt.hint, "TARGET", target), "example.com", "/", target})
			end()
			if n := len(f.hints(t, "the target")); n != 1 {
				t.Errorf("%d hints", n)
			}
		})
	}
	b := startHeads(t, func(head string) string {
		if field(head, "Upgrade") != nil {
			return "HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"
		}
		return "HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n"
	})
	f := start(t, oneSite(both(b.address)))
	for request, status := range map[string]int{get: 404, upgrade: 403} {
		c := f.dial()
		c.send(request)
		c.expect(status)
	}
	if n := len(f.hints(t, "the target")); n != 0 {
		t.Errorf("%d hints for a page that is not there, and for a client that is refused", n)
	}
}

func TestWebSocketOnALocationForPagesIsToldWithItsTarget(t *testing.T) {
	b := startHeads(t, always(ok))
	dir := t.TempDir()
	const asked = "a WebSocket was asked for on a location that has none; "
	for location, want := range map[string]string{
		`http: "http://` + b.address + `"`:                       "if its backend takes them too, write `proxy: http://ADDRESS` in place of http:, or `websocket: ws://ADDRESS` beside it",
		`http: "https://` + b.address + `/a", tls_verify: false`: "if its backend takes them too, write `proxy: https://ADDRESS/a` in place of http:, or `websocket: wss://ADDRESS/a` beside it",
		`http: "unix:/run/app.sock"`:                             "if its backend takes them too, write `proxy: unix:/run/app.sock` in place of http:, or `websocket: unix:/run/app.sock` beside it",
		`static: ` + dir:                                         "if there is a backend for it, write `websocket: ws://127.0.0.1:PORT` in that location",
	} {
		f := start(t, oneSite(`{path: /, `+location+`}`))
		for range 2 {
			c := f.dial()
			c.send(upgrade)
			c.answer("GET")
		}
		hints := f.hints(t, asked)
		if want = asked + strings.ReplaceAll(want, "ADDRESS", b.address); len(hints) != 1 || hints[0].Msg != want {
			t.Errorf("%q, want %q", hints, want)
		}
	}
}

func TestLanguages(t *testing.T) {
	for came, want := range map[string]upstream.Language{
		"":                                     "",
		"HTTP/1.1 200 OK\r\n":                  upstream.PlainHTTP,
		"\x15\x03\x03\x00\x02":                 upstream.TLS,
		"\x16\x03\x01\x02\x00":                 upstream.TLS,
		"\x01\x0b\x00\x00\x00\x08ab":           upstream.FastCGI,
		"\x01\x0b\x00":                         "",
		"\x00\x00\x12\x04\x00\x00\x00\x00\x00": upstream.HTTP2,
		"* OK IMAP4rev1":                       "IMAP",
		"hello":                                "",
	} {
		if got := upstream.LanguageOf([]byte(came)); got != want {
			t.Errorf("%q: %q, want %q", came, got, want)
		}
	}
}
