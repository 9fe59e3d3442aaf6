package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// h2Client speaks HTTP/2 frame by frame.
type h2Client struct {
	*http2.Framer
	t      *testing.T
	conn   net.Conn
	block  bytes.Buffer
	encode *hpack.Encoder
	window map[uint32]int // to send bodies in; 0 is the connection's
	begin  int            // of a new stream
}

// dialTLS connects to the TLS listener and offers protocols by ALPN.
func (f *front) dialTLS(protocols ...string) *tls.Conn {
	f.t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", f.secure,
		&tls.Config{ServerName: "example.com", InsecureSkipVerify: true, NextProtos: protocols})
	if err != nil {
		f.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(patience))
	f.t.Cleanup(func() { conn.Close() })
	return conn
}

// dialSecure connects to the TLS listener, for HTTP/1.1.
func (f *front) dialSecure() *client {
	f.t.Helper()
	return clientOver(f.t, f.dialTLS("http/1.1"))
}

// dialH2 connects to the TLS listener and begins to speak HTTP/2.
func (f *front) dialH2() (*h2Client, *http2.SettingsFrame) {
	f.t.Helper()
	conn := f.dialTLS("h2")
	if p := conn.ConnectionState().NegotiatedProtocol; p != "h2" {
		f.t.Fatalf("negotiated %q", p)
	}
	return speakH2(f.t, conn)
}

// speakH2 has sent the preface and read the server's SETTINGS, which it returns.
func speakH2(t *testing.T, conn net.Conn) (*h2Client, *http2.SettingsFrame) {
	t.Helper()
	wire := &patient{Conn: conn}
	c := &h2Client{t: t, conn: conn, Framer: http2.NewFramer(wire, wire), window: map[uint32]int{0: 65535}, begin: 65535}
	c.encode = hpack.NewEncoder(&c.block)
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.AllowIllegalWrites = true
	io.WriteString(conn, http2.ClientPreface)
	c.WriteSettings()
	first, err := c.ReadFrame()
	if err != nil {
		t.Fatal(err)
	}
	settings, ok := first.(*http2.SettingsFrame)
	if !ok {
		t.Fatalf("the first frame is %v", first)
	}
	if n, ok := settings.Value(http2.SettingInitialWindowSize); ok {
		c.begin = int(n)
	}
	c.WriteSettingsAck()
	return c, settings
}

// fields encodes a header block of names and values.
func (c *h2Client) fields(pairs ...string) []byte {
	c.block.Reset()
	for i := 0; i < len(pairs); i += 2 {
		c.encode.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return bytes.Clone(c.block.Bytes())
}

func (c *h2Client) request(stream uint32, pairs ...string) error {
	return c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndStream: true, EndHeaders: true, BlockFragment: c.fields(pairs...)})
}

// takeOther lets more come on other streams.
func (c *h2Client) takeOther(frame http2.Frame) {
	if data, ok := frame.(*http2.DataFrame); ok && data.Length > 0 {
		c.WriteWindowUpdate(0, data.Length)
	}
}

// status waits for the answer on a stream: a status, or what became of the stream or the connection.
func (c *h2Client) status(stream uint32) string {
	for {
		frame, err := c.ReadFrame()
		var timeout net.Error
		switch {
		case errors.As(err, &timeout) && timeout.Timeout():
			c.t.Fatal("no answer in time")
		case err != nil:
			return "closed"
		}
		switch f := frame.(type) {
		case *http2.DataFrame:
			c.takeOther(f)
		case *http2.MetaHeadersFrame:
			if f.StreamID == stream {
				return f.PseudoValue("status")
			}
		case *http2.RSTStreamFrame:
			if f.StreamID == stream {
				return "reset " + f.ErrCode.String()
			}
		case *http2.GoAwayFrame:
			return "goaway " + f.ErrCode.String()
		}
	}
}

func TestStreamsOfAConnectionAreLimited(t *testing.T) {
	_, settings := startTLS(t, secureSite(httpTo("127.0.0.1:1"))).dialH2()
	if n, ok := settings.Value(http2.SettingMaxConcurrentStreams); !ok || n != 100 {
		t.Errorf("SETTINGS_MAX_CONCURRENT_STREAMS is %d, %v", n, ok)
	}
}

func TestPseudoHeadersCannotChangeTheRequestLine(t *testing.T) {
	tests := []struct{ name, method, path, authority, status string }{
		{"in order", "GET", "/a?b", "example.com", "200"},
		{"space in the path", "GET", "/a HTTP/1.1", "example.com", "reset PROTOCOL_ERROR"},
		{"space in the query", "GET", "/a?b c", "example.com", "reset PROTOCOL_ERROR"},
		{"tab in the path", "GET", "/a\tb", "example.com", "reset PROTOCOL_ERROR"},
		{"fragment", "GET", "/a#b", "example.com", "reset PROTOCOL_ERROR"},
		{"line break in the path", "GET", "/ HTTP/1.1\r\nX: y", "example.com", "reset PROTOCOL_ERROR"},
		{"no path", "GET", "", "example.com", "reset PROTOCOL_ERROR"},
		{"path without a slash", "GET", "a", "example.com", "reset PROTOCOL_ERROR"},
		{"absolute path", "GET", "http://other.example/", "example.com", "reset PROTOCOL_ERROR"},
		{"star", "GET", "*", "example.com", "reset PROTOCOL_ERROR"},
		{"space in the method", "GET /evil HTTP/1.1", "/", "example.com", "reset PROTOCOL_ERROR"},
		{"tab in the method", "GET\t/evil", "/", "example.com", "reset PROTOCOL_ERROR"},
		{"authority of no site", "GET", "/", "evil@example.com", "400"},
		{"authority with a path", "GET", "/", "example.com/x", "400"},
		{"no authority", "GET", "/", "", "400"},
		{"CONNECT", "CONNECT", "/", "example.com", "reset PROTOCOL_ERROR"},
	}
	b := startHeads(t, always(ok))
	f := startTLS(t, secureSite(httpTo(b.address)))
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := len(b.seen())
			c, _ := f.dialH2()
			c.t = t
			c.request(1, ":method", tt.method, ":scheme", "https", ":path", tt.path, ":authority", tt.authority)
			status := c.status(1)
			if status != tt.status {
				t.Errorf("answered %s, want %s; the backend saw %q", status, tt.status, b.seen()[before:])
			}
		})
	}
}

func TestHTTP2HeadersThatHTTP1CannotCarry(t *testing.T) {
	b := startHeads(t, always(ok))
	f := startTLS(t, secureSite(httpTo(b.address)))
	for _, field := range []struct{ name, value, want string }{
		{"x", "a\r\nb: c", "reset PROTOCOL_ERROR"},
		{"x", "a\x00b", "reset PROTOCOL_ERROR"},
		{"x\r\ny", "a", "reset PROTOCOL_ERROR"},
		{"x y", "a", "reset PROTOCOL_ERROR"},
		{"x:", "a", "reset PROTOCOL_ERROR"},
		{"X", "a", "reset PROTOCOL_ERROR"},
		{"connection", "close", "reset PROTOCOL_ERROR"},
		{"transfer-encoding", "chunked", "reset PROTOCOL_ERROR"},
		{"upgrade", "websocket", "reset PROTOCOL_ERROR"},
		{"host", "other.example", "400"},
	} {
		c, _ := f.dialH2()
		c.request(1, ":method", "GET", ":scheme", "https", ":path", "/", ":authority", "example.com", field.name, field.value)
		if status := c.status(1); status != field.want {
			t.Errorf("%q: %q was answered with %s, want %s", field.name, field.value, status, field.want)
		}
	}
	for _, head := range b.seen() {
		t.Errorf("the backend saw %q", head)
	}
}

// TestHostOverHTTP2MayBeWrittenInAnotherForm: it is the same as :authority then, as it is as an absolute target over HTTP/1.1.
func TestHostOverHTTP2MayBeWrittenInAnotherForm(t *testing.T) {
	b := startHeads(t, always(ok))
	f := startTLS(t, secureSite(httpTo(b.address)))
	for name, status := range map[string]int{
		"example.com": 200, "EXAMPLE.com": 200, "example.com:443": 200, "example.com.": 200, "example.com:80": 400, "other.example": 400, "": 400,
	} {
		before := len(b.seen())
		c, _ := f.dialH2()
		c.request(1, append(getPath("/"), "host", name)...)
		if got := c.status(1); got != strconv.Itoa(status) {
			t.Errorf("Host %q beside :authority: %s, want %d", name, got, status)
		}
		h1 := f.dialSecure()
		h1.send("GET https://example.com/ HTTP/1.1\r\nHost: " + name + "\r\n\r\n")
		h1.expect(status)
		for _, head := range b.seen()[before:] {
			if hosts := field(head, "Host"); len(hosts) != 1 || hosts[0] != "example.com" {
				t.Errorf("the backend was sent the hosts %q", hosts)
			}
		}
	}
}

func TestHTTP2RequestBecomesHTTP1(t *testing.T) {
	b := startEcho(t)
	c, _ := startTLS(t, secureSite(httpTo(b.address))).dialH2()
	c.WriteHeaders(http2.HeadersFrameParam{
		StreamID: 1, EndHeaders: true,
		BlockFragment: c.fields(":method", "POST", ":scheme", "https", ":path", "/a", ":authority", "example.com", "cookie", "a=b", "cookie", "c=d"),
	})
	c.WriteData(1, true, []byte("hello"))
	if status := c.status(1); status != "200" {
		t.Fatalf("answered %s", status)
	}
	for {
		frame, err := c.ReadFrame()
		if err != nil {
			t.Fatal(err)
		}
		if data, ok := frame.(*http2.DataFrame); ok {
			if got := string(data.Data()); got != "POST /a hello" {
				t.Errorf("the backend got %q", got)
			}
			return
		}
	}
}

func TestContinuationFloodIsCut(t *testing.T) {
	for _, size := range []int{0, 1, 1000, 10000} {
		b := startEcho(t)
		f := startTLS(t, secureSite(httpTo(b.address)))
		c, _ := f.dialH2()
		cut := make(chan bool)
		go func() {
			defer close(cut)
			io.Copy(io.Discard, c.conn)
		}()
		err := c.WriteHeaders(http2.HeadersFrameParam{
			StreamID: 1, BlockFragment: c.fields(":method", "GET", ":scheme", "https", ":path", "/", ":authority", "example.com"),
		})
		piece := c.fields("x-flood", strings.Repeat("a", 20000))[:size]
		for range 200 {
			if err == nil {
				err = c.WriteContinuation(1, false, piece)
			}
		}
		await(t, "a line in the log", func() bool {
			return strings.Contains(f.log.String(), "HTTP/2 header block of too many frames or bytes")
		})
		c.conn.Close()
		<-cut
	}
}

// mostResets is how many streams may be reset within a time, with the one that is too many.
func mostResets(took time.Duration) int { return 201 + int(20*took/time.Second) }

func TestRapidResetIsCut(t *testing.T) {
	begin := time.Now()
	b := startHeads(t, always(ok))
	f := startTLS(t, secureSite(httpTo(b.address)))
	c, _ := f.dialH2()
	go io.Copy(io.Discard, c.conn)
	var err error
	streams := 0
	for ; err == nil && streams < 200_000; streams++ {
		stream := uint32(2*streams + 1)
		err = c.request(stream, ":method", "GET", ":scheme", "https", ":path", "/"+strconv.Itoa(streams), ":authority", "example.com")
		if err == nil {
			err = c.WriteRSTStream(stream, http2.ErrCodeCancel)
		}
	}
	if err == nil {
		t.Errorf("%d streams were opened and reset at once", streams)
	}
	if n, most := len(b.seen()), mostResets(time.Since(begin)); n > most {
		t.Errorf("the backend saw %d of the requests, want %d at most", n, most)
	}
	c.conn.Close()
	await(t, "a line in the log", func() bool { return strings.Contains(f.log.String(), "resets streams too fast") })
}

// TestPatientResetsAreTaken is a browser that cancels what scrolls out of sight.
func TestPatientResetsAreTaken(t *testing.T) {
	b := startHeads(t, always(ok))
	c, _ := startTLS(t, secureSite(httpTo(b.address))).dialH2()
	for i := range uint32(50) {
		c.request(2*i+1, ":method", "GET", ":scheme", "https", ":path", "/", ":authority", "example.com")
		c.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
	}
	c.request(101, ":method", "GET", ":scheme", "https", ":path", "/", ":authority", "example.com")
	if status := c.status(101); status != "200" {
		t.Errorf("answered %s", status)
	}
}

// TestFloodsOfSmallFramesAreCut: none of them is a request, and each makes work.
func TestFloodsOfSmallFramesAreCut(t *testing.T) {
	const many = 200_000
	for name, flood := range map[string]func(*h2Client) error{
		"SETTINGS": func(c *h2Client) error {
			return c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 65535})
		},
		"PRIORITY":      func(c *h2Client) error { return c.WritePriority(1, http2.PriorityParam{Weight: 7}) },
		"WINDOW_UPDATE": func(c *h2Client) error { return c.WriteWindowUpdate(0, 1) },
		"PING":          func(c *h2Client) error { return c.WritePing(false, [8]byte{}) },
		"empty DATA":    func(c *h2Client) error { return c.WriteData(1, false, nil) },
		"padding":       func(c *h2Client) error { return c.WriteDataPadded(1, false, nil, make([]byte, 255)) },
		"unknown":       func(c *h2Client) error { return c.WriteRawFrame(0xF0, 0, 0, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			b := startEcho(t)
			f := startTLS(t, secureSite(httpTo(b.address)))
			c, _ := f.dialH2()
			c.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 1, EndHeaders: true,
				BlockFragment: c.fields(":method", "POST", ":scheme", "https", ":path", "/", ":authority", "example.com"),
			})
			go io.Copy(io.Discard, c.conn)
			var err error
			frames := 0
			for ; err == nil && frames < many; frames++ {
				err = flood(c)
			}
			if err == nil {
				t.Errorf("%d frames were taken", frames)
			}
			c.conn.Close()
			await(t, "a line in the log", func() bool { return strings.Contains(f.log.String(), "HTTP/2 client sends too many") })
		})
	}
}

// TestResetsThatTheClientProvokesAreCut: they end requests as the client's own do, with the backend's work begun.
func TestResetsThatTheClientProvokesAreCut(t *testing.T) {
	for name, provoke := range map[string]func(*h2Client, uint32) error{
		"WINDOW_UPDATE of 0": func(c *h2Client, stream uint32) error { return c.WriteWindowUpdate(stream, 0) },
		"window overflow":    func(c *h2Client, stream uint32) error { return c.WriteWindowUpdate(stream, 1<<31-1) },
		"DATA after the end": func(c *h2Client, stream uint32) error { return c.WriteData(stream, true, []byte("x")) },
		"PRIORITY on itself": func(c *h2Client, stream uint32) error {
			return c.WritePriority(stream, http2.PriorityParam{StreamDep: stream})
		},
	} {
		t.Run(name, func(t *testing.T) {
			begin, release := time.Now(), make(chan bool)
			defer close(release)
			b := startHeld(t, release)
			f := startTLS(t, secureSite(httpTo(b.address)))
			c, _ := f.dialH2()
			go io.Copy(io.Discard, c.conn)
			var err error
			streams := uint32(0)
			for ; err == nil && streams < 200_000; streams++ {
				err = c.request(2*streams+1, ":method", "GET", ":scheme", "https", ":path", "/", ":authority", "example.com")
				if err == nil {
					err = provoke(c, 2*streams+1)
				}
			}
			if err == nil {
				t.Errorf("%d streams were opened and reset", streams)
			}
			if n, most := len(b.seen()), mostResets(time.Since(begin)); n > most {
				t.Errorf("the backend saw %d of the requests, want %d at most", n, most)
			}
			c.conn.Close()
			await(t, "a line in the log", func() bool { return strings.Contains(f.log.String(), `"error":"HTTP/2 client`) })
		})
	}
}

// TestDownloadWithManyWindowUpdatesIsWhole: the client acknowledges each frame twice, and answers a ping with a ping.
func TestDownloadWithManyWindowUpdatesIsWhole(t *testing.T) {
	const size = 32 << 20
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		rawHead(bufio.NewReader(conn))
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: "+strconv.Itoa(size)+"\r\n\r\n")
		for range size / 1000 {
			conn.Write(make([]byte, 1000))
		}
		conn.Write(make([]byte, size%1000))
	})
	f := startTLS(t, secureSite(httpTo(b.address)))
	c, _ := f.dialH2()
	c.request(1, ":method", "GET", ":scheme", "https", ":path", "/", ":authority", "example.com")
	for got := 0; got < size; {
		frame, err := c.ReadFrame()
		if err != nil {
			t.Fatalf("%v after %d bytes", err, got)
		}
		if data, ok := frame.(*http2.DataFrame); ok && len(data.Data()) > 0 {
			got += len(data.Data())
			c.WriteWindowUpdate(0, uint32(len(data.Data())))
			c.WriteWindowUpdate(1, uint32(len(data.Data())))
			c.WritePing(false, [8]byte{1})
		}
	}
}

func TestContentLengthsThatContradictEachOtherOverHTTP2Are400(t *testing.T) {
	b := startEcho(t)
	f := startTLS(t, secureSite(httpTo(b.address)))
	for _, tt := range []struct {
		lengths []string
		body    string
		status  string
	}{
		{[]string{"5"}, "hello", "200"},
		{nil, "hello", "200"},
		{[]string{"0"}, "", "200"},
		{[]string{"5", "3"}, "hello", "400"},
		{[]string{"3", "5"}, "hello", "400"},
		{[]string{"5, 3"}, "hello", "400"},
		{[]string{"many"}, "hello", "400"},
		{[]string{"5"}, "", "400"},
	} {
		c, _ := f.dialH2()
		fields := []string{":method", "POST", ":scheme", "https", ":path", "/", ":authority", "example.com"}
		for _, length := range tt.lengths {
			fields = append(fields, "content-length", length)
		}
		c.WriteHeaders(http2.HeadersFrameParam{
			StreamID: 1, EndHeaders: true, EndStream: tt.body == "", BlockFragment: c.fields(fields...),
		})
		if tt.status == "200" && tt.body != "" { // otherwise the answer does not wait for it
			c.WriteData(1, true, []byte(tt.body))
		}
		if status := c.status(1); status != tt.status {
			t.Errorf("lengths %q with body %q: answered %s, want %s", tt.lengths, tt.body, status, tt.status)
		}
	}
}
