//go:build linux

package main_test

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

func TestCompressedConversationPassesUntouched(t *testing.T) {
	server := startSocketPython(t)
	inner := newTap(t, server.address)
	f := startFront(t, settings(`{path: /ws, websocket: "ws://`+inner.address+`"}`))
	outer := newTap(t, f.http)

	c := converse(t, "ws://"+outer.address+"/ws/room?id=7", "--window-bits", "10")
	c.check(t)
	if c.Request.Path != "/ws/room?id=7" {
		t.Errorf("the backend got the path %q", c.Request.Path)
	}
	for _, parameter := range []string{"permessage-deflate", "client_no_context_takeover", "server_max_window_bits=10"} {
		if !strings.Contains(c.Extensions, parameter) {
			t.Errorf("extensions %q without %s", c.Extensions, parameter)
		}
	}
	if c.Close != "4002 good bye" || server.awaitLine(t, 0, `^close (.*)$`) != "4002 good bye" {
		t.Errorf("closed with %q", c.Close)
	}
	f.awaitLog(t, 0, "tunnel closed", "close_code", 4002, "closed_by", "client")
	checkUntouched(t, outer, inner)
}

// checkUntouched requires that two taps saw the same bytes after the heads, the first frames being compressed.
func checkUntouched(t *testing.T, outer, inner *tap) {
	t.Helper()
	outerRequest, outerUp, outerAnswer, outerDown := outer.split(t)
	innerRequest, innerUp, innerAnswer, innerDown := inner.split(t)
	if !bytes.Equal(outerUp, innerUp) {
		t.Errorf("the client sent %d bytes, the backend got %d others", len(outerUp), len(innerUp))
	}
	if !bytes.Equal(innerDown, outerDown) {
		t.Errorf("the backend sent %d bytes, the client got %d others", len(innerDown), len(outerDown))
	}
	const rsv1 = 0x40
	if len(innerUp) == 0 || len(innerDown) == 0 || innerUp[0]&rsv1 == 0 || innerDown[0]&rsv1 == 0 {
		t.Error("the first frames are not compressed")
	}
	for _, heads := range [][2][]byte{{outerRequest, innerRequest}, {outerAnswer, innerAnswer}} {
		for _, name := range []string{"Key", "Accept", "Extensions", "Protocol", "Version"} {
			line := regexp.MustCompile(`\r\nSec-WebSocket-` + name + `: (.*)(\r\n|$)`)
			before, after := line.FindSubmatch(heads[0]), line.FindSubmatch(heads[1])
			if before != nil && (after == nil || !bytes.Equal(before[1], after[1])) {
				t.Errorf("Sec-WebSocket-%s was changed: %q to %q", name, heads[0], heads[1])
			}
		}
	}
}

func TestPythonClientTalksToEveryBackend(t *testing.T) {
	certFile, keyFile := certificate(t)
	php, py := startSocketPHP(t, ""), startSocketPython(t)
	secure := startSocketPython(t, "--cert", certFile, "--key", keyFile)
	phpUnix, pyUnix := t.TempDir()+"/php.sock", t.TempDir()+"/python.sock"
	startSocketPHP(t, "unix://"+phpUnix)
	startSocketPython(t, "--unix", pyUnix)
	var locations []string
	for _, mode := range []string{"tunnel", "relay"} {
		for name, target := range map[string]string{
			"php":       `"ws://` + php.address + `"`,
			"python":    `"ws://` + py.address + `"`,
			"secure":    `"wss://` + secure.address + `", tls_ca: ` + certFile,
			"unchecked": `"wss://` + secure.address + `", tls_verify: false`,
			"phpunix":   `"unix:` + phpUnix + `"`,
			"pyunix":    `"unix:` + pyUnix + `"`,
		} {
			options := "mode: " + mode
			if mode == "relay" {
				options += ", max_message: 4MiB"
			}
			locations = append(locations, `{path: /`+mode+`/`+name+`, `+options+`, websocket: `+target+`}`)
		}
	}
	f := startFront(t, settings(locations...))
	f.roots(t)
	for _, test := range []struct {
		backend    string
		compresses bool
	}{{"php", false}, {"python", true}, {"secure", true}, {"unchecked", true}, {"phpunix", false}, {"pyunix", true}} {
		for _, mode := range []string{"tunnel", "relay"} {
			path := "/" + mode + "/" + test.backend
			t.Run(path[1:], func(t *testing.T) {
				c := converse(t, "wss://"+f.https+path, "--ca", caFile(f))
				c.check(t)
				if !strings.HasPrefix(c.Close, "4002 ") {
					t.Errorf("closed with %q", c.Close)
				}
				if want := test.compresses || mode == "relay"; strings.Contains(c.Extensions, "permessage-deflate") != want {
					t.Errorf("extensions %q, want compression %v", c.Extensions, want)
				}
				if got := c.Request.Headers["X-Forwarded-Proto"]; got != "https" {
					t.Errorf("X-Forwarded-Proto %q", got)
				}
				f.awaitLog(t, 0, "tunnel closed", "close_code", 4002, "closed_by", "client")
			})
		}
	}
}

func TestCloseCodesPass(t *testing.T) {
	php, py := startSocketPHP(t, ""), startSocketPython(t)
	f := startFront(t, settings(
		`{path: /tunnel/php, websocket: "ws://`+php.address+`"}`,
		`{path: /tunnel/python, websocket: "ws://`+py.address+`"}`,
		`{path: /relay/php, mode: relay, max_message: 4MiB, websocket: "ws://`+php.address+`"}`,
		`{path: /relay/python, mode: relay, max_message: 4MiB, websocket: "ws://`+py.address+`"}`))
	for path, backend := range map[string]backend{
		"/tunnel/php": php, "/tunnel/python": py, "/relay/php": php, "/relay/python": py,
	} {
		t.Run(path[1:], func(t *testing.T) {
			checkCloseCodes(t, f, path, backend)
		})
	}
}

// checkCloseCodes has each side close a conversation. The Close frame arrives whole; the answer to it has to carry the
// code, the reason being up to the one who answers (RFC 6455, section 5.5.1).
func checkCloseCodes(t *testing.T, f *front, path string, backend backend) {
	t.Helper()
	since, log := backend.out.len(), f.out.len()
	if c := converse(t, "ws://"+f.http+path, "--close-by-server"); c.Close != "4001 enough said" {
		t.Errorf("the client got the Close %q", c.Close)
	}
	if got := backend.awaitLine(t, since, `^close (.*)$|^gone`); !strings.HasPrefix(got, "4001 ") {
		t.Errorf("the backend got the answer %q", got)
	}
	f.awaitLog(t, log, "tunnel closed", "close_code", 4001, "closed_by", "backend", "opaque", nil)

	since, log = backend.out.len(), f.out.len()
	c := converse(t, "ws://"+f.http+path, "--no-compression")
	if !strings.HasPrefix(c.Close, "4002 ") || c.Extensions != "" {
		t.Errorf("the client got the answer %q, extensions %q", c.Close, c.Extensions)
	}
	if got := backend.awaitLine(t, since, `^close (.*)$|^gone`); got != "4002 good bye" {
		t.Errorf("the backend got the Close %q", got)
	}
	f.awaitLog(t, log, "tunnel closed", "close_code", 4002, "closed_by", "client", "opaque", nil)
}

func TestRelayCompressesForABackendThatCannot(t *testing.T) {
	php := startSocketPHP(t, "")
	inner := newTap(t, php.address)
	f := startFront(t, settings(`{path: /ws, mode: relay, max_message: 4MiB, websocket: "ws://`+inner.address+`"}`))
	outer := newTap(t, f.http)
	c := converse(t, "ws://"+outer.address+"/ws")
	c.check(t)
	if _, offered := c.Request.Headers["Sec-WebSocket-Extensions"]; offered {
		t.Errorf("the backend was offered extensions: %q", c.Request.Headers)
	}
	// The conversation holds 1 MiB of noise, and 2 MB of text that compresses well.
	f.awaitLog(t, 0, "tunnel closed")
	_, outerUp, _, outerDown := outer.split(t)
	_, innerUp, _, innerDown := inner.split(t)
	const noise, whole = 1 << 20, 1<<20 + 2*1_040_000
	if len(outerUp) > noise+noise/5 || len(outerDown) > noise+noise/5 {
		t.Errorf("%d bytes from and %d to the client are not compressed", len(outerUp), len(outerDown))
	}
	if len(innerUp) < whole || len(innerDown) < whole {
		t.Errorf("%d bytes to and %d from the backend are too few", len(innerUp), len(innerDown))
	}
}

func TestBackendWithUnknownCertificateIsRefusedAndTheLogSaysWhy(t *testing.T) {
	certFile, keyFile := certificate(t)
	secure := startSocketPython(t, "--cert", certFile, "--key", keyFile)
	f := startFront(t, settings(`{path: /ws, websocket: "wss://`+secure.address+`"}`))
	conn, resp, err := f.tryDial(t, "ws", "/ws")
	if err == nil {
		conn.Close()
		t.Fatal("a certificate that nobody vouches for was accepted")
	}
	if resp == nil || resp.StatusCode != 502 {
		t.Errorf("%v, %v, want 502", resp, err)
	}
	if e := f.awaitLog(t, 0, "request", "status", 502); !strings.Contains(e.text("error"), "certificate") {
		t.Errorf("the log does not say why: %v", e)
	}
}

func TestRefusalOfABackendPasses(t *testing.T) {
	php := startSocketPHP(t, "")
	f := startFront(t, settings(
		`{path: /tunnel, websocket: "ws://`+php.address+`"}`,
		`{path: /relay, mode: relay, max_message: 4MiB, websocket: "ws://`+php.address+`"}`))
	for _, path := range []string{"/tunnel/refuse", "/relay/refuse"} {
		conn, resp, err := f.tryDial(t, "ws", path)
		if err == nil {
			conn.Close()
			t.Fatalf("%s: a refused handshake succeeded", path)
		}
		if resp == nil || resp.StatusCode != 403 || resp.Header.Get("X-Reason") != "closed" || readAll(t, resp) != "no entry\n" {
			t.Errorf("%s: %v %v, want the backend's refusal", path, resp, err)
		}
	}
}
