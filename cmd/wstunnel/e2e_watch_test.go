//go:build linux

package main_test

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// told is an event.
type told struct {
	Event  string
	Time   time.Time
	Tunnel *struct {
		ID, User, Site string
		Groups         []string
	}
	Group, Cause, Reason, Site string
	Code                       int
	ClosedBy                   string `json:"closed_by"`
	Errors                     []string
}

// is reads the next event as a line, and requires what it is.
func (l *lines) is(event string) (e told) {
	l.t.Helper()
	line, err := l.readLine()
	if err == nil {
		err = json.Unmarshal([]byte(line), &e)
	}
	if err != nil || e.Event != event {
		l.t.Fatalf("told is %q, %v; want %s", line, err, event)
	}
	return e
}

// elsewhere is a further site.
const elsewhere = `  - {hosts: [elsewhere.example.com], tls: self-signed, locations: [{path: /, respond: {status: 200}}]}
`

func TestWhatHappensIsToldInLines(t *testing.T) {
	yaml := withSocket(t, settings(`{path: /ws, websocket: "ws://`+startTagging(t)+`"}`)+elsewhere)
	f := startFront(t, yaml)
	first := f.dialSocket(t, "ws", "/ws?user=first")
	go first.ReadMessage() // answers its Close frame
	controlOf(t, yaml).awaitTunnels(1)
	l, other := dialLines(t, yaml), dialLines(t, yaml)
	l.says("WATCH", "OK 1")
	other.says("WATCH elsewhere.example.com", "OK 0")
	io.WriteString(l, "COUNT\n") // what is said behind it is not read
	anna := f.dialSocket(t, "wss", "/ws?user=anna&groups=lobby")
	opened := l.is("opened")
	if opened.Tunnel.User != "anna" || time.Since(opened.Time) > time.Minute {
		t.Errorf("%+v", opened)
	}
	orders := dialLines(t, yaml)
	orders.says("JOIN "+opened.Tunnel.ID+" chess", "OK 1")
	if e := l.is("joined"); e.Group != "chess" || len(e.Tunnel.Groups) != 2 {
		t.Errorf("%+v", e)
	}
	orders.says("LEAVE "+opened.Tunnel.ID+" lobby", "OK 1")
	l.is("left")
	orders.says("KICK "+opened.Tunnel.ID+" 4001 out", "OK 1")
	anna.awaitClose(4001)
	if e := l.is("closed"); e.Tunnel.ID != opened.Tunnel.ID || e.Code != 4001 || e.ClosedBy != "proxy" || e.Cause != "closed by order" {
		t.Errorf("%+v", e)
	}
	f.expectOrder(t, 0, []string{"reloaded"}, "reload")
	l.is("reloaded")
	f.write(t, yaml+"unknown: 1\n")
	f.expectOrder(t, 2, []string{"unknown"}, "reload")
	if e := l.is("reload_failed"); len(e.Errors) != 1 || !strings.Contains(e.Errors[0], "unknown") {
		t.Errorf("%+v", e)
	}
	f.write(t, yaml)
	f.expectOrder(t, 0, []string{"no new tunnels"}, "drain")
	l.is("drain")
	if e := l.is("closed"); e.Code != 1001 || e.Cause != "drain" {
		t.Errorf("%+v", e)
	}
	f.expectOrder(t, 0, []string{"taken back"}, "drain", "--end")
	l.is("drain_ended")
	other.Conn.(*net.UnixConn).CloseWrite()
	if rest, err := other.rest(); len(rest) > 0 || err != nil {
		t.Errorf("who watches another site is told %q, %v", rest, err)
	}
	f.stop(t)
	l.is("stopping")
	if rest, err := l.rest(); len(rest) > 0 || err != nil {
		t.Errorf("then %q, %v", rest, err)
	}
}

// stream is what GET /v1/events answers.
type stream struct {
	t  *testing.T
	br *bufio.Reader
}

// watch asks for events, and returns when they are told from then on.
func (c *control) watch(query string) *stream {
	c.t.Helper()
	resp, err := c.client.Get("http://wstunnel/v1/events" + query)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { resp.Body.Close() })
	return streamOf(c.t, resp)
}

func streamOf(t *testing.T, resp *http.Response) *stream {
	t.Helper()
	if kind := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || kind != "text/event-stream" {
		t.Fatalf("answered %d with %q", resp.StatusCode, kind)
	}
	return &stream{t, bufio.NewReader(resp.Body)}
}

// is reads the next event, and requires what it is.
func (s *stream) is(event string) (e told) {
	s.t.Helper()
	var lines []string
	for {
		line, err := s.br.ReadString('\n')
		switch line = strings.TrimSuffix(line, "\n"); {
		case err != nil:
			s.t.Fatal(err)
		case strings.HasPrefix(line, ":"):
		case line != "":
			lines = append(lines, line)
		case len(lines) > 0:
			data, isData := strings.CutPrefix(lines[len(lines)-1], "data: ")
			if len(lines) != 2 || lines[0] != "event: "+event || !isData || json.Unmarshal([]byte(data), &e) != nil || e.Event != event {
				s.t.Fatalf("told is %q; want %s", lines, event)
			}
			return e
		}
	}
}

func TestWhatHappensIsToldAsServerSentEvents(t *testing.T) {
	yaml := withSocket(t, settings(`{path: /ws, websocket: "ws://`+startTagging(t)+`"}`)+elsewhere)
	f := startFront(t, yaml)
	c := controlOf(t, yaml)
	all, other := c.watch(""), c.watch("?site=elsewhere.example.com")
	for _, wrong := range []string{"?user=anna", "?site=a&site=b"} {
		c.ask(400, "GET", "/v1/events"+wrong, "", "")
	}
	anna := f.dialSocket(t, "wss", "/ws?user=anna")
	opened := all.is("opened")
	anna.Close()
	if e := all.is("closed"); e.Tunnel.ID != opened.Tunnel.ID || e.Code != 1006 || e.ClosedBy != "client" {
		t.Errorf("%+v", e)
	}
	here := c.watch("?site=" + url.QueryEscape(opened.Tunnel.Site))
	berta := f.dialSocket(t, "ws", "/ws?user=berta")
	go berta.ReadMessage() // answers its Close frame
	if e := here.is("opened"); e.Tunnel.User != "berta" {
		t.Errorf("%+v", e)
	}
	f.stop(t)
	all.is("opened")
	all.is("stopping")
	all.is("closed")
	if rest, err := io.ReadAll(other.br); err != nil || strings.Contains(string(rest), "event") {
		t.Errorf("who watches another site is told %q, %v", rest, err)
	}
}
