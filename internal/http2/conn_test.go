package http2

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wstunnel/internal/head"
)

// client makes frames with golang.org/x/net's Framer, and reads those of a Conn.
type client struct {
	*http2.Framer
	t      *testing.T
	conn   *Conn
	out    bytes.Buffer // what is sent
	in     bytes.Buffer // and received
	block  bytes.Buffer
	encode *hpack.Encoder
}

func newClient(t *testing.T) *client {
	c := &client{t: t, conn: NewConn(NewBudget(1<<20), false, nil)}
	c.Framer = http2.NewFramer(&c.out, &c.in)
	c.encode = hpack.NewEncoder(&c.block)
	c.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	c.AllowIllegalWrites = true
	c.out.WriteString(Preface)
	c.WriteSettings()
	c.WriteSettingsAck()
	if told, err := c.tell(); err != nil || told != "window " {
		t.Fatalf("preface: %q, %v", told, err)
	}
	c.answers()
	return c
}

func (c *client) fields(pairs ...string) []byte {
	c.block.Reset()
	for i := 0; i+1 < len(pairs); i += 2 {
		c.encode.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	return bytes.Clone(c.block.Bytes())
}

func get(more ...string) []string {
	return append([]string{":method", "GET", ":scheme", "https", ":path", "/", ":authority", "example.com"}, more...)
}

func post(more ...string) []string {
	return append([]string{":method", "POST", ":scheme", "https", ":path", "/", ":authority", "example.com"}, more...)
}

// headers begins a stream, or ends it with trailers.
func (c *client) headers(stream uint32, end bool, pairs ...string) {
	c.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, EndStream: end, EndHeaders: true, BlockFragment: c.fields(pairs...)})
}

// tell feeds what was written and returns the events, with the first error.
func (c *client) tell() (told string, err error) {
	p := bytes.Clone(c.out.Bytes())
	c.out.Reset()
	return tellAll(c.conn, p)
}

func tellAll(conn *Conn, p []byte) (told string, err error) {
	var text strings.Builder
	for {
		n, event, err := conn.Next(p)
		p = p[n:]
		if err != nil {
			return text.String(), err
		}
		s := conn.Stream
		switch event {
		case More:
			if len(p) > 0 {
				return text.String(), fmt.Errorf("%d bytes were left", len(p))
			}
			return text.String(), nil
		case Request:
			fmt.Fprintf(&text, "request %d ", s.ID)
			if s.Refusal != nil {
				fmt.Fprintf(&text, "refused %d ", s.Refusal.Status)
			}
		case Data:
			fmt.Fprintf(&text, "data %d %q ", s.ID, conn.Data)
			conn.Grant(s, len(conn.Data))
		case End:
			fmt.Fprintf(&text, "end %d ", s.ID)
			for _, f := range conn.Trailers {
				fmt.Fprintf(&text, "%s=%s ", f.Name, f.Value)
			}
		case Reset:
			fmt.Fprintf(&text, "reset %d ", s.ID)
			if conn.Cause != nil {
				fmt.Fprintf(&text, "for %s ", conn.Cause.Code)
			}
		case Window:
			fmt.Fprintf(&text, "window ")
		case PingAcked:
			fmt.Fprintf(&text, "acked ")
		}
	}
}

// answers returns what the Conn has to send, frame by frame.
func (c *client) answers() (frames []http2.Frame) {
	c.in.Write(c.conn.Out)
	c.conn.Sent(nil)
	for {
		f, err := c.ReadFrame()
		if err != nil {
			if c.in.Len() > 0 {
				c.t.Fatalf("a frame that x/net does not take: %v", err)
			}
			return frames
		}
		switch f := f.(type) {
		case *http2.DataFrame: // its data are valid until the next frame only
			frames = append(frames, &http2.DataFrame{FrameHeader: f.FrameHeader})
		default:
			frames = append(frames, f)
		}
	}
}

// summary names frames shortly.
func summary(frames []http2.Frame) string {
	var words []string
	for _, f := range frames {
		h := f.Header()
		word := fmt.Sprintf("%s %d", h.Type, h.StreamID)
		switch f := f.(type) {
		case *http2.RSTStreamFrame:
			word += " " + f.ErrCode.String()
		case *http2.GoAwayFrame:
			word += fmt.Sprintf(" %s last %d", f.ErrCode, f.LastStreamID)
		case *http2.WindowUpdateFrame:
			word += fmt.Sprintf(" +%d", f.Increment)
		case *http2.DataFrame:
			word += fmt.Sprintf(" of %d", h.Length)
		case *http2.MetaHeadersFrame:
			word += " " + f.PseudoValue("status")
		}
		if h.Type == http2.FrameData && h.Flags.Has(http2.FlagDataEndStream) || h.Type == http2.FrameHeaders && h.Flags.Has(http2.FlagHeadersEndStream) {
			word += " end"
		}
		if (h.Type == http2.FrameSettings || h.Type == http2.FramePing) && h.Flags.Has(http2.FlagSettingsAck) {
			word += " ack"
		}
		words = append(words, word)
	}
	return strings.Join(words, "; ")
}

func TestConnectionBegins(t *testing.T) {
	c := &client{t: t, conn: NewConn(NewBudget(0), false, nil)}
	c.Framer = http2.NewFramer(&c.out, &c.in)
	if got := summary(c.answers()); got != "SETTINGS 0; WINDOW_UPDATE 0 +1572865" {
		t.Errorf("begins with %s", got)
	}
	extended := NewConn(NewBudget(0), true, nil)
	if !bytes.Contains(extended.Out, []byte{0, settingEnableConnect, 0, 0, 0, 1}) || bytes.Contains(NewConn(NewBudget(0), false, nil).Out, []byte{0, settingEnableConnect, 0, 0, 0, 1}) {
		t.Error("extended CONNECT is offered where it is not taken, or the other way round")
	}
}

// TestEvents has one line for each thing that a client may do: what it is told to be, what is answered, and how the connection ends.
func TestEvents(t *testing.T) {
	big := strings.Repeat("x", streamWindow)
	tests := []struct {
		name    string
		do      func(c *client)
		told    string
		answers string
		err     string
	}{
		{"a GET", func(c *client) { c.headers(1, true, get()...) }, "request 1 end 1 ", "", ""},
		{"a POST", func(c *client) { c.headers(1, false, post()...); c.WriteData(1, true, []byte("ab")) }, `request 1 data 1 "ab" end 1 `, "", ""},
		{"an empty end", func(c *client) { c.headers(1, false, post()...); c.WriteData(1, true, nil) }, "request 1 end 1 ", "", ""},
		{
			"trailers", func(c *client) { c.headers(1, false, post()...); c.headers(1, true, "x-sum", "5", "etag", "a") }, "request 1 end 1 X-Sum=5 ETag=a ",
			"", "",
		},
		{"padding", func(c *client) {
			c.headers(1, false, post()...)
			c.WriteDataPadded(1, true, []byte("ab"), make([]byte, 200))
		}, `request 1 data 1 "ab" end 1 `, "", ""},
		{"padding alone", func(c *client) {
			c.headers(1, false, post()...)
			c.WriteDataPadded(1, true, nil, make([]byte, 200))
		}, `request 1 end 1 `, "", ""},
		{"two requests", func(c *client) { c.headers(1, true, get()...); c.headers(3, true, get()...) }, "request 1 end 1 request 3 end 3 ", "", ""},
		{"a block in pieces", func(c *client) {
			block := c.fields(get()...)
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndStream: true, BlockFragment: block[:1]})
			c.WriteContinuation(1, false, nil)
			c.WriteContinuation(1, true, block[1:])
		}, "request 1 end 1 ", "", ""},
		{"a ping", func(c *client) { c.WritePing(false, [8]byte{1}) }, "", "PING 0 ack", ""},
		{"an acknowledged ping of nobody", func(c *client) { c.WritePing(true, [8]byte{1}) }, "", "", ""},
		{"the acknowledged ping of a drain", func(c *client) { c.WritePing(true, drainPing) }, "acked ", "", ""},
		{"settings", func(c *client) { c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1}) }, "window ", "SETTINGS 0 ack", ""},
		{"a reset", func(c *client) { c.headers(1, true, get()...); c.WriteRSTStream(1, http2.ErrCodeCancel) }, "request 1 end 1 reset 1 ", "", ""},
		{"a request of nothing known", func(c *client) { c.WriteRawFrame(0xF0, 0xFF, 7, []byte("abc")) }, "", "", ""},
		{"a GOAWAY", func(c *client) { c.WriteGoAway(0, http2.ErrCodeNo, nil); c.headers(1, true, get()...) }, "request 1 end 1 ", "", ""},
		{
			"an upload as large as the window", func(c *client) {
				c.headers(1, false, post()...)
				c.WriteData(1, false, []byte(big))
			}, fmt.Sprintf("request 1 data 1 %q ", big), "WINDOW_UPDATE 1 +32768", "",
		},

		// A stream ends.
		{
			"a window of a stream above 2^31-1", func(c *client) { c.headers(1, true, get()...); c.WriteWindowUpdate(1, 1<<31-1) },
			"request 1 end 1 reset 1 for FLOW_CONTROL_ERROR ", "RST_STREAM 1 FLOW_CONTROL_ERROR", "",
		},
		{
			"an update by nothing", func(c *client) { c.headers(1, true, get()...); c.WriteWindowUpdate(1, 0) },
			"request 1 end 1 reset 1 for PROTOCOL_ERROR ", "RST_STREAM 1 PROTOCOL_ERROR", "",
		},
		{
			"DATA behind the end", func(c *client) { c.headers(1, true, get()...); c.WriteData(1, true, []byte("x")) },
			"request 1 end 1 reset 1 for STREAM_CLOSED ", "RST_STREAM 1 STREAM_CLOSED", "",
		},
		{"DATA behind a reset", func(c *client) {
			c.headers(1, false, post()...)
			c.WriteRSTStream(1, 0)
			c.WriteData(1, true, []byte("x"))
		}, "request 1 reset 1 ", "RST_STREAM 1 STREAM_CLOSED", ""},
		{
			"HEADERS behind the end", func(c *client) { c.headers(1, true, get()...); c.headers(1, true, get()...) },
			"request 1 end 1 reset 1 for STREAM_CLOSED ", "RST_STREAM 1 STREAM_CLOSED", "",
		},
		{
			"trailers that are no end", func(c *client) { c.headers(1, false, post()...); c.headers(1, false, "a", "b") },
			"request 1 reset 1 for PROTOCOL_ERROR ", "RST_STREAM 1 PROTOCOL_ERROR", "",
		},
		{
			"trailers with a pseudo-header", func(c *client) { c.headers(1, false, post()...); c.headers(1, true, ":path", "/") },
			"request 1 reset 1 for PROTOCOL_ERROR ", "RST_STREAM 1 PROTOCOL_ERROR", "",
		},
		{
			"too short a body", func(c *client) {
				c.headers(1, false, post("content-length", "3")...)
				c.WriteData(1, true, []byte("ab"))
			},
			`request 1 data 1 "ab" reset 1 for PROTOCOL_ERROR `, "RST_STREAM 1 PROTOCOL_ERROR", "",
		},
		{"too short a body before trailers", func(c *client) {
			c.headers(1, false, post("content-length", "3")...)
			c.headers(1, true, "a", "b")
		}, "request 1 reset 1 for PROTOCOL_ERROR ", "RST_STREAM 1 PROTOCOL_ERROR", ""},
		{
			"too long a body", func(c *client) {
				c.headers(1, false, post("content-length", "1")...)
				c.WriteData(1, true, []byte("ab"))
			},
			"request 1 reset 1 for PROTOCOL_ERROR ", "RST_STREAM 1 PROTOCOL_ERROR", "",
		},
		{
			"a stream that depends on itself", func(c *client) { c.headers(1, true, get()...); c.WritePriority(1, http2.PriorityParam{StreamDep: 1}) },
			"request 1 end 1 reset 1 for PROTOCOL_ERROR ", "RST_STREAM 1 PROTOCOL_ERROR", "",
		},
		{"DATA of a closed stream", func(c *client) {
			c.headers(1, true, get()...)
			c.tell()
			c.conn.Respond(c.conn.Stream, &head.Response{Status: 204}, "now", false, true)
			c.answers()
			c.WriteData(1, true, []byte("x"))
		}, "", "RST_STREAM 1 STREAM_CLOSED", ""},
		{"DATA on its way to a stream that was reset", func(c *client) {
			c.headers(1, false, post()...)
			c.tell()
			c.conn.Reset(c.conn.Stream, NoError)
			c.answers()
			c.WriteData(1, false, []byte("x"))
			c.headers(1, true, "a", "b")
			c.headers(3, true, get()...)
		}, "request 3 end 3 ", "", ""},

		// The connection ends.
		{"a request behind another", func(c *client) { c.headers(5, true, get()...); c.headers(3, true, get()...) }, "request 5 end 5 ", "", "PROTOCOL_ERROR"},
		{"an even stream", func(c *client) { c.headers(2, true, get()...) }, "", "", "PROTOCOL_ERROR"},
		{"HEADERS of no stream", func(c *client) { c.headers(0, true, get()...) }, "", "", "PROTOCOL_ERROR"},
		{"HEADERS of a closed stream", func(c *client) {
			c.headers(1, true, get()...)
			c.tell()
			c.conn.Respond(c.conn.Stream, &head.Response{Status: 204}, "now", false, true)
			c.answers()
			c.headers(1, true, get()...)
		}, "", "", "STREAM_CLOSED"},
		{"DATA of an idle stream", func(c *client) { c.WriteData(1, true, nil) }, "", "", "PROTOCOL_ERROR"},
		{"DATA of no stream", func(c *client) { c.WriteRawFrame(http2.FrameData, 0, 0, nil) }, "", "", "PROTOCOL_ERROR"},
		{"a reset of an idle stream", func(c *client) { c.WriteRSTStream(1, 0) }, "", "", "PROTOCOL_ERROR"},
		{"a window of an idle stream", func(c *client) { c.WriteWindowUpdate(1, 1) }, "", "", "PROTOCOL_ERROR"},
		{"a window of the connection above 2^31-1", func(c *client) { c.WriteWindowUpdate(0, 1<<31-1) }, "", "", "FLOW_CONTROL_ERROR"},
		{"an update of the connection by nothing", func(c *client) { c.WriteWindowUpdate(0, 0) }, "", "", "PROTOCOL_ERROR"},
		{
			"a setting too large", func(c *client) { c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}) }, "", "",
			"FLOW_CONTROL_ERROR",
		},
		{"settings that open a window too far", func(c *client) {
			c.headers(1, true, get()...)
			c.WriteWindowUpdate(1, 1<<31-1-initialWindow)
			c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 70000})
		}, "request 1 end 1 window ", "", "FLOW_CONTROL_ERROR"},
		{"push that is neither on nor off", func(c *client) { c.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 2}) }, "", "", "PROTOCOL_ERROR"},
		{"frames too small", func(c *client) { c.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 16383}) }, "", "", "PROTOCOL_ERROR"},
		{"five bytes of settings", func(c *client) { c.WriteRawFrame(http2.FrameSettings, 0, 0, make([]byte, 5)) }, "", "", "FRAME_SIZE_ERROR"},
		{"settings of a stream", func(c *client) { c.WriteRawFrame(http2.FrameSettings, 0, 1, nil) }, "", "", "PROTOCOL_ERROR"},
		{"an acknowledgement with settings", func(c *client) { c.WriteRawFrame(http2.FrameSettings, 1, 0, make([]byte, 6)) }, "", "", "FRAME_SIZE_ERROR"},
		{"a short ping", func(c *client) { c.WriteRawFrame(http2.FramePing, 0, 0, make([]byte, 7)) }, "", "", "FRAME_SIZE_ERROR"},
		{"a short reset", func(c *client) {
			c.headers(1, true, get()...)
			c.WriteRawFrame(http2.FrameRSTStream, 0, 1, make([]byte, 3))
		}, "request 1 end 1 ", "", "FRAME_SIZE_ERROR"},
		{"a long frame", func(c *client) { c.WriteRawFrame(0xF0, 0, 0, make([]byte, maxFrame+1)) }, "", "", "FRAME_SIZE_ERROR"},
		{"a push", func(c *client) { c.WriteRawFrame(http2.FramePushPromise, 4, 1, make([]byte, 4)) }, "", "", "PROTOCOL_ERROR"},
		{"CONTINUATION alone", func(c *client) { c.WriteContinuation(1, true, nil) }, "", "", "PROTOCOL_ERROR"},
		{"a block that is interrupted", func(c *client) {
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(get()...)})
			c.WritePing(false, [8]byte{})
		}, "", "", "PROTOCOL_ERROR"},
		{"a block of another stream", func(c *client) {
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(get()...)})
			c.WriteContinuation(3, true, nil)
		}, "", "", "PROTOCOL_ERROR"},
		{"a block that is cut short", func(c *client) {
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: []byte{0x40}})
		}, "", "", "COMPRESSION_ERROR"},
		{"an index of nothing", func(c *client) {
			c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: []byte{0xFF, 0x20}})
		}, "", "", "COMPRESSION_ERROR"},
		{"more padding than payload", func(c *client) {
			c.headers(1, false, post()...)
			c.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, []byte{1})
		}, "request 1 ", "", "PROTOCOL_ERROR"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t)
			tt.do(c)
			told, err := c.tell()
			if told != tt.told {
				t.Errorf("told %q, want %q", told, tt.told)
			}
			switch {
			case tt.err == "" && err != nil:
				t.Errorf("ended for %v", err)
			case tt.err != "" && (err == nil || !strings.HasSuffix(err.Error(), "("+tt.err+")")):
				t.Errorf("ended for %v, want %s", err, tt.err)
			case tt.err != "":
				if got := summary(c.answers()); !strings.Contains(got, "GOAWAY 0 "+tt.err) {
					t.Errorf("answered %s", got)
				}
			default:
				if got := summary(c.answers()); got != tt.answers {
					t.Errorf("answered %s, want %s", got, tt.answers)
				}
			}
		})
	}
}

func TestPrefaceIsWaitedForAndChecked(t *testing.T) {
	for _, tt := range []struct{ sent, err string }{
		{"GET / HTTP/1.1\r\n", "no HTTP/2 connection preface (PROTOCOL_ERROR)"},
		{Preface[:20] + "x", "no HTTP/2 connection preface (PROTOCOL_ERROR)"},
		{Preface[:20], "<nil>"},
		{Preface + "\x00\x00\x08\x06\x00\x00\x00\x00\x00", "the first frame is no SETTINGS (PROTOCOL_ERROR)"},
		{Preface + "\x00\x00\x00\x04\x01\x00\x00\x00\x00", "the first frame is no SETTINGS (PROTOCOL_ERROR)"},
		{Preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00", "<nil>"},
	} {
		if _, err := tellAll(NewConn(NewBudget(0), false, nil), []byte(tt.sent)); fmt.Sprint(err) != tt.err {
			t.Errorf("%q: %v, want %s", tt.sent, err, tt.err)
		}
	}
}

func TestWindowsGrowFromABudgetThatIsGivenBack(t *testing.T) {
	c := newClient(t)
	budget := NewBudget(100 << 10)
	c.conn.budget = budget
	c.headers(1, false, post()...)
	c.tell()
	s := c.conn.Stream
	var sizes []int64
	for range 60 {
		c.WriteData(1, false, make([]byte, 8<<10))
		if _, err := c.tell(); err != nil {
			t.Fatal(err)
		}
		if n := len(sizes); n == 0 || sizes[n-1] != s.size {
			sizes = append(sizes, s.size)
		}
	}
	if fmt.Sprint(sizes) != "[16384 32768 65536 118784]" {
		t.Errorf("the window was %v bytes", sizes)
	}
	if left := budget.Left(); left != 0 {
		t.Errorf("%d bytes of the budget are left", left)
	}
	c.WriteData(1, true, nil)
	c.tell()
	c.conn.Respond(s, &head.Response{Status: 200}, "now", true, true)
	if left := budget.Left(); left != 100<<10 || !s.Closed() {
		t.Errorf("%d bytes of the budget came back", left)
	}
}

// TestClientThatDoesNotKnowItsWindowsYetMayUseTheUsualOnes: it need not wait for SETTINGS before it sends a request (RFC 9113, sections 3.4 and 6.9.2).
func TestClientThatDoesNotKnowItsWindowsYetMayUseTheUsualOnes(t *testing.T) {
	for _, tt := range []struct {
		sizes []int // of DATA frames
		known bool  // the client has acknowledged SETTINGS
		want  string
	}{
		{[]int{16384, 16384, 16384, 16383}, false, ""},
		{[]int{16384, 16384, 16384, 16384}, false, "FLOW_CONTROL_ERROR"},
		{[]int{16384, 1}, true, "FLOW_CONTROL_ERROR"},
		{[]int{16384}, true, ""},
	} {
		c := newClient(t)
		c.conn.early = initialWindow
		if tt.known {
			c.WriteSettingsAck()
		}
		c.headers(1, false, post()...)
		for _, size := range tt.sizes {
			c.WriteData(1, false, make([]byte, size))
		}
		p := bytes.Clone(c.out.Bytes())
		cause := ""
		for event := Event(0); len(p) > 0; {
			var n int
			var err error
			if n, event, err = c.conn.Next(p); err != nil {
				t.Fatal(err)
			}
			if p = p[n:]; event == Reset {
				cause = c.conn.Cause.Code.String()
			}
		}
		if cause != tt.want {
			t.Errorf("%v, %v: reset for %q, want %q", tt.sizes, tt.known, cause, tt.want)
		}
	}
}

// TestOneConnectionTakesNotAllOfTheBudget, however many uploads it begins.
func TestOneConnectionTakesNotAllOfTheBudget(t *testing.T) {
	c := newClient(t)
	const all = 64 << 20
	c.conn.budget = NewBudget(all)
	for i := range uint32(20) {
		c.headers(2*i+1, false, post()...)
		for range 200 {
			c.WriteData(2*i+1, false, make([]byte, 8<<10))
			if _, err := c.tell(); err != nil {
				t.Fatal(err)
			}
			c.conn.Sent(nil)
		}
	}
	if taken := all - c.conn.budget.Left(); taken != maxGrown {
		t.Errorf("%d bytes were taken", taken)
	}
	for len(c.conn.streams) > 0 {
		c.conn.Reset(c.conn.streams[0], Cancel)
	}
	if c.conn.budget.Left() != all || c.conn.grown != 0 {
		t.Errorf("%d bytes came back, %d are grown", c.conn.budget.Left(), c.conn.grown)
	}
}

// TestWindowIsOpenedOnlyByGrants: what nobody takes is the last that comes.
func TestWindowIsOpenedOnlyByGrants(t *testing.T) {
	c := newClient(t)
	c.headers(1, false, post()...)
	c.WriteData(1, false, make([]byte, 10000))
	p := bytes.Clone(c.out.Bytes())
	for {
		n, event, err := c.conn.Next(p)
		if p = p[n:]; err != nil {
			t.Fatal(err)
		}
		if event == More {
			break
		}
	}
	if got := summary(c.answers()); got != "" {
		t.Errorf("answered %s", got)
	}
	c.out.Reset()
	c.WriteData(1, false, make([]byte, 6385))
	if told, err := c.tell(); told != "reset 1 for FLOW_CONTROL_ERROR " || err != nil {
		t.Errorf("a byte too many: %s, %v", told, err)
	}
}

func TestStreamsAreRefusedAboveTheLimit(t *testing.T) {
	c := newClient(t)
	for i := range uint32(MaxStreams + 1) {
		c.headers(2*i+1, true, get()...)
	}
	told, err := c.tell()
	if err != nil || strings.Count(told, "request") != MaxStreams {
		t.Errorf("%d requests, %v", strings.Count(told, "request"), err)
	}
	if got := summary(c.answers()); got != "RST_STREAM 201 REFUSED_STREAM" {
		t.Errorf("answered %s", got)
	}
}

func TestDrainServesWhatCameBefore(t *testing.T) {
	c := newClient(t)
	c.headers(1, false, post()...)
	c.tell()
	c.conn.Announce()
	c.headers(3, true, get()...)
	if told, err := c.tell(); told != "request 3 end 3 " || err != nil {
		t.Errorf("between the two steps: %s, %v", told, err)
	}
	c.conn.Drain()
	c.conn.Drain()
	if got := summary(c.answers()); got != "GOAWAY 0 NO_ERROR last 2147483647; PING 0; GOAWAY 0 NO_ERROR last 3" {
		t.Errorf("answered %s", got)
	}
	c.headers(5, false, post()...)
	c.WriteData(5, true, []byte("x"))
	c.WriteData(1, true, []byte("x"))
	if told, err := c.tell(); told != `data 1 "x" end 1 ` || err != nil {
		t.Errorf("after both: %s, %v", told, err)
	}
	if got := summary(c.answers()); got != "" {
		t.Errorf("answered %s", got)
	}
	c.WritePing(false, [8]byte{1, 2})
	c.WriteWindowUpdate(0, 0)
	c.tell()
	if got := summary(c.answers()); got != "PING 0 ack; GOAWAY 0 PROTOCOL_ERROR last 3" {
		t.Errorf("an error after both: %s", got)
	}
}

func TestFloodsEndTheConnection(t *testing.T) {
	stream := func(c *client) { c.headers(1, false, post()...) }
	var tooMany []string
	for range 20 {
		tooMany = append(tooMany, "x", strings.Repeat("a", 4000))
	}
	tests := []struct {
		name  string
		times int // that are taken
		begin func(c *client)
		do    func(c *client, i uint32)
		err   *Error
	}{
		{"rapid reset", 200, nil, func(c *client, i uint32) {
			c.headers(2*i+1, true, get()...)
			c.WriteRSTStream(2*i+1, http2.ErrCodeCancel)
		}, errResetFlood},
		{"resets that it has made", 200, nil, func(c *client, i uint32) {
			c.headers(2*i+1, true, get()...)
			c.WriteWindowUpdate(2*i+1, 0)
		}, errResetFlood},
		{"requests too large", 200, nil, func(c *client, i uint32) { c.headers(2*i+1, true, get(tooMany...)...) }, errResetFlood},
		{"malformed requests", 200, nil, func(c *client, i uint32) { c.headers(2*i+1, true, get("connection", "x")...) }, errResetFlood},
		{"requests behind the last one", 200, func(c *client) { c.conn.Drain() }, func(c *client, i uint32) { c.headers(2*i+1, true, get()...) }, errControlFlood},
		{"DATA of closed streams", 200, func(c *client) { stream(c); c.WriteRSTStream(1, 0) }, func(c *client, i uint32) {
			c.headers(2*i+3, false, post()...)
			c.WriteData(2*i+3, true, []byte("a"))
			c.WriteData(2*i+3, true, []byte("a"))
		}, errResetFlood},
		{"SETTINGS", 200, nil, func(c *client, _ uint32) { c.WriteSettings() }, errControlFlood},
		{"long SETTINGS", 1, nil, func(c *client, _ uint32) { c.WriteSettings(make([]http2.Setting, 1000)...) }, errControlFlood},
		{"PRIORITY", 200, nil, func(c *client, _ uint32) { c.WritePriority(1, http2.PriorityParam{}) }, errControlFlood},
		{"unknown frames", 200, nil, func(c *client, _ uint32) { c.WriteRawFrame(0xF0, 0, 0, nil) }, errControlFlood},
		{"PING", 10_000, nil, func(c *client, _ uint32) { c.WritePing(false, [8]byte{}) }, errUpdateFlood},
		{"WINDOW_UPDATE", 10_000, stream, func(c *client, _ uint32) { c.WriteWindowUpdate(1, 1) }, errUpdateFlood},
		{"empty DATA", 100, stream, func(c *client, _ uint32) { c.WriteData(1, false, nil) }, errEmptyFlood},
		{"padding", 100, stream, func(c *client, _ uint32) { c.WriteDataPadded(1, false, nil, make([]byte, 255)) }, errEmptyFlood},
		{
			"CONTINUATION", 15, func(c *client) { c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1}) },
			func(c *client, _ uint32) { c.WriteContinuation(1, false, nil) }, errBlockFlood,
		},
		{
			"long CONTINUATION", 7, func(c *client) {
				c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: make([]byte, maxFrame)})
			},
			func(c *client, _ uint32) { c.WriteContinuation(1, false, make([]byte, maxFrame)) }, errBlockFlood,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := newClient(t)
			c.conn.guard = guard{}
			if tt.begin != nil {
				tt.begin(c)
				if _, err := c.tell(); err != nil {
					t.Fatal(err)
				}
				c.conn.guard = guard{}
			}
			taken := 0
			var err error
			for taken < 20_000 {
				tt.do(c, uint32(taken))
				if _, err = c.tell(); err != nil {
					break
				}
				taken++
				c.conn.Sent(nil)
			}
			if err != error(tt.err) || taken != tt.times {
				t.Errorf("ended after %d for %v, want %d for %v", taken, err, tt.times, tt.err)
			}
			// With time in between all of it is allowed, but for blocks without an end.
			c = newClient(t)
			if tt.err == errBlockFlood || tt.times == 1 {
				return
			}
			if tt.begin != nil {
				tt.begin(c)
			}
			for i := range uint32(1000) {
				c.conn.Now += time.Second
				tt.do(c, i)
				if _, err := c.tell(); err != nil {
					t.Fatalf("the %dth, a second behind the one before, ended it: %v", i, err)
				}
				c.conn.Sent(nil)
			}
		})
	}
}

// TestWhatWasOnItsWayOfAStreamThatWasCutIsNoFlood: a client that uploads a hundred bodies at once, all of which are answered early, has done nothing wrong.
func TestWhatWasOnItsWayOfAStreamThatWasCutIsNoFlood(t *testing.T) {
	ends := map[string]func(c *client, stream uint32){
		"END_STREAM": func(c *client, stream uint32) { c.WriteData(stream, true, nil) },
		"trailers":   func(c *client, stream uint32) { c.headers(stream, true, "a", "b") },
		"RST_STREAM": func(c *client, stream uint32) { c.WriteRSTStream(stream, http2.ErrCodeCancel) },
		"nothing":    func(*client, uint32) {},
	}
	for name, end := range ends {
		c := newClient(t)
		for round := range uint32(5) {
			first := 2*MaxStreams*round + 1
			for i := range uint32(MaxStreams) {
				c.headers(first+2*i, false, post()...)
			}
			if _, err := c.tell(); err != nil {
				t.Fatal(err)
			}
			for len(c.conn.streams) > 0 {
				c.conn.Reset(c.conn.streams[0], NoError)
			}
			c.answers()
			for i := range uint32(MaxStreams) {
				for range 16 {
					c.WriteData(first+2*i, false, make([]byte, streamWindow/16))
				}
				end(c, first+2*i)
			}
			if told, err := c.tell(); told != "" || err != nil {
				t.Fatalf("%s, round %d: %s, %v", name, round, told, err)
			}
			if got := summary(c.answers()); strings.Contains(got, "RST") {
				t.Errorf("%s: answered %s", name, got)
			}
		}
	}
}

func TestMoreDataThanTheWindowOfAStreamThatWasCutIsRefused(t *testing.T) {
	c := newClient(t)
	c.headers(1, false, post()...)
	c.WriteData(1, false, make([]byte, 1000))
	c.tell()
	c.conn.Reset(c.conn.streams[0], NoError)
	c.answers()
	c.WriteData(1, false, make([]byte, maxFrame-1000))
	if told, err := c.tell(); told != "" || err != nil || len(c.answers()) > 0 {
		t.Errorf("%s, %v", told, err)
	}
	c.WriteData(1, false, make([]byte, 1001))
	if told, err := c.tell(); told != "" || err != nil || summary(c.answers()) != "RST_STREAM 1 STREAM_CLOSED" {
		t.Errorf("%s, %v", told, err)
	}
}

// TestHPACKBombsAreNotHeld: one byte on the wire is a field of four kilobytes.
func TestHPACKBombsAreNotHeld(t *testing.T) {
	for _, tt := range []struct {
		references int
		told       string
		err        error
	}{
		{10, "request 3 end 3 ", nil},
		{20, "request 3 refused 431 end 3 ", nil},
		{100, "", errBomb},
		{60_000, "", errBomb},
	} {
		c := newClient(t)
		c.headers(1, true, get("x", strings.Repeat("a", 4000))...)
		c.tell()
		block := append(c.fields(get()...), bytes.Repeat([]byte{0x80 | 62}, tt.references)...)
		first := min(len(block), maxFrame)
		c.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, EndStream: true, EndHeaders: first == len(block), BlockFragment: block[:first]})
		for p := block[first:]; len(p) > 0; p = p[min(len(p), maxFrame):] {
			c.WriteContinuation(3, len(p) <= maxFrame, p[:min(len(p), maxFrame)])
		}
		if told, err := c.tell(); told != tt.told || err != nil && err != tt.err || err == nil && tt.err != nil {
			t.Errorf("%d references: %s, %v", tt.references, told, err)
		}
	}
}

func TestCookieCrumbsAreCounted(t *testing.T) {
	c := newClient(t)
	var crumbs []string
	for range 5000 {
		crumbs = append(crumbs, "cookie", "a")
	}
	c.headers(1, true, get(crumbs[:2000]...)...)
	c.headers(3, true, get(crumbs[:1990]...)...)
	if told, err := c.tell(); told != "request 1 refused 431 end 1 request 3 end 3 " || err != nil {
		t.Errorf("%s, %v", told, err)
	}
	c.headers(5, true, get(crumbs...)...)
	if told, err := c.tell(); told != "" || err != error(errBomb) {
		t.Errorf("%s, %v", told, err)
	}
}

func TestHeadsOfAllStreamsAreBounded(t *testing.T) {
	c := newClient(t)
	long := get("x", strings.Repeat("a", 15_000))
	for i := range uint32(99) {
		c.headers(2*i+1, true, long...)
	}
	told, err := c.tell()
	if n := strings.Count(told, "request"); err != nil || n != 68 {
		t.Errorf("%d requests were taken, %v", n, err)
	}
	if got := summary(c.answers()); strings.Count(got, "REFUSED_STREAM") != 31 {
		t.Errorf("answered %s", got)
	}
	for len(c.conn.streams) > 0 {
		c.conn.Reset(c.conn.streams[0], Cancel)
	}
	if c.conn.heads != 0 {
		t.Errorf("%d bytes of heads are left", c.conn.heads)
	}
}
