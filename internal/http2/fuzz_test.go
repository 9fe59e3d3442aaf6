package http2

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"wstunnel/internal/head"
)

// stricter are the reasons for which frames are refused here that x/net's Framer takes, since it looks at one frame at a time.
var stricter = []string{
	"idle stream", "DATA on", "HEADERS on stream", "HEADERS behind", "first frame", "frame of", "flood", "too many", "window", "setting", "frames of at most",
	"depends on itself", "PUSH_PROMISE", "header block of", "far too many", "CONTINUATION of no", "resets streams", "header block is interrupted", "padding", "truncated headers",
	"WINDOW_UPDATE of 0", "SETTINGS on", "header block:",
}

// laxer are the words of x/net for what it refuses and is taken here: dropped or answered otherwise.
var laxer = []string{"invalid header", "invalid pseudo", "pseudo header", "malformed", "PROTOCOL_ERROR", "ENHANCE_YOUR_CALM", "unexpected EOF", "EOF"}

func oneOf(text string, words []string) bool {
	for _, word := range words {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

// FuzzConn feeds what a client may send: in one piece and in several it is the same, what x/net's Framer reads is read here too, and the other way round.
func FuzzConn(f *testing.F) {
	seed := func(do func(*http2.Framer, *hpack.Encoder, *bytes.Buffer)) {
		var out, block bytes.Buffer
		framer := http2.NewFramer(&out, nil)
		framer.AllowIllegalWrites = true
		do(framer, hpack.NewEncoder(&block), &block)
		f.Add(out.Bytes(), byte(3))
	}
	seed(func(f *http2.Framer, e *hpack.Encoder, block *bytes.Buffer) {
		pairs := post("cookie", "a", "cookie", "b")
		for i := 0; i < len(pairs); i += 2 {
			e.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
		}
		f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: block.Bytes()[:5], Priority: http2.PriorityParam{Weight: 3}})
		f.WriteContinuation(1, true, block.Bytes()[5:])
		f.WriteDataPadded(1, false, []byte("hello"), []byte("padding"))
		f.WriteData(1, true, []byte("hello"))
		f.WriteWindowUpdate(1, 5)
		f.WriteRSTStream(1, 3)
	})
	seed(func(f *http2.Framer, _ *hpack.Encoder, _ *bytes.Buffer) {
		f.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 5})
		f.WritePing(false, [8]byte{})
		f.WritePriority(3, http2.PriorityParam{StreamDep: 3})
		f.WriteGoAway(1, 2, []byte("bye"))
		f.WriteRawFrame(0xF0, 1, 2, []byte("x"))
	})
	f.Fuzz(func(t *testing.T, frames []byte, piece byte) {
		begin := append([]byte(Preface), appendSettings(nil)...)
		stream := append(begin, frames...)
		budget := NewBudget(1 << 20)
		conn := NewConn(budget, false, nil)
		told, err := tellAll(conn, stream)
		inPieces, errInPieces := tellInPieces(NewConn(NewBudget(1<<20), false, nil), stream, int(piece)+1)
		if strings.Join(strings.Fields(dataAside(told)), " ") != strings.Join(strings.Fields(dataAside(inPieces)), " ") || (err == nil) != (errInPieces == nil) {
			t.Fatalf("%x: %s, %v; in pieces of %d: %s, %v", frames, told, err, int(piece)+1, inPieces, errInPieces)
		}
		if len(conn.streams) > MaxStreams || conn.window < 0 {
			t.Fatalf("%d streams, a window of %d", len(conn.streams), conn.window)
		}
		theirs := readAll(frames)
		switch {
		case err != nil && theirs == nil:
			if !oneOf(err.Error(), stricter) {
				t.Fatalf("%x: refused for %v, but x/net takes it", frames, err)
			}
		case err == nil && theirs != nil && !conn.Partial() && !hasOddPriority(frames) && !oneOf(theirs.Error(), laxer):
			t.Fatalf("%x: taken, but x/net says %v", frames, theirs)
		}
		for len(conn.streams) > 0 {
			conn.Reset(conn.streams[0], Cancel)
		}
		if budget.Left() != 1<<20 {
			t.Fatalf("%d bytes of the budget are lost", 1<<20-budget.Left())
		}
		framer := http2.NewFramer(io.Discard, bytes.NewReader(conn.Out))
		for {
			if _, err := framer.ReadFrame(); errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				t.Fatalf("%x: what is sent is not read by x/net: %v", frames, err)
			}
		}
	})
}

// dataAside leaves out the bodies, which come in other pieces.
func dataAside(told string) string {
	var kept []string
	for _, word := range strings.Split(told, " ") {
		if !strings.Contains(word, `"`) && word != "data" {
			kept = append(kept, word)
		}
	}
	return compact(kept)
}

func compact(words []string) string {
	kept := words[:0]
	for _, w := range words {
		if len(kept) == 0 || kept[len(kept)-1] != w {
			kept = append(kept, w)
		}
	}
	return strings.Join(kept, " ")
}

func tellInPieces(conn *Conn, p []byte, size int) (told string, err error) {
	for len(p) > 0 && err == nil {
		n := min(size, len(p))
		var more string
		more, err = tellAll(conn, p[:n])
		told += more
		p = p[n:]
	}
	return told, err
}

// readAll reads all whole frames and returns the first thing that the Framer does not take.
func readAll(frames []byte) error {
	framer := http2.NewFramer(io.Discard, bytes.NewReader(frames))
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	framer.SetMaxReadFrameSize(maxFrame)
	for {
		if _, err := framer.ReadFrame(); errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// hasOddPriority reports a frame of RFC 9218, which is taken for an unknown one here, or a PRIORITY of another length than it has, which is the end of a
// stream only (RFC 9113, section 6.3).
func hasOddPriority(p []byte) bool {
	for len(p) >= frameHeaderLen {
		h := parseFrameHeader(p)
		if h.kind == 0x10 || h.kind == framePriority && h.length != priorityLen {
			return true
		}
		p = p[min(len(p), frameHeaderLen+h.length):]
	}
	return false
}

// stricterHeads are the reasons for which heads are refused here that x/net takes.
var stricterHeads = []string{
	":protocol", "CONNECT", "scheme", ":path", ":authority", "Host", "Content-Length", "expectation", "blanks around", "which says something", "more than trailers", "is no token",
	"method", "unknown pseudo", "request head of", "two :",
}

// FuzzRequest holds heads against x/net, in both directions.
func FuzzRequest(f *testing.F) {
	for _, pairs := range [][]string{
		get(), post("content-length", "5", "cookie", "a", "cookie", "b"), get("x", " y"), get("X", "y"), get("te", "gzip"), get("host", "a"),
		{":method", "CONNECT", ":authority", "a"},
		{":status", "200"},
		{"x", "y", ":path", "/"},
	} {
		f.Add(strings.Join(pairs, "\n"))
	}
	f.Fuzz(func(t *testing.T, text string) {
		pairs := strings.Split(text, "\n")
		c := newClient(t)
		if len(pairs) > 2000 {
			return
		}
		block := c.fields(pairs...)
		b, bad := c.conn.decode(block)
		if bad != nil {
			t.Fatal(bad)
		}
		r, refused, malformed := b.request(false, false)
		var wire bytes.Buffer
		http2.NewFramer(&wire, nil).WriteHeaders(http2.HeadersFrameParam{StreamID: 1, EndHeaders: true, BlockFragment: block})
		framer := http2.NewFramer(nil, &wire)
		framer.SetMaxReadFrameSize(1 << 24)
		framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		frame, err := framer.ReadFrame()
		theirs, _ := frame.(*http2.MetaHeadersFrame)
		switch {
		case malformed == nil && refused == nil && err != nil:
			t.Fatalf("%q: taken, but x/net says %v", pairs, framer.ErrorDetail())
		case malformed != nil && err == nil && !oneOf(malformed.Reason, stricterHeads):
			t.Fatalf("%q: malformed for %v, but x/net takes it", pairs, malformed)
		case refused != nil && err == nil && !oneOf(refused.Reason, stricterHeads):
			t.Fatalf("%q: refused for %v, but x/net takes it", pairs, refused)
		case malformed == nil && refused == nil:
			if mine, other := lines(r), metaLines(theirs); mine != other {
				t.Fatalf("%q: %s; x/net has %s", pairs, mine, other)
			}
		}
	})
}

func lines(r *head.Request) string {
	text := []string{r.Method, r.Scheme, r.Target}
	for _, f := range r.Fields {
		text = append(text, strings.ToLower(f.Name)+"="+f.Value)
	}
	return strings.Join(text, "\n")
}

func metaLines(m *http2.MetaHeadersFrame) string {
	text := []string{m.PseudoValue("method"), m.PseudoValue("scheme"), m.PseudoValue("path")}
	if text[0] == "CONNECT" {
		text[2] = m.PseudoValue("authority")
	}
	cookie := -1
	for _, f := range m.RegularFields() {
		switch {
		case f.Name != "cookie":
			text = append(text, f.Name+"="+f.Value)
		case cookie < 0:
			cookie = len(text)
			text = append(text, f.Name+"="+f.Value)
		default:
			text[cookie] += "; " + f.Value
		}
	}
	return strings.Join(text, "\n")
}

// FuzzAnswer has x/net read the heads that are made here.
func FuzzAnswer(f *testing.F) {
	f.Add("Content-Type\ntext/html\nX-Own\na\nX-Own\nb", 200, int64(5))
	f.Add("Set-Cookie\na=b\nServer\nx", 404, int64(-1))
	f.Fuzz(func(t *testing.T, text string, status int, length int64) {
		pairs := strings.Split(text, "\n")
		if len(pairs)%2 == 1 || status < 200 || status > 599 || length < -1 {
			return
		}
		for i := 0; i < len(pairs); i += 2 {
			if _, bad := head.BadValueByte(pairs[i+1]); bad || !head.IsToken(pairs[i]) {
				return
			}
		}
		c := newClient(t)
		for stream := uint32(1); stream < 9; stream += 2 {
			c.headers(stream, true, get()...)
			c.tell()
			r := response(status, length, pairs...)
			c.conn.Respond(c.conn.Stream, r, "now", true, true)
			frames := c.answers()
			m, ok := frames[0].(*http2.MetaHeadersFrame)
			if !ok || len(frames) != 1 {
				t.Fatalf("%q: %v", pairs, frames)
			}
			var want []string
			for _, field := range r.Fields {
				if !connectionFields.Has(field.ID) && field.ID != head.ContentLength {
					want = append(want, strings.ToLower(field.Name)+"="+field.Value)
				}
			}
			var got []string
			for _, field := range m.RegularFields() {
				if field.Name != "content-length" && (field.Name != "date" || r.Fields.Has(head.Date)) {
					got = append(got, field.Name+"="+field.Value)
				}
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Fatalf("%q, want %q", got, want)
			}
		}
	})
}
