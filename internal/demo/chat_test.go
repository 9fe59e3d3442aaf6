package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// startChat runs a chat with the given limits until the end of the test and yields its URL.
func startChat(t *testing.T, limits chatLimits) (*chat, string) {
	t.Helper()
	l, err := listenLoopback()
	if err != nil {
		t.Fatal(err)
	}
	c := newChat(limits, l.Addr().String(), slog.New(slog.DiscardHandler))
	b := serve(l, c, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		c.close()
		if err := b.close(); err != nil {
			t.Error(err)
		}
	})
	return c, "ws://" + l.Addr().String() + "/ws"
}

// peer is a chat client under test.
type peer struct {
	*websocket.Conn
	t *testing.T
}

// dial opens a connection without saying hello.
func dial(t *testing.T, url string) peer {
	t.Helper()
	conn, _, err := websocket.DefaultDialer.Dial(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return peer{conn, t}
}

// enter opens a connection, says hello and yields the answer.
func enter(t *testing.T, url, nick, session string) (peer, hello) {
	t.Helper()
	p := dial(t, url)
	p.say(request{Type: "hello", Nick: nick, Session: session})
	var h hello
	p.next("hello", &h)
	return p, h
}

func (p peer) say(m any) {
	p.t.Helper()
	if err := p.WriteJSON(m); err != nil {
		p.t.Fatal(err)
	}
}

// next reads up to the next message of a type, into m.
func (p peer) next(kind string, m any) {
	p.t.Helper()
	p.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		_, data, err := p.ReadMessage()
		if err != nil {
			p.t.Fatalf("waiting for %s: %v", kind, err)
		}
		var head struct{ Type string }
		if err := json.Unmarshal(data, &head); err != nil {
			p.t.Fatalf("%q: %v", data, err)
		}
		if head.Type == kind {
			if err := json.Unmarshal(data, m); err != nil {
				p.t.Fatal(err)
			}
			return
		}
	}
}

// closed reads up to the Close frame.
func (p peer) closed() *websocket.CloseError {
	p.t.Helper()
	p.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		if _, _, err := p.ReadMessage(); err != nil {
			var c *websocket.CloseError
			if !errors.As(err, &c) {
				p.t.Fatalf("not closed by a frame: %v", err)
			}
			return c
		}
	}
}

func TestChatTellsOthersOfJoinNickAndLeave(t *testing.T) {
	_, url := startChat(t, defaultLimits())
	ann, h := enter(t, url, "  Ann\n\u202eBee ", "s1")
	if h.You.Nick != "Ann Bee" || len(h.Roster) != 1 || h.Limit != 4096 || h.History == nil {
		t.Errorf("hello: %+v", h)
	}
	bob, h2 := enter(t, url, "ann bee", "s2")
	if h2.You.Nick != "ann bee 2" || len(h2.Roster) != 2 {
		t.Errorf("hello: %+v", h2)
	}
	var m moved
	for ann.next("join", &m); m.Who.ID == h.You.ID; {
		ann.next("join", &m)
	}
	if m.Who != h2.You {
		t.Errorf("join: %+v, want %+v", m, h2.You)
	}
	bob.say(request{Type: "nick", Nick: "Bob"})
	if ann.next("nick", &m); m.Who.Nick != "Bob" || m.Was != "ann bee 2" {
		t.Errorf("nick: %+v", m)
	}
	bob.Close()
	if ann.next("leave", &m); m.Who.Nick != "Bob" {
		t.Errorf("leave: %+v", m)
	}
}

func TestChatBroadcastsToAllAndEchoesTheRef(t *testing.T) {
	_, url := startChat(t, defaultLimits())
	ann, h := enter(t, url, "Ann", "")
	bob, _ := enter(t, url, "Bob", "")
	ann.say(request{Type: "chat", Text: "<b>hi</b>\x01\r\nthere ", Ref: "r1"})
	for _, p := range []peer{ann, bob} {
		var m said
		p.next("chat", &m)
		if m.Text != "<b>hi</b>\nthere" || m.Ref != "r1" || m.From != h.You || m.ID != 1 || time.Since(time.UnixMilli(m.At)) > time.Minute {
			t.Errorf("%+v", m)
		}
	}
	ann.say(request{Type: "ping", T: 12.5})
	var answer pong
	if ann.next("pong", &answer); answer.T != 12.5 {
		t.Errorf("%+v", answer)
	}
}

func TestChatSendsTheLastFiftyMessagesToNewcomers(t *testing.T) {
	limits := defaultLimits()
	limits.burst = 100
	_, url := startChat(t, limits)
	ann, _ := enter(t, url, "Ann", "")
	var m said
	for i := 1; i <= 60; i++ {
		ann.say(request{Type: "chat", Text: fmt.Sprint("message ", i)})
		ann.next("chat", &m)
	}
	_, h := enter(t, url, "Bob", "")
	if len(h.History) != 50 || h.History[0].Text != "message 11" || h.History[49].ID != 60 {
		t.Errorf("%d messages, %+v ...", len(h.History), h.History[0])
	}
}

func TestChatClosesAnOversizeMessageWith1009(t *testing.T) {
	_, url := startChat(t, defaultLimits())
	ann, _ := enter(t, url, "Ann", "")
	ann.WriteMessage(websocket.TextMessage, []byte(strings.Repeat("x", 1<<20)))
	if c := ann.closed(); c.Code != websocket.CloseMessageTooBig {
		t.Errorf("%v", c)
	}
}

func TestChatTakesAMessageOfExactlyTheLimit(t *testing.T) {
	_, url := startChat(t, defaultLimits())
	ann, h := enter(t, url, "Ann", "")
	const frame = `{"type":"chat","text":""}`
	text := strings.Repeat("y", h.Limit-len(frame))
	ann.WriteMessage(websocket.TextMessage, []byte(`{"type":"chat","text":"`+text+`"}`))
	var m said
	if ann.next("chat", &m); m.Text != text {
		t.Errorf("%d bytes came back", len(m.Text))
	}
}

func TestChatExplainsWhatItRefuses(t *testing.T) {
	_, url := startChat(t, defaultLimits())
	for _, c := range []struct{ send, code, text string }{
		{`{"type":`, "bad-json", "unexpected end"},
		{`[1,2]`, "bad-json", "cannot unmarshal array"},
		{`{"type":"chat","text":5}`, "bad-json", "text"},
		{`{"type":"chat","text":" \n\u0000 ","ref":"r"}`, "bad-message", "empty"},
		{`{"type":"dance"}`, "bad-message", `unknown type "dance"; known are hello, nick, chat, ping`},
		{`{"type":"hello"}`, "bad-message", "already"},
	} {
		p, _ := enter(t, url, "Ann", "")
		p.WriteMessage(websocket.TextMessage, []byte(c.send))
		var r refusal
		if p.next("error", &r); r.Code != c.code || !strings.Contains(r.Text, c.text) {
			t.Errorf("%s: %+v", c.send, r)
		}
	}
	p := dial(t, url)
	p.say(request{Type: "chat", Text: "hi", Ref: "q"})
	var r refusal
	if p.next("error", &r); r.Code != "hello-first" || r.Ref != "q" {
		t.Errorf("%+v", r)
	}
}

func TestChatClosesWithTheCodeThatFits(t *testing.T) {
	limits := defaultLimits()
	limits.clients = 3
	chat, url := startChat(t, limits)
	send := func(kind int, data string, times int) func(peer) {
		return func(p peer) {
			for range times {
				p.WriteMessage(kind, []byte(data))
			}
		}
	}
	for _, c := range []struct {
		name string
		do   func(peer)
		code int
	}{
		{"binary", send(websocket.BinaryMessage, "{}", 1), 1003},
		{"not UTF-8", send(websocket.TextMessage, "\"\xff\"", 1), 1007},
		{"flood", send(websocket.TextMessage, `{"type":"ping"}`, 60), 1008},
		{"flood of pings", send(websocket.PingMessage, "x", 60), 1008},
		{"nonsense", send(websocket.TextMessage, "{", 25), 1008},
		{"reserved opcode", func(p peer) { p.NetConn().Write([]byte{0x83, 0x80, 0, 0, 0, 0}) }, 1002},
		{"ordinary close", func(p peer) {
			p.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""), time.Now().Add(time.Second))
		}, 1000},
	} {
		p := dial(t, url)
		c.do(p)
		if got := p.closed(); got.Code != c.code {
			t.Errorf("%s: closed by %v, want %d", c.name, got, c.code)
		}
		p.Close()
		chat.awaitNobody(t)
	}
	for range limits.clients {
		enter(t, url, "x", "")
	}
	if got := dial(t, url).closed(); got.Code != websocket.CloseTryAgainLater {
		t.Errorf("one too many: closed by %v", got)
	}
	limits.hello = 100 * time.Millisecond
	_, impatient := startChat(t, limits)
	if got := dial(t, impatient).closed(); got.Code != websocket.CloseGoingAway {
		t.Errorf("no hello: closed by %v", got)
	}
}

// awaitNobody waits until all connections are gone.
func (c *chat) awaitNobody(t *testing.T) {
	t.Helper()
	left := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.clients)
	}
	for end := time.Now().Add(10 * time.Second); left() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d connections are left", left())
		}
	}
}

func TestChatReplacesAnEarlierConnectionOfTheSameSession(t *testing.T) {
	_, url := startChat(t, defaultLimits())
	watcher, _ := enter(t, url, "Watcher", "")
	old, h1 := enter(t, url, "Ann", "tab")
	_, h2 := enter(t, url, "Ann", "tab")
	if h1.You != h2.You || len(h2.Roster) != 2 {
		t.Errorf("%+v, then %+v", h1.You, h2)
	}
	if c := old.closed(); c.Code != closeReplaced {
		t.Errorf("%v", c)
	}
	watcher.say(request{Type: "chat", Text: "end"})
	moves := 0
	watcher.SetReadDeadline(time.Now().Add(10 * time.Second))
	for {
		var m said
		if err := watcher.ReadJSON(&m); err != nil {
			t.Fatal(err)
		}
		if m.Type == "chat" {
			break
		}
		moves++
	}
	if moves != 2 { // its own join and Ann's first
		t.Errorf("%d changes of the roster were told", moves)
	}
}

func TestChatDropsASlowClientAndServesTheOthers(t *testing.T) {
	limits := defaultLimits()
	limits.linger = 200 * time.Millisecond
	c, url := startChat(t, limits)
	dialer := websocket.Dialer{NetDial: func(network, address string) (net.Conn, error) {
		conn, err := net.Dial(network, address)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(4096)
		}
		return conn, err
	}}
	slow, _, err := dialer.Dial(url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	slow.WriteJSON(request{Type: "hello", Nick: "Slow", Session: "slow"})
	fast, _ := enter(t, url, "Fast", "")
	go func() { // keeps its queue empty; ends with the chat
		for {
			if _, _, err := fast.ReadMessage(); err != nil {
				return
			}
		}
	}()
	data := json.RawMessage(`"` + strings.Repeat("z", 60000) + `"`)
	for range 3000 {
		c.mu.Lock()
		for _, cl := range c.members {
			if cl.who.Nick == "Slow" || len(cl.out) < limits.queue/2 {
				cl.send(data)
			}
		}
		members := len(c.members)
		gone := c.members[personID("slow")] == nil
		c.mu.Unlock()
		if gone {
			if members != 1 {
				t.Errorf("%d members left", members)
			}
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	t.Error("the slow client is still there")
}

// TestWhoComesWhileTheChatStopsIsTold, be it in the middle of the handshake.
func TestWhoComesWhileTheChatStopsIsTold(t *testing.T) {
	c, url := startChat(t, defaultLimits())
	closed := make(chan struct{})
	c.upgrader.CheckOrigin = func(*http.Request) bool {
		go func() {
			c.close()
			close(closed)
		}()
		for stops := false; !stops; time.Sleep(time.Millisecond) {
			c.mu.Lock()
			stops = c.closed
			c.mu.Unlock()
		}
		return true
	}
	if got := dial(t, url).closed(); got.Code != websocket.CloseGoingAway || got.Text != stopping {
		t.Errorf("%v", got)
	}
	<-closed
	if _, resp, err := websocket.DefaultDialer.Dial(url, nil); err == nil || resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("got %v, %v", resp, err)
	}
}

func TestCloseEndsAllConnectionsWith1001(t *testing.T) {
	d, err := Start(Options{HTTPPort: 1, HTTPSPort: 2, Storage: "x"})
	if err != nil {
		t.Fatal(err)
	}
	url := "ws://" + d.ChatAddress + "/ws"
	ann, _ := enter(t, url, "Ann", "")
	silent := dial(t, url)
	done := make(chan error)
	begin := time.Now()
	go func() { done <- d.Close() }()
	for _, p := range []peer{ann, silent} {
		if c := p.closed(); c.Code != websocket.CloseGoingAway || c.Text != "the demo is stopping" {
			t.Errorf("%v", c)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
	if err := d.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
}

func TestCloseDoesNotWaitForClientsThatDoNotAnswer(t *testing.T) {
	limits := defaultLimits()
	limits.linger = 200 * time.Millisecond
	c, url := startChat(t, limits)
	enter(t, url, "Deaf", "") // reads no more, so its library never answers the Close
	begin := time.Now()
	c.close()
	if took := time.Since(begin); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestChatRefusesHandshakesItShouldNot(t *testing.T) {
	_, url := startChat(t, defaultLimits())
	base := "http" + strings.TrimPrefix(strings.TrimSuffix(url, "/ws"), "ws")
	defer http.DefaultClient.CloseIdleConnections()
	upgrade := map[string]string{
		"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	}
	for _, c := range []struct {
		name, path, header, value string
		status                    int
		text                      string
	}{
		{"plain request", "/ws", "Upgrade", "", 426, "Upgrade: websocket"},
		{"elsewhere", "/ws/x", "", "", 404, "/ws only"},
		{"foreign page", "/ws", "Origin", "https://evil.example", 403, `"https://evil.example" is not this host`},
		{"old version", "/ws", "Sec-WebSocket-Version", "8", 400, "13"},
	} {
		req, _ := http.NewRequest("GET", base+c.path, nil)
		for k, v := range upgrade {
			req.Header.Set(k, v)
		}
		if c.header != "" {
			req.Header.Set(c.header, c.value)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != c.status || !strings.Contains(string(body), c.text) {
			t.Errorf("%s: %d %q", c.name, resp.StatusCode, body)
		}
	}
}

func TestCleanNick(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", "Guest"},
		{" \t\u200b\x00", "Guest"},
		{"  Ann \n  Bee ", "Ann Bee"},
		{"\xff\xfe", "\ufffd\ufffd"},
		{strings.Repeat("ä", 30), strings.Repeat("ä", 24)},
		{strings.Repeat("a", 23) + " b", strings.Repeat("a", 23)},
	} {
		if got := cleanNick(c.in); got != c.want {
			t.Errorf("%q: %q, want %q", c.in, got, c.want)
		}
	}
}

func FuzzChatTakesAnyMessage(f *testing.F) {
	for _, s := range []string{`{"type":"hello","nick":"x"}`, `{"type":"chat","text":"x"}`, `{"type":"nick"}`, `{"type":"ping","t":1e308}`, `{`, "\xff", `null`} {
		f.Add([]byte(s))
	}
	c := newChat(defaultLimits(), "x", slog.New(slog.DiscardHandler))
	f.Fuzz(func(t *testing.T, data []byte) {
		cl := &client{chat: c, out: make(chan []byte, 64), quit: make(chan struct{}), tokens: 20, refilled: time.Now(), entered: true}
		cl.who = person{ID: "id", Nick: "n"}
		c.members = map[string]*client{"id": cl}
		cl.handle(data)
		for len(cl.out) > 0 {
			if answer := <-cl.out; !json.Valid(answer) {
				t.Errorf("%q -> %q", data, answer)
			}
		}
	})
}
