//go:build linux

package main_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// goingAway is the code of RFC 6455, section 7.4.1, for a server that stops.
const goingAway = 1001

// socketBackend is a WebSocket server in the test's own hands: each connection comes out of the channel.
func socketBackend(t *testing.T) (address string, conns <-chan *websocket.Conn) {
	t.Helper()
	accepted := make(chan *websocket.Conn, 16)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var u websocket.Upgrader
		conn, err := u.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		accepted <- conn
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), accepted
}

func TestSIGTERMClosesTunnelsAtAFrameBoundary(t *testing.T) {
	for _, scheme := range []string{"ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			address, conns := socketBackend(t)
			f := startFront(t, settings(`{path: /ws, websocket: "ws://`+address+`"}`))
			client := f.dialSocket(t, scheme, "/ws").NetConn()
			backend := (<-conns).NetConn()
			defer backend.Close()

			// A frame of each side is half way through when the signal comes.
			toBackend := append([]byte{0x82, 0x80 | 20, 1, 2, 3, 4}, bytes.Repeat([]byte{7}, 20)...)
			toClient := append([]byte{0x81, 20}, bytes.Repeat([]byte("x"), 20)...)
			pass(t, client, backend, toBackend[:11])
			pass(t, backend, client, toClient[:7])
			f.signal(t, syscall.SIGTERM)
			f.awaitLog(t, 0, "stopping")
			f.awaitRefusal(t, f.http)
			f.awaitRefusal(t, f.https)
			pass(t, client, backend, toBackend[11:])
			pass(t, backend, client, toClient[7:])

			for _, end := range []net.Conn{client, backend} {
				masked := end == backend
				code, answer := readClose(t, end, masked)
				if code != goingAway {
					t.Errorf("Close with %d, want %d", code, goingAway)
				}
				end.Write(answer)
			}
			if code := f.wait(t); code != 0 {
				t.Errorf("exit code %d", code)
			}
			f.awaitLog(t, 0, "tunnel closed", "close_code", goingAway, "closed_by", "proxy", "cause", "drain")
		})
	}
}

// pass sends bytes into one end and requires them to come out at the other.
func pass(t *testing.T, from, to net.Conn, p []byte) {
	t.Helper()
	if _, err := from.Write(p); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(p))
	to.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(to, got); err != nil || !bytes.Equal(got, p) {
		t.Fatalf("got % x, %v, want % x", got, err, p)
	}
}

// readClose reads one Close frame, masked as a client's has to be or not, and returns its code and the answer.
func readClose(t *testing.T, conn net.Conn, masked bool) (code int, answer []byte) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(patience))
	head := make([]byte, 2)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatal(err)
	}
	if head[0] != 0x88 || head[1]&0x80 != 0 != masked {
		t.Fatalf("frame % x, want a Close frame, masked %v", head, masked)
	}
	rest := make([]byte, head[1]&0x7F)
	mask := make([]byte, 4)
	if masked {
		if _, err := io.ReadFull(conn, mask); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.ReadFull(conn, rest); err != nil || len(rest) < 2 {
		t.Fatalf("Close frame without a code: %v", err)
	}
	for i := range rest {
		rest[i] ^= mask[i%4]
	}
	if masked {
		return int(binary.BigEndian.Uint16(rest)), append([]byte{0x88, 2}, rest[:2]...)
	}
	return int(binary.BigEndian.Uint16(rest)), append([]byte{0x88, 0x82, 0, 0, 0, 0}, rest[:2]...)
}

func TestSIGTERMTellsBothEndsOfEveryTunnel(t *testing.T) {
	php, py := startSocketPHP(t, ""), startSocketPython(t)
	yaml := settings(
		`{path: /php, websocket: "ws://`+php.address+`"}`,
		`{path: /python, websocket: "ws://`+py.address+`"}`,
		`{path: /relay/php, mode: relay, max_message: 4MiB, websocket: "ws://`+php.address+`"}`,
		`{path: /relay/python, mode: relay, max_message: 4MiB, websocket: "ws://`+py.address+`"}`)
	f := startFront(t, strings.Replace(yaml, "shutdown_timeout: 5s", "shutdown_timeout: 60s", 1)) // so that an end that does not answer takes 5 s
	var sockets []socket
	for _, path := range []string{"/php", "/python", "/relay/php", "/relay/python"} {
		for _, scheme := range []string{"ws", "wss"} {
			s := f.dialSocket(t, scheme, path)
			s.echo("before the end")
			sockets = append(sockets, s)
		}
	}
	f.signal(t, syscall.SIGTERM)
	begin := time.Now()
	for _, s := range sockets {
		s.awaitClose(goingAway)
	}
	if code := f.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if took := time.Since(begin); took > 4*time.Second {
		t.Errorf("it took %v although every end answered at once", took)
	}
	f.awaitLogs(t, 0, len(sockets), "tunnel closed", "close_code", goingAway, "cause", "drain")
	for _, b := range []backend{php, py} {
		ends := b.out.awaitMatches(t, 0, `^close|^gone|^bad`, len(sockets)/2)
		for _, line := range ends {
			if !strings.HasPrefix(line, "close 1001 ") {
				t.Errorf("%s: a tunnel ended with %q", b.cmd.Args[0], line)
			}
		}
	}
}

func TestSIGTERMLetsRequestsFinish(t *testing.T) {
	f := startFront(t, settings(`{path: /, http: "http://`+startPages(t).address+`"}`))
	next := filepath.Join(t.TempDir(), "next")
	var halves []*http.Response
	for _, base := range []string{"http://" + f.http, "https://" + f.https} {
		resp, err := f.secureClient(t).Get(base + "/slow.php?file=" + url.QueryEscape(next))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		half := make([]byte, len("first half\n"))
		if _, err := io.ReadFull(resp.Body, half); err != nil {
			t.Fatal(err)
		}
		halves = append(halves, resp)
	}
	f.signal(t, syscall.SIGTERM)
	f.awaitRefusal(t, f.http)
	f.awaitRefusal(t, f.https)
	if f.exited() {
		t.Fatal("it did not wait for the requests")
	}
	if err := os.WriteFile(next, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, resp := range halves {
		if rest := readAll(t, resp); rest != "second half\n" {
			t.Errorf("%s: the rest of the answer is %q", resp.Proto, rest)
		}
	}
	if code := f.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestSIGTERMEndsWithinTheTimeoutWhateverTheEndsDo(t *testing.T) {
	address, conns := socketBackend(t)
	yaml := settings(`{path: /ws, websocket: "ws://`+address+`"}`, `{path: /relay, mode: relay, max_message: 4MiB, websocket: "ws://`+address+`"}`,
		`{path: /, http: "http://`+startPages(t).address+`"}`)
	f := startFront(t, strings.Replace(yaml, "shutdown_timeout: 5s", "shutdown_timeout: 2s", 1))
	for _, path := range []string{"/ws", "/relay"} { // nobody reads or answers here
		f.dialSocket(t, "wss", path)
		defer (<-conns).Close()
	}
	half := f.dialSocket(t, "ws", "/ws") // and here a frame is never completed
	backend := <-conns
	defer backend.Close()
	pass(t, half.NetConn(), backend.NetConn(), []byte{0x82, 0xFE, 1, 0})
	resp, err := newClient(nil).Get("http://" + f.http + "/slow.php?file=/nowhere/at/all")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if took := f.stop(t); took > 4500*time.Millisecond { // without that timeout nothing would end within 5 s
		t.Errorf("it took %v with shutdown_timeout: 2s", took)
	}
}
