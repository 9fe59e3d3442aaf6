package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
)

// getPath is the head of a GET for [h2Client.request].
func getPath(path string) []string {
	return []string{":method", "GET", ":scheme", "https", ":path", path, ":authority", "example.com"}
}

// post begins a stream whose body is to come.
func (c *h2Client) post(stream uint32, more ...string) {
	c.WriteHeaders(http2.HeadersFrameParam{
		StreamID: stream, EndHeaders: true,
		BlockFragment: c.fields(append([]string{":method", "POST", ":scheme", "https", ":path", "/", ":authority", "example.com"}, more...)...),
	})
}

// next reads a frame.
func (c *h2Client) next() http2.Frame {
	c.t.Helper()
	frame, err := c.ReadFrame()
	if err != nil {
		c.t.Fatal(err)
	}
	return frame
}

// whole reads the answer on a stream to its end.
func (c *h2Client) whole(stream uint32) string {
	c.t.Helper()
	return c.wholes(stream)[0]
}

// wholes reads the answers on some streams to their ends: the statuses of their heads, the body, the trailers, and how each ended. Windows are opened
// again as bytes come.
func (c *h2Client) wholes(streams ...uint32) (told []string) {
	c.t.Helper()
	told = make([]string, len(streams))
	bodies := make([]string, len(streams))
	for left := len(streams); left > 0; {
		frame := c.next()
		h := frame.Header()
		i := slices.Index(streams, h.StreamID)
		if i < 0 {
			continue
		}
		end := h.Flags.Has(http2.FlagDataEndStream)
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			if status := f.PseudoValue("status"); status != "" {
				told[i] += status + " "
			} else {
				told[i] += quoted(bodies[i]) + f.RegularFields()[0].Name + "=" + f.RegularFields()[0].Value + " "
				bodies[i] = ""
			}
		case *http2.DataFrame:
			bodies[i] += string(f.Data())
			if f.Length > 0 {
				c.WriteWindowUpdate(0, f.Length)
				c.WriteWindowUpdate(h.StreamID, f.Length)
			}
		case *http2.RSTStreamFrame:
			told[i] += quoted(bodies[i]) + f.ErrCode.String()
			left--
			continue
		default:
			end = false
		}
		if end {
			told[i] += quoted(bodies[i]) + "end"
			left--
		}
	}
	return told
}

// quoted shows a body, and of a long one the length.
func quoted(body string) string {
	switch {
	case body == "":
		return ""
	case len(body) > 200:
		return fmt.Sprintf("%d bytes ", len(body))
	}
	return strconv.Quote(body) + " "
}

func TestAnswersOverHTTP2(t *testing.T) {
	const chunked = "Transfer-Encoding: chunked\r\n\r\n"
	tests := []struct{ name, method, answer, want string }{
		{"with a length", "GET", ok, `200 "ok" end`},
		{"in chunks", "GET", "HTTP/1.1 200 OK\r\n" + chunked + "2\r\nok\r\n0\r\n\r\n", `200 "ok" end`},
		{"with trailers", "GET", "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\n" + chunked + "2\r\nok\r\n0\r\nX-Sum: a\r\n\r\n", `200 "ok" x-sum=a end`},
		{"until the end", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", `200 "ok" end`},
		{"empty", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", `200 end`},
		{"empty in chunks", "GET", "HTTP/1.1 200 OK\r\n" + chunked + "0\r\n\r\n", `200 end`},
		{"to HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", `200 end`},
		{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", `204 end`},
		{"304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", `304 end`},
		{"early hints", "GET", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok, `103 200 "ok" end`},
		{"long", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + strings.Repeat("x", 1_000_000), `200 1000000 bytes end`},
		{"cut", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nok", `200 "ok" INTERNAL_ERROR`},
		{"cut in chunks", "GET", "HTTP/1.1 200 OK\r\n" + chunked + "2\r\nok\r\n", `200 "ok" INTERNAL_ERROR`},
		{"of another protocol", "GET", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", `502 `},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := startBackend(t, func(_ *backend, conn net.Conn) {
				rawHead(bufio.NewReader(conn))
				io.WriteString(conn, tt.answer)
			})
			c, _ := startTLS(t, secureSite(httpTo(b.address))).dialH2()
			for _, stream := range []uint32{1, 3} { // the connection is none the worse
				c.request(stream, append([]string{":method", tt.method}, getPath("/")[2:]...)...)
				if got := c.whole(stream); got != tt.want && (tt.want != "502 " || !strings.HasPrefix(got, tt.want)) {
					t.Errorf("%s, want %s", got, tt.want)
				}
			}
		})
	}
}

// TestBodyOfSmallFramesIsOneBody: whatever the frames are, the backend gets the bytes, and in few writes.
func TestBodyOfSmallFramesIsOneBody(t *testing.T) {
	b := startEcho(t)
	c, _ := startTLS(t, secureSite(httpTo(b.address))).dialH2()
	text := strings.Repeat("small ", 13)
	c.post(1, "content-length", strconv.Itoa(len(text)))
	c.post(3)
	for i := range len(text) {
		c.WriteData(1, i == len(text)-1, []byte(text[i:i+1]))
		c.WriteDataPadded(3, i == len(text)-1, []byte(text[i:i+1]), make([]byte, i))
	}
	for i, got := range c.wholes(1, 3) {
		if want := `200 "POST / ` + text + `" end`; got != want {
			t.Errorf("stream %d: %s, want %s", 2*i+1, got, want)
		}
	}
}

func TestContinueOverHTTP2IsSentOnlyWhenTheBodyIsWanted(t *testing.T) {
	b := startEcho(t)
	c, _ := startTLS(t, secureSite(httpTo(b.address))).dialH2()
	c.post(1, "expect", "100-continue")
	for {
		if m, ok := c.next().(*http2.MetaHeadersFrame); ok {
			if status := m.PseudoValue("status"); status != "100" {
				t.Fatalf("answered %s", status)
			}
			break
		}
	}
	c.WriteData(1, true, []byte("hello"))
	if got := c.whole(1); got != `200 "POST / hello" end` {
		t.Error(got)
	}
}

// TestEarlyAnswerEndsTheUpload: the answer is whole, and what is left of the body is not wanted.
func TestEarlyAnswerEndsTheUpload(t *testing.T) {
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		rawHead(bufio.NewReader(conn))
		io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
		io.Copy(io.Discard, conn) // a reset is not to overtake it
	})
	f := startTLS(t, secureSite(httpTo(b.address)))
	c, _ := f.dialH2()
	for stream := uint32(1); stream < 9; stream += 2 {
		c.post(stream)
		c.WriteData(stream, false, make([]byte, 1000))
		await(t, "what came", func() bool { return f.server.Counts().Kept == 1000 })
		f.server.Skip(2 * time.Second) // in which more may come, before it goes on
		if got := c.whole(stream); got != `403 "no" end` {
			t.Errorf("answered %s", got)
		}
		for {
			if f, ok := c.next().(*http2.RSTStreamFrame); ok && f.StreamID == stream {
				if f.ErrCode != http2.ErrCodeNo {
					t.Errorf("reset for %s", f.ErrCode)
				}
				break
			}
		}
		c.WriteData(stream, false, make([]byte, 1000)) // was on its way
	}
}

// endless sends without an end, and counts what is taken off it.
func endless(_ *backend, conn net.Conn) {
	rawHead(bufio.NewReader(conn))
	io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
	for piece := make([]byte, 64<<10); ; {
		if _, err := conn.Write(piece); err != nil {
			return
		}
	}
}

func TestStalledStreamStopsNoOther(t *testing.T) {
	long := startBackend(t, endless)
	b := startEcho(t)
	f := startTLS(t, "spool_max: off\n"+secureSite(`{path: /long, http: "http://`+long.address+`"}`, httpTo(b.address)))
	c, _ := f.dialH2()
	c.WriteWindowUpdate(0, 1<<30)
	for stream := uint32(1); stream < 99; stream += 2 { // each is stalled behind its window of 64 KB
		c.request(stream, getPath("/long")...)
	}
	for got := 0; got < 49*65535; {
		if data, ok := c.next().(*http2.DataFrame); ok {
			got += len(data.Data())
		}
	}
	for stream := uint32(99); stream < 199; stream += 2 {
		c.request(stream, getPath("/")...)
		if got := c.whole(stream); got != `200 "GET / " end` {
			t.Errorf("answered %s", got)
		}
	}
}

// TestWindowThatIsHeldShutEndsItsStream, be it opened a byte at a time, and be it the stream's or the connection's.
func TestWindowThatIsHeldShutEndsItsStream(t *testing.T) {
	for name, open := range map[string]func(c *h2Client){
		"zero":                   func(*h2Client) {},
		"a byte at a time":       func(c *h2Client) { c.WriteWindowUpdate(1, 1) },
		"that of the connection": func(c *h2Client) { c.WriteWindowUpdate(1, 1000) },
	} {
		t.Run(name, func(t *testing.T) {
			f := startTLS(t, secureSite(httpTo(startBackend(t, endless).address)))
			c, _ := f.dialH2()
			if name != "that of the connection" {
				c.WriteWindowUpdate(0, 1<<30)
				c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
			}
			c.request(1, getPath("/")...)
			await(t, "that something is kept", func() bool { return f.server.Counts().Kept > 0 })
			ended := make(chan string)
			go func() {
				for {
					frame, err := c.ReadFrame()
					if err != nil {
						ended <- err.Error()
						return
					}
					if f, ok := frame.(*http2.RSTStreamFrame); ok {
						ended <- f.ErrCode.String()
						return
					}
				}
			}()
			turned := 0
			for ; f.server.Counts().Backends > 0; turned += 5 {
				if turned > 200 {
					t.Fatal("it may hold its window shut for ever")
				}
				open(c)
				f.server.Skip(5 * time.Second)
			}
			if end := <-ended; end != "CANCEL" || turned < 50 || turned > 130 {
				t.Errorf("ended after %d s: %s", turned, end)
			}
			await(t, "nothing kept", func() bool { n := f.server.Counts(); return n.Kept == 0 && n.Backends == 0 && n.Clients == 1 })
		})
	}
}

func TestStreamsShareTheConnectionFairly(t *testing.T) {
	b := startBackend(t, endless)
	c, _ := startTLS(t, secureSite(httpTo(b.address))).dialH2()
	c.WriteWindowUpdate(0, 1<<30)
	c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	const streams = 8
	for i := range uint32(streams) {
		c.request(2*i+1, getPath("/")...)
	}
	got := map[uint32]int{}
	all := 0
	for begin := 0; all < 64<<20; {
		data, ok := c.next().(*http2.DataFrame)
		if !ok {
			continue
		}
		if len(got) == streams && begin == 0 {
			begin, all = 1, 0
			clear(got)
		}
		got[data.StreamID] += len(data.Data())
		all += len(data.Data())
	}
	for i := range uint32(streams) {
		if n := got[2*i+1]; n < all/streams/2 || n > all/streams*2 {
			t.Errorf("of %d bytes stream %d got %d", all, 2*i+1, n)
		}
	}
}

// TestUploadOverHTTP2GoesAsFastAsItsBackend: what the backend does not take is not asked for.
func TestUploadOverHTTP2GoesAsFastAsItsBackend(t *testing.T) {
	begin := make(chan bool)
	const size = 32 << 20
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		<-begin
		n, _ := io.Copy(io.Discard, req.Body)
		text := strconv.FormatInt(n, 10)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	})
	f := startTLS(t, secureSite(httpTo(b.address)))
	c, settings := f.dialH2()
	window, _ := settings.Value(http2.SettingInitialWindowSize)
	frames := make(chan http2.Frame, 10_000)
	go func() {
		defer close(frames)
		for {
			frame, err := c.ReadFrame()
			if err != nil {
				return
			}
			switch f := frame.(type) {
			case *http2.WindowUpdateFrame, *http2.MetaHeadersFrame:
				frames <- f
			case *http2.DataFrame:
				frames <- &http2.DataFrame{FrameHeader: f.FrameHeader}
			}
		}
	}()
	c.post(1)
	open, sent := int(window), 0
	stalled, pause := false, 300*time.Millisecond
	for sent < size {
		if n := min(open, 16384, size-sent); n > 0 {
			if err := c.WriteData(1, sent+n == size, make([]byte, n)); err != nil {
				t.Fatal(err)
			}
			open, sent = open-n, sent+n
			continue
		}
		select {
		case frame := <-frames:
			if f, ok := frame.(*http2.WindowUpdateFrame); ok && f.StreamID == 1 {
				open += int(f.Increment)
			}
		case <-time.After(pause):
			if stalled {
				t.Fatalf("no window after %d bytes", sent)
			}
			stalled, pause = true, patience
			close(begin)
		}
	}
	if !stalled {
		t.Errorf("%d bytes were asked for that nobody took", size)
	}
	for frame := range frames {
		if m, ok := frame.(*http2.MetaHeadersFrame); ok {
			if status := m.PseudoValue("status"); status != "200" {
				t.Errorf("answered %s", status)
			}
			break
		}
	}
	c.conn.Close()
	for range frames {
	}
}
