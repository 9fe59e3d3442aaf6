package demo

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// client is one WebSocket connection: a reader (the handler's goroutine) and a writer.
type client struct {
	chat    *chat
	conn    *websocket.Conn
	seen    seen
	out     chan []byte
	written chan struct{} // closed when the writer has ended

	once   sync.Once
	quit   chan struct{} // closed by kick, after the fields below are set
	code   int
	reason string
	cut    *time.Timer

	who person // guarded by chat.mu

	// Of the reader alone.
	entered    bool
	peerClosed bool
	tokens     float64
	refilled   time.Time
	strikes    int
}

// newClient wraps a connection whose handshake r was.
func newClient(c *chat, conn *websocket.Conn, r *http.Request) *client {
	return &client{
		chat:    c,
		conn:    conn,
		out:     make(chan []byte, c.limits.queue),
		written: make(chan struct{}),
		quit:    make(chan struct{}),
		tokens:  c.limits.burst, refilled: time.Now(),
		seen: seen{
			Backend:        c.address,
			Peer:           r.RemoteAddr,
			Host:           firstRunes(r.Host, maxEcho),
			ForwardedFor:   firstRunes(r.Header.Get("X-Forwarded-For"), maxEcho),
			ForwardedProto: firstRunes(r.Header.Get("X-Forwarded-Proto"), maxEcho),
		},
	}
}

// read handles what the client sends, until either end has had enough.
func (cl *client) read() {
	limits := cl.chat.limits
	cl.conn.SetReadLimit(int64(limits.message))
	cl.deadline(limits.hello)
	cl.conn.SetPongHandler(func(string) error { cl.alive(); return nil })
	pong := cl.conn.PingHandler()
	cl.conn.SetPingHandler(func(data string) error {
		if !cl.allow() {
			return nil // the ping is not answered, and strikes add up
		}
		cl.alive()
		return pong(data)
	})
	for {
		kind, data, err := cl.conn.ReadMessage()
		if err != nil {
			var closed *websocket.CloseError
			cl.peerClosed = errors.As(err, &closed)
			cl.kick(closeCode(err))
			return
		}
		if cl.leaving() {
			continue // only the client's Close frame is of interest now
		}
		cl.alive()
		switch {
		case kind != websocket.TextMessage:
			cl.kick(websocket.CloseUnsupportedData, "only text messages are understood")
		case !utf8.Valid(data):
			cl.kick(websocket.CloseInvalidFramePayloadData, "text is not UTF-8")
		default:
			cl.handle(data)
		}
	}
}

// closeCode says what the client is told when reading from it failed. Where it cannot be told
// any more, or the library has told it already, the answer goes nowhere.
func closeCode(err error) (int, string) {
	if errors.Is(err, websocket.ErrReadLimit) {
		return websocket.CloseMessageTooBig, "message too long"
	}
	return websocket.CloseGoingAway, "no sign of life"
}

// handle acts on one text message.
func (cl *client) handle(data []byte) {
	var m request
	err := json.Unmarshal(data, &m)
	if !cl.allow() {
		cl.send(refusal{"error", "slow-down", "too many messages at once; wait a second", firstRunes(m.Ref, maxRef)})
		return
	}
	if err != nil {
		cl.refuse("bad-json", "not a JSON object of the expected form: "+err.Error(), "")
		return
	}
	m.Ref = firstRunes(m.Ref, maxRef)
	switch {
	case m.Type == "ping":
		cl.send(pong{"pong", m.T})
	case m.Type == "hello" && cl.entered:
		cl.refuse("bad-message", "hello was already said", "")
	case m.Type == "hello":
		cl.entered = true
		cl.alive()
		cl.chat.enter(cl, cleanNick(m.Nick), firstRunes(m.Session, maxSession))
	case !cl.entered:
		cl.refuse("hello-first", "the first message must be of type hello", m.Ref)
	case m.Type == "nick":
		cl.chat.rename(cl, cleanNick(m.Nick))
	case m.Type == "chat":
		text := cleanText(m.Text)
		if text == "" {
			cl.refuse("bad-message", "the text is empty", m.Ref)
			return
		}
		cl.strikes = 0
		cl.chat.say(cl, text, m.Ref)
	default:
		cl.refuse("bad-message", fmt.Sprintf("unknown type %.40q; known are hello, nick, chat, ping", m.Type), m.Ref)
	}
}

// refuse tells the client what was wrong with its message.
func (cl *client) refuse(code, text, ref string) {
	cl.strike()
	cl.send(refusal{"error", code, text, ref})
}

// allow takes a token from the client's bucket; without one, the message counts against it.
func (cl *client) allow() bool {
	now := time.Now()
	l := cl.chat.limits
	cl.tokens = min(l.burst, cl.tokens+now.Sub(cl.refilled).Seconds()*l.perSecond)
	cl.refilled = now
	if cl.tokens < 1 {
		cl.strike()
		return false
	}
	cl.tokens--
	return true
}

// strike counts a refused message and closes a client that does not stop.
func (cl *client) strike() {
	if cl.strikes++; cl.strikes > cl.chat.limits.strikes {
		cl.kick(websocket.ClosePolicyViolation, "too many refused messages")
	}
}

// alive gives a client that said hello another idle period.
func (cl *client) alive() {
	if cl.entered {
		cl.deadline(cl.chat.limits.idle)
	}
}

// deadline bounds the time until the next sign of life. Once the client is being closed, only
// the linger time is left, whoever comes first.
func (cl *client) deadline(d time.Duration) {
	cl.conn.SetReadDeadline(time.Now().Add(d))
	if cl.leaving() {
		cl.conn.SetReadDeadline(time.Now().Add(cl.chat.limits.linger))
	}
}

// send queues m for this client alone.
func (cl *client) send(m any) {
	cl.queue(encode(m))
}

// queue hands data to the writer and never waits: who has let its queue fill up is dropped.
func (cl *client) queue(data []byte) {
	select {
	case cl.out <- data:
	default:
		cl.kick(websocket.CloseTryAgainLater, "too slow: messages were piling up")
	}
}

// kick starts the closing of the connection; the first call gives code and reason. Whatever
// still hangs after a second linger time, a blocked write above all, is cut.
func (cl *client) kick(code int, reason string) {
	cl.once.Do(func() {
		cl.code, cl.reason = code, reason
		cl.cut = time.AfterFunc(2*cl.chat.limits.linger, func() { cl.conn.NetConn().Close() })
		close(cl.quit)
	})
}

// leaving says that kick was called.
func (cl *client) leaving() bool {
	select {
	case <-cl.quit:
		return true
	default:
		return false
	}
}

// write sends what is queued, and pings; on kick it sends the Close frame and ends.
func (cl *client) write() {
	defer close(cl.written)
	limits := cl.chat.limits
	ping := time.NewTicker(limits.ping)
	defer ping.Stop()
	for !cl.leaving() {
		var err error
		select {
		case data := <-cl.out:
			cl.conn.SetWriteDeadline(time.Now().Add(limits.write))
			err = cl.conn.WriteMessage(websocket.TextMessage, data)
		case <-ping.C:
			err = cl.conn.WriteControl(websocket.PingMessage, nil, time.Now().Add(limits.write))
		case <-cl.quit:
		}
		if err != nil {
			cl.kick(websocket.CloseGoingAway, "write failed")
			cl.conn.Close() // so that the reader ends too
			return
		}
	}
	until := time.Now().Add(limits.linger)
	cl.conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(cl.code, cl.reason), until)
	cl.conn.SetReadDeadline(until)
}

// drain discards what the client is still sending: closing a socket with unread data resets it,
// and the reset would overtake the Close frame.
func (cl *client) drain() {
	raw := cl.conn.NetConn()
	raw.SetReadDeadline(time.Now().Add(cl.chat.limits.linger))
	io.Copy(io.Discard, raw)
}

// personID is what the others know a session by: the same for the same session, and no way back.
// Without a session it is a new one.
func personID(session string) string {
	if session == "" {
		session = rand.Text()
	}
	sum := sha256.Sum256([]byte(session))
	return hex.EncodeToString(sum[:8])
}

// cleanNick makes a presentable name of anything: one line, printable, at most maxNick runes.
func cleanNick(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsPrint(r):
			return r
		}
		return -1
	}, s)
	s = strings.TrimSpace(firstRunes(strings.Join(strings.Fields(s), " "), maxNick))
	if s == "" {
		return "Guest"
	}
	return s
}

// cleanText drops control characters other than tab and newline, and blank space around the text.
func cleanText(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	return strings.TrimSpace(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, s))
}

// firstRunes is the beginning of s, at most n runes.
func firstRunes(s string, n int) string {
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// encode writes m as JSON.
func encode(m any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false) // it goes to JSON.parse, not into a page
	if err := e.Encode(m); err != nil {
		panic("demo: " + err.Error()) // our own plain structs
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
