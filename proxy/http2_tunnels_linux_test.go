package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"wstunnel/internal/ws"
	"wstunnel/proxy"
)

// connectTo is the head of an extended CONNECT (RFC 8441, section 4) for [h2Client].
func connectTo(path string, more ...string) []string {
	return append([]string{
		":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":path", path, ":authority", "example.com", "sec-websocket-version", "13",
	}, more...)
}

// connect begins a stream that is to be a tunnel.
func (c *h2Client) connect(stream uint32, pairs []string) {
	c.t.Helper()
	if err := writeBlock(c.Framer, stream, false, c.fields(pairs...)); err != nil {
		c.t.Fatal(err)
	}
}

// opened begins a tunnel, and fails if it does not open.
func (c *h2Client) opened(stream uint32, pairs ...string) {
	c.t.Helper()
	c.connect(stream, connectTo("/ws", pairs...))
	if got := c.status(stream); got != "200" {
		c.t.Fatalf("the CONNECT was answered with %s", got)
	}
}

// received reads a tunnel's bytes until there are n, or until it ends, and says how it does.
func (c *h2Client) received(stream uint32, n int) (text, end string) {
	c.t.Helper()
	for len(text) < n || n < 0 {
		frame := c.next()
		if frame.Header().StreamID != stream {
			c.takeOther(frame)
			continue
		}
		switch f := frame.(type) {
		case *http2.DataFrame:
			text += string(f.Data())
			if f.Length > 0 {
				c.WriteWindowUpdate(0, f.Length)
				if !f.StreamEnded() {
					c.WriteWindowUpdate(stream, f.Length)
				}
			}
			if f.StreamEnded() {
				return text, "END_STREAM"
			}
		case *http2.RSTStreamFrame:
			return text, f.ErrCode.String()
		}
	}
	return text, ""
}

// startSwitching is a backend that opens each tunnel that it is asked for.
func startSwitching(t *testing.T, serve func(conn net.Conn, br *bufio.Reader)) *backend {
	t.Helper()
	return startUpgrading(t, ok, always(""), serve)
}

func echoing(conn net.Conn, br *bufio.Reader) { io.Copy(conn, br) }

func TestExtendedConnectOpensATunnel(t *testing.T) {
	b := startSwitching(t, echoing)
	f := startTLS(t, secureSite(both(b.address)))
	c, settings := f.dialH2()
	if v, ok := settings.Value(http2.SettingEnableConnectProtocol); !ok || v != 1 {
		t.Errorf("SETTINGS_ENABLE_CONNECT_PROTOCOL is %d, %v", v, ok)
	}
	c.connect(1, connectTo("/ws?a=b", "sec-websocket-key", sampleKey, "sec-websocket-protocol", "chat", "origin", "https://example.com", "cookie", "a=1"))
	c.WriteData(1, false, []byte(text("early"))) // before the answer
	var head *http2.MetaHeadersFrame
	for head == nil {
		head, _ = c.next().(*http2.MetaHeadersFrame)
	}
	if got := fmt.Sprint(head.Fields); head.PseudoValue("status") != "200" || strings.Contains(got, "connection") || strings.Contains(got, "upgrade") ||
		strings.Contains(got, "accept") || strings.Contains(got, "content-length") || head.StreamEnded() {
		t.Errorf("answered with %s", got)
	}
	if got, end := c.received(1, len(text("early"))); got != text("early") || end != "" {
		t.Errorf("got %q, %s", got, end)
	}
	sent := b.seen()[0]
	for _, want := range []string{
		"GET /ws?a=b HTTP/1.1\r\n", "\r\nHost: example.com\r\n", "\r\nUpgrade: websocket\r\n", "\r\nConnection: Upgrade\r\n", "\r\nSec-WebSocket-Version: 13\r\n",
		"\r\nSec-WebSocket-Protocol: chat\r\n", "\r\nOrigin: https://example.com\r\n", "\r\nCookie: a=1\r\n", "\r\nX-Forwarded-Proto: https\r\n",
	} {
		if !strings.Contains(strings.ToLower(sent), strings.ToLower(want)) {
			t.Errorf("the backend was not sent %q but\n%s", want, sent)
		}
	}
	if keys := field(sent, "Sec-WebSocket-Key"); len(keys) != 1 || keys[0] == sampleKey {
		t.Errorf("the backend was sent the keys %q", keys)
	}
	c.WriteData(1, true, []byte(text("last"))) // a FIN, behind which the backend's last word still comes
	if got, end := c.received(1, -1); got != text("last") || end != "END_STREAM" {
		t.Errorf("got %q, %s", got, end)
	}
	await(t, "both lines of the log", func() bool {
		return strings.Contains(f.log.String(), `"msg":"tunnel opened"`) && strings.Contains(f.log.String(), `"messages_to_backend":2`)
	})
	c.request(3, getPath("/")...) // the connection is none the worse
	if got := c.status(3); got != "200" {
		t.Errorf("a page is answered with %s", got)
	}
}

// TestVersionOfAHandshakeOverHTTP2 goes on as it came; where the client says none, it means the one there is.
func TestVersionOfAHandshakeOverHTTP2(t *testing.T) {
	b := startSwitching(t, echoing)
	f := startTLS(t, secureSite(both(b.address)))
	named := connectTo("/ws")
	bare := named[:len(named)-2]
	for _, tt := range []struct {
		pairs []string
		want  string
	}{{bare, "13"}, {named, "13"}, {append(bare[:len(bare):len(bare)], "sec-websocket-version", "8"), "8"}} {
		before := len(b.seen())
		c, _ := f.dialH2()
		c.connect(1, tt.pairs)
		if got := c.status(1); got != "200" {
			t.Fatalf("%q: answered with %s", tt.pairs, got)
		}
		if versions := field(b.seen()[before], "Sec-WebSocket-Version"); len(versions) != 1 || versions[0] != tt.want {
			t.Errorf("%q: the backend was sent the versions %q, want %s", tt.pairs, versions, tt.want)
		}
	}
}

// TestManyTunnelsShareAConnection: one that does not take what it is sent stops no other.
func TestManyTunnelsShareAConnection(t *testing.T) {
	b := startSwitching(t, func(conn net.Conn, br *bufio.Reader) {
		if first, _ := br.Peek(len(text("flood"))); string(first) == text("flood") {
			for {
				if _, err := io.WriteString(conn, serverText(strings.Repeat("x", 125))); err != nil {
					return
				}
			}
		}
		echoing(conn, br)
	})
	f := startTLS(t, secureSite(both(b.address)))
	c, _ := f.dialH2()
	c.opened(1)
	c.WriteData(1, false, []byte(text("flood")))
	for stream := uint32(3); stream < 43; stream += 2 {
		c.opened(stream)
		for range 3 {
			message := text(fmt.Sprint("message of ", stream))
			c.WriteData(stream, false, []byte(message))
			if got, end := c.received(stream, len(message)); got != message {
				t.Fatalf("stream %d got %q, %s", stream, got, end)
			}
		}
	}
	if n := f.server.TunnelCount(); n != 21 {
		t.Errorf("%d tunnels, want 21", n)
	}
	if n := f.server.Counts(); n.Clients != 1 || n.Backends != 0 {
		t.Errorf("%+v, want 1 client and no backend beside those of tunnels", n)
	}
	c.conn.Close()
	await(t, "nothing left", func() bool {
		n := f.server.Counts()
		return n.Clients == 0 && n.Backends == 0 && n.Live == 0
	})
}

// TestTunnelsOverHTTP2TakeOneDescriptorEach: as many may be open as connections to backends.
func TestTunnelsOverHTTP2TakeOneDescriptorEach(t *testing.T) {
	const capacity = 4
	config := bothListeners + "tls: {storage: " + t.TempDir() + "}\n" + secureSite(both(startSwitching(t, echoing).address))
	f := startWith(t, config)
	f.server.SetCapacity(capacity)
	f.apply(t, config)
	c, _ := f.dialH2()
	for i := range uint32(capacity) {
		c.opened(2*i + 1)
	}
	c.connect(2*capacity+1, connectTo("/ws"))
	await(t, "a refusal", func() bool { return strings.Contains(f.log.String(), `"status":503`) })
	if n := f.server.TunnelCount(); n != capacity {
		t.Errorf("%d tunnels, want %d", n, capacity)
	}
}

func TestExtendedConnectThatOpensNoTunnel(t *testing.T) {
	answering := func(answer string) string {
		return startHeads(t, func(string) string { return answer }).address
	}
	f := startTLS(t, secureSite(
		`{path: /forbidden, websocket: "ws://`+answering("HTTP/1.1 403 Forbidden\r\nX-Why: no\r\nContent-Length: 2\r\n\r\nno")+`"}`,
		`{path: /page, websocket: "ws://`+answering(ok)+`"}`,
		`{path: /wrong, websocket: "ws://`+answering(switching)+`"}`,
		`{path: /dead, websocket: "ws://127.0.0.1:1"}`,
		`{path: /http, http: "http://`+answering(ok)+`"}`,
		`{path: /static, static: "`+t.TempDir()+`"}`,
		`{path: /ws, websocket: "ws://127.0.0.1:1"}`,
	))
	for _, tt := range []struct {
		name, want string
		pairs      []string
	}{
		{"the backend's own answer", "403", connectTo("/forbidden")},
		{"a page, which is no tunnel", "502", connectTo("/page")},
		{"a wrong Accept", "502", connectTo("/wrong")},
		{"no backend", "502", connectTo("/dead")},
		{"a location without WebSocket", "501", connectTo("/http")},
		{"a directory", "501", connectTo("/static/")},
		{"another protocol", "501", append([]string{":method", "CONNECT", ":protocol", "connect-udp"}, connectTo("/ws")[4:]...)},
		{"no location", "404", connectTo("/none")},
		{"the local CA's certificate", "501", connectTo("/.well-known/wstunnel/ca.pem")},
		{"no scheme", "reset PROTOCOL_ERROR", []string{":method", "CONNECT", ":protocol", "websocket", ":path", "/ws", ":authority", "example.com"}},
		{"no path", "reset PROTOCOL_ERROR", []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "https", ":authority", "example.com"}},
		{"a GET with a protocol", "reset PROTOCOL_ERROR", append([]string{":method", "GET"}, connectTo("/ws")[2:]...)},
		{"CONNECT without a protocol", "405", []string{":method", "CONNECT", ":authority", "example.com"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := f.dialH2()
			c.connect(1, tt.pairs)
			if got := c.status(1); got != tt.want {
				t.Errorf("answered with %s, want %s", got, tt.want)
			}
			c.request(3, getPath("/none")...)
			if got := c.status(3); got != "404" {
				t.Errorf("then a page is answered with %s", got)
			}
		})
	}
}

// TestEndsOfATunnelOverHTTP2: END_STREAM is to a stream what a FIN is to a connection, and RST_STREAM a reset.
func TestEndsOfATunnelOverHTTP2(t *testing.T) {
	ended := make(chan string, 1)
	b := startSwitching(t, func(conn net.Conn, br *bufio.Reader) {
		order, _ := br.ReadString('\n')
		switch order {
		case "fin\n":
			io.WriteString(conn, "bye")
			conn.(*net.TCPConn).CloseWrite()
		case "reset\n":
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
			ended <- ""
			return
		}
		rest, err := io.ReadAll(br)
		if err != nil {
			rest = append(rest, " reset"...)
		}
		ended <- string(rest)
	})
	f := startTLS(t, secureSite(both(b.address)))
	for _, tt := range []struct {
		name, order     string
		act             func(c *h2Client)
		text, end, seen string
	}{
		{"the backend's FIN", "fin\n", func(c *h2Client) { c.WriteData(1, true, []byte("still")) }, "bye", "END_STREAM", "still"},
		{"the backend's reset", "reset\n", func(*h2Client) {}, "", "CANCEL", ""},
		{"the client's END_STREAM", "more\n", func(c *h2Client) { c.WriteData(1, true, []byte("last")) }, "", "END_STREAM", "last"},
		{"the client's reset", "more\n", func(c *h2Client) { c.WriteRSTStream(1, http2.ErrCodeCancel) }, "", "", " reset"},
		{"the client's last words and reset", "more\n", func(c *h2Client) {
			var both bytes.Buffer
			framer := http2.NewFramer(&both, nil)
			framer.WriteData(1, false, []byte("bye"))
			framer.WriteRSTStream(1, http2.ErrCodeCancel)
			c.conn.Write(both.Bytes())
		}, "", "", "bye reset"},
		{"the client's leaving", "more\n", func(c *h2Client) { c.conn.Close() }, "", "", " reset"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, _ := f.dialH2()
			c.opened(1)
			c.WriteData(1, false, []byte(tt.order))
			if strings.HasPrefix(tt.name, "the client") {
				await(t, "the tunnel", func() bool { return f.server.TunnelCount() == 1 })
				f.server.Skip(0) // so that all has been read
			}
			tt.act(c)
			if tt.end != "" {
				if got, end := c.received(1, -1); got != tt.text || end != tt.end {
					t.Errorf("got %q, %s; want %q, %s", got, end, tt.text, tt.end)
				}
			}
			if got := <-ended; got != tt.seen {
				t.Errorf("the backend saw %q, want %q", got, tt.seen)
			}
			await(t, "no tunnel", func() bool { return f.server.TunnelCount() == 0 })
		})
	}
}

// TestTunnelOverHTTP2HoldsLittleOfWhatIsNotTaken, in both directions: what a stalled peer does not take stays with who sends it.
func TestTunnelOverHTTP2HoldsLittleOfWhatIsNotTaken(t *testing.T) {
	release, conns := make(chan bool), make(chan net.Conn, 1)
	b := startSwitching(t, func(conn net.Conn, br *bufio.Reader) {
		conn.(*net.TCPConn).SetReadBuffer(128 << 10)
		conns <- conn
		<-release
		n, _ := io.Copy(io.Discard, br)
		fmt.Fprint(conn, n)
	})
	f := startTLS(t, secureSite(both(b.address)))
	c, settings := f.dialH2()
	window, _ := settings.Value(http2.SettingInitialWindowSize)
	c.opened(1)
	type news struct {
		window int64 // by which that of the stream grows
		data   string
	}
	frames := make(chan news)
	go func() {
		defer close(frames)
		for {
			frame, err := c.ReadFrame()
			if err != nil {
				t.Log(err)
				return
			}
			switch f := frame.(type) {
			case *http2.WindowUpdateFrame:
				if f.StreamID == 1 {
					frames <- news{window: int64(f.Increment)}
				}
			case *http2.DataFrame:
				if len(f.Data()) > 0 {
					frames <- news{data: string(f.Data())}
				}
			}
		}
	}()
	stream, sent := int64(window), int64(0)
	piece := make([]byte, 8<<10)
	quiet := time.NewTimer(300 * time.Millisecond)
	for waiting := true; waiting; {
		for stream >= int64(len(piece)) {
			c.WriteData(1, false, piece)
			sent += int64(len(piece))
			stream -= int64(len(piece))
		}
		select {
		case frame := <-frames:
			if frame.window > 0 {
				stream += frame.window
				quiet.Reset(300 * time.Millisecond)
			}
		case <-quiet.C:
			waiting = false
		}
	}
	backend := <-conns
	if held := sent - int64(inSockets(t, backend.RemoteAddr(), backend.LocalAddr())); held > 2*64<<10 { // on its way to the stream, and from there
		t.Errorf("of %d bytes that the client could send %d are held", sent, held)
	}
	close(release)
	for sending := true; sending; { // it goes on
		select {
		case frame, more := <-frames:
			if !more {
				t.Fatal("the connection has ended")
			}
			if frame.window > 0 {
				c.WriteData(1, true, []byte("end"))
				sending = false
			}
		case <-time.After(patience):
			t.Fatal("the window stays shut")
		}
	}
	for frame := range frames {
		if frame.data != "" {
			if frame.data != fmt.Sprint(sent+3) {
				t.Errorf("the backend got %s bytes, want %d", frame.data, sent+3)
			}
			break
		}
	}
	c.conn.Close()
	for range frames {
	}
}

// TestTunnelOverHTTP2IsPingedAndClosed as one over HTTP/1.1 is.
func TestTunnelOverHTTP2IsPingedAndClosed(t *testing.T) {
	b := startSwitching(t, func(_ net.Conn, br *bufio.Reader) { io.Copy(io.Discard, br) })
	f := startTLS(t, secureSite(`{path: /ws, ping: 1m, websocket: "ws://`+b.address+`"}`))
	c, _ := f.dialH2()
	c.opened(1)
	f.server.Skip(75 * time.Second) // it is looked at four times a minute
	ping, _ := c.received(1, 2)
	if ping[0] != 0x80|byte(ws.OpPing) {
		t.Fatalf("the client got % x", ping)
	}
	done := f.beginShutdown()
	var all string
	for !strings.Contains(all, "going away") {
		more, end := c.received(1, 1)
		if all += more; end != "" {
			t.Fatalf("%q, and %s", all, end)
		}
	}
	c.WriteData(1, true, ws.AppendClose(nil, ws.CloseGoingAway, "", &[4]byte{1, 2, 3, 4}))
	f.server.Skip(10 * time.Second) // for the backend, which says nothing, and the client's connection
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestPushOverHTTP2WaitsForTheEndOfAMessage that comes in fragments, between which a ping stands.
func TestPushOverHTTP2WaitsForTheEndOfAMessage(t *testing.T) {
	pieces := make(chan string)
	defer close(pieces)
	b := startSwitching(t, func(conn net.Conn, _ *bufio.Reader) {
		for p := range pieces {
			io.WriteString(conn, p)
		}
	})
	f := startTLS(t, secureSite(both(b.address)))
	c, _ := f.dialH2()
	c.opened(1)
	await(t, "the tunnel", func() bool { return len(f.server.Tunnels()) == 1 })
	first, ping, rest := "\x01\x03one", "\x89\x00", "\x80\x03two" // RFC 6455, section 5.4
	pieces <- first
	if got, end := c.received(1, len(first)); got != first || end != "" {
		t.Fatalf("got %q, %s", got, end)
	}
	if got, err := f.server.PushTo(t.Context(), f.server.Tunnels()[0].Key, textTo("pushed"), false); err != nil || got != (proxy.Pushed{Matched: 1, Queued: 1}) {
		t.Errorf("%+v, %v", got, err)
	}
	pieces <- ping
	if got, end := c.received(1, len(ping)); got != ping || end != "" {
		t.Fatalf("got %q, %s", got, end)
	}
	pieces <- rest
	want := rest + serverText("pushed")
	if got, end := c.received(1, len(want)); got != want || end != "" {
		t.Errorf("got %q, %s", got, end)
	}
}

// TestRelayOverHTTP2, whose client has permessage-deflate and its backend not.
func TestRelayOverHTTP2(t *testing.T) {
	b := startSwitching(t, func(conn net.Conn, br *bufio.Reader) {
		for {
			head, err := br.Peek(2)
			if err != nil {
				return
			}
			size := int(head[1] & 0x7F)
			message := make([]byte, 6+size)
			if _, err := io.ReadFull(br, message); err != nil {
				return
			}
			for i := range size {
				message[6+i] ^= message[2+i&3]
			}
			if message[0]&0xF == byte(ws.OpClose) {
				conn.Write(ws.AppendFrame(nil, ws.OpClose, message[6:], nil))
				return
			}
			io.WriteString(conn, serverText("got "+string(message[6:])))
		}
	})
	f := startTLS(t, secureSite(relayTo(b.address)))
	c, _ := f.dialH2()
	c.opened(1, "sec-websocket-extensions", "permessage-deflate; client_max_window_bits")
	for _, message := range []string{"one", "two"} {
		c.WriteData(1, false, []byte(text(message)))
		got, end := c.received(1, 3)
		if end != "" || got[0]&0xF != byte(ws.OpText) {
			t.Fatalf("got % x, %s", got, end)
		}
	}
	c.WriteData(1, false, ws.AppendClose(nil, 1000, "", &[4]byte{1, 2, 3, 4}))
	if got, end := c.received(1, -1); !strings.HasPrefix(got, "\x88\x02\x03\xe8") || end == "" {
		t.Errorf("got % x, %s", got, end)
	}
	await(t, "no tunnel", func() bool { return f.server.Counts().Live == 0 })
}

// TestIdleTunnelOverHTTP2KeepsNoLongPath, nor do relays.
func TestIdleTunnelOverHTTP2KeepsNoLongPath(t *testing.T) {
	for name, options := range map[string]string{"tunnel": "", "relay": "mode: relay, "} {
		t.Run(name, func(t *testing.T) {
			b := startBackend(t, func(_ *backend, conn net.Conn) { // one that notes no heads
				head, _ := rawHead(bufio.NewReader(conn))
				for _, key := range field(head, "Sec-WebSocket-Key") {
					io.WriteString(conn, strings.Replace(switching, sampleAccept, ws.Accept(key), 1))
				}
				io.Copy(io.Discard, conn)
			})
			f := startTLS(t, secureSite(`{path: /ws, `+options+`websocket: "ws://`+b.address+`"}`))
			each := func(path string) uint64 {
				const n = 50
				open := f.server.TunnelCount()
				c, _ := f.dialH2()
				before := heap()
				for i := range uint32(n) {
					c.connect(2*i+1, connectTo(path))
					if got := c.status(2*i + 1); got != "200" {
						t.Fatalf("the CONNECT was answered with %s", got)
					}
				}
				await(t, "the tunnels", func() bool { return f.server.TunnelCount() == open+n })
				after := heap()
				return (after - min(before, after)) / n
			}
			each("/ws") // what is made once
			short, long := each("/ws"), each(longPath)
			if long > short+uint64(len(longPath)/2) { // buffers of both ends, which are not always there, are among it
				t.Errorf("a tunnel keeps %d bytes, with a path of %d bytes %d", short, len(longPath), long)
			}
		})
	}
}
