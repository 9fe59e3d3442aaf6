package http2

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"wstunnel/internal/head"
)

func response(status int, length int64, pairs ...string) *head.Response {
	r := &head.Response{Status: status, Length: length}
	for i := 0; i < len(pairs); i += 2 {
		r.Fields = append(r.Fields, head.Field{Name: pairs[i], Value: pairs[i+1], ID: head.IDOf(pairs[i])})
	}
	return r
}

// showAnswer is what a client reads of an answer's head.
func showAnswer(f http2.Frame) string {
	m, ok := f.(*http2.MetaHeadersFrame)
	if !ok {
		return fmt.Sprint(f)
	}
	var fields []string
	for _, field := range m.Fields {
		fields = append(fields, field.Name+"="+field.Value)
	}
	return strings.Join(fields, " ")
}

func TestAnswersAreReadAsTheyWereMeant(t *testing.T) {
	long := strings.Repeat("a1~", 10_000)
	for _, tt := range []struct {
		r      *head.Response
		framed bool
		want   string
	}{
		{response(200, 5, "Content-Type", "text/html", "Content-Length", "7"), true, ":status=200 content-type=text/html content-length=5 date=now"},
		{response(304, 0, "Content-Length", "7", "Date", "then"), false, ":status=304 content-length=7 date=then"},
		{response(206, head.Unknown, "X-Own", "a"), true, ":status=206 x-own=a date=now"},
		{response(103, head.Unknown, "Link", "</a>"), true, ":status=103 link=</a>"},
		{response(599, 0, "Set-Cookie", "a=b", "set-cookie", "c=d"), true, ":status=599 set-cookie=a=b set-cookie=c=d content-length=0 date=now"},
		{response(426, 0, "Upgrade", "websocket", "Connection", "x", "Keep-Alive", "x"), true, ":status=426 content-length=0 date=now"},
		{response(200, 0, "X", long), true, ":status=200 x=" + long + " content-length=0 date=now"},
	} {
		c := newClient(t)
		for stream := uint32(1); stream < 7; stream += 2 { // the table of the first is that of the others
			c.headers(stream, true, get()...)
			c.tell()
			c.conn.Respond(c.conn.Stream, tt.r, "now", tt.framed, false)
			frames := c.answers()
			if len(frames) != 1 || showAnswer(frames[0]) != tt.want {
				t.Fatalf("%v", frames)
			}
		}
	}
}

func TestClientThatWantsNoTableIsSentNone(t *testing.T) {
	c := newClient(t)
	answer := func(stream uint32) string {
		c.headers(stream, true, get()...)
		c.tell()
		c.conn.Respond(c.conn.Stream, response(200, 1, "X-Own", "a", "Server", "b"), "now", true, false)
		return showAnswer(c.answers()[0])
	}
	want := ":status=200 x-own=a server=b content-length=1 date=now"
	if got := answer(1); got != want || len(c.conn.encoder.entries) != 2 {
		t.Errorf("%s with a table of %v", got, c.conn.encoder.entries)
	}
	c.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 0})
	c.tell()
	c.answers()
	c.ReadMetaHeaders.SetAllowedMaxDynamicTableSize(0)
	for stream := uint32(3); stream < 9; stream += 2 {
		if got := answer(stream); got != want || len(c.conn.encoder.entries) != 0 {
			t.Errorf("%s with a table of %v", got, c.conn.encoder.entries)
		}
	}
}

func TestTableOfAnEncoderStaysSmall(t *testing.T) {
	c := newClient(t)
	for i := range 200 {
		c.headers(uint32(2*i+1), true, get()...)
		c.tell()
		name := fmt.Sprintf("X-Own-%d", i/2)
		c.conn.Respond(c.conn.Stream, response(200, 0, name, strings.Repeat("v", i)), "now", true, true)
		if got, want := showAnswer(c.answers()[0]), ":status=200 "+strings.ToLower(name)+"="+strings.Repeat("v", i)+" content-length=0 date=now"; got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	}
	if e := &c.conn.encoder; len(e.entries) > maxEntries || e.size > maxTableSize {
		t.Errorf("%d entries of %d bytes", len(e.entries), e.size)
	}
}

func TestDataIsBoundedByBothWindows(t *testing.T) {
	c := newClient(t)
	c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3})
	c.headers(1, true, get()...)
	c.headers(3, true, get()...)
	c.tell()
	s := c.conn.find(1)
	if n := c.conn.Sendable(s); n != 3 {
		t.Fatalf("%d bytes are sendable", n)
	}
	c.answers()
	c.conn.Respond(s, response(200, 5), "now", true, false)
	c.conn.SendData(s, []byte("abc"), false)
	if n := c.conn.Sendable(s); n != 0 {
		t.Errorf("%d bytes are sendable", n)
	}
	c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
	c.WriteWindowUpdate(1, 2)
	c.tell()
	if n := c.conn.Sendable(s); n != 0 || s.send != 0 {
		t.Errorf("%d bytes are sendable of a window of %d", n, s.send)
	}
	c.WriteWindowUpdate(1, 100_000)
	c.tell()
	if n := c.conn.Sendable(s); n != maxFrame {
		t.Errorf("%d bytes are sendable", n)
	}
	c.conn.send = 7
	if n := c.conn.Sendable(s); n != 7 {
		t.Errorf("%d bytes are sendable", n)
	}
	c.conn.SendData(s, []byte("de"), true)
	if got := summary(c.answers()); got != "HEADERS 1 200; DATA 1 of 3; SETTINGS 0 ack; DATA 1 of 2 end" {
		t.Errorf("sent %s", got)
	}
	other := c.conn.find(3)
	c.conn.Respond(other, response(200, head.Unknown), "now", true, false)
	c.conn.send = 100
	c.conn.SendData(other, []byte("a"), false)
	c.conn.SendData(other, nil, true)
	if got := summary(c.answers()); got != "HEADERS 3 200; DATA 3 of 1 end" {
		t.Errorf("an end behind data: %s", got)
	}
	if !s.Closed() || c.conn.find(1) != nil || c.conn.find(3) != nil {
		t.Error("the stream is still open")
	}
}
