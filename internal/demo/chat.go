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
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/gorilla/websocket"
)

// Close codes of this chat, beside those of RFC 6455 section 7.4.1.
const closeReplaced = 4001 // the same browser tab has opened a newer connection

// Lengths in runes.
const (
	maxNick    = 24
	maxSession = 64
	maxRef     = 64
	maxEcho    = 200 // of each request header that is shown back to its sender
)

// chatLimits are the bounds that keep the chat safe with any client.
type chatLimits struct {
	message   int           // bytes of a message from a client
	history   int           // messages kept for newcomers
	queue     int           // messages waiting for one client; one more and it is dropped
	clients   int           // connections at a time
	burst     float64       // messages a client may send at once,
	perSecond float64       // and in the long run
	strikes   int           // refused messages in a row before the client is closed
	hello     time.Duration // from the handshake to the client's hello
	write     time.Duration // for one message to leave
	idle      time.Duration // without a sign of life from the client
	ping      time.Duration // between pings; less than idle
	linger    time.Duration // for the client to answer a Close frame
}

// defaultLimits are what the demo runs with.
func defaultLimits() chatLimits {
	return chatLimits{
		message:   4096,
		history:   50,
		queue:     64,
		clients:   200,
		burst:     20,
		perSecond: 5,
		strikes:   20,
		hello:     10 * time.Second,
		write:     10 * time.Second,
		idle:      75 * time.Second,
		ping:      25 * time.Second,
		linger:    time.Second,
	}
}

// person is somebody in the room. The ID stays the same when a browser tab reconnects.
type person struct {
	ID   string `json:"id"`
	Nick string `json:"nick"`
}

// request is what a client sends. Type is one of
//
//	hello  Nick, Session: the first message; enters the room
//	nick   Nick: asks for another name
//	chat   Text, Ref: says something; Ref comes back with the broadcast
//	ping   T: answered by a pong with the same T
type request struct {
	Type    string  `json:"type"`
	Nick    string  `json:"nick"`
	Session string  `json:"session"`
	Text    string  `json:"text"`
	Ref     string  `json:"ref"`
	T       float64 `json:"t"`
}

// hello answers a client's hello.
type hello struct {
	Type    string   `json:"type"` // hello
	Run     string   `json:"run"`  // differs each time the backend is started
	You     person   `json:"you"`
	Roster  []person `json:"roster"`
	History []said   `json:"history"`
	Limit   int      `json:"limit"` // bytes of a message
	Seen    seen     `json:"seen"`
}

// seen is what the backend saw of the client's handshake, for the client's own eyes.
type seen struct {
	Backend        string `json:"backend"` // the address that was connected to
	Peer           string `json:"peer"`    // the address that connected
	Host           string `json:"host"`
	ForwardedFor   string `json:"forwardedFor,omitempty"`
	ForwardedProto string `json:"forwardedProto,omitempty"`
}

// said is one chat message, as broadcast and as kept in the history.
type said struct {
	Type string `json:"type"` // chat
	ID   uint64 `json:"id"`   // counts up within a run
	Ref  string `json:"ref,omitempty"`
	From person `json:"from"`
	Text string `json:"text"`
	At   int64  `json:"at"` // milliseconds since 1970
}

// moved tells of a change to the roster.
type moved struct {
	Type string `json:"type"` // join, leave, nick
	Who  person `json:"who"`
	Was  string `json:"was,omitempty"` // the name before, for nick
	At   int64  `json:"at"`
}

// pong answers a ping.
type pong struct {
	Type string  `json:"type"` // pong
	T    float64 `json:"t"`
}

// refusal tells a client why its message was not taken. The connection stays open.
type refusal struct {
	Type string `json:"type"` // error
	Code string `json:"code"`
	Text string `json:"text"`
	Ref  string `json:"ref,omitempty"`
}

// chat is the backend: one room, one WebSocket endpoint at /ws.
type chat struct {
	limits   chatLimits
	address  string
	run      string
	log      *slog.Logger
	upgrader websocket.Upgrader
	handlers sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	clients map[*client]bool   // every open connection
	members map[string]*client // those that said hello, by person ID
	history []said
	lastID  uint64
}

// newChat makes an empty room that calls itself by address.
func newChat(limits chatLimits, address string, log *slog.Logger) *chat {
	return &chat{
		limits:  limits,
		address: address,
		run:     strconv.FormatInt(time.Now().UnixNano(), 36),
		log:     log,
		upgrader: websocket.Upgrader{
			HandshakeTimeout: limits.write,
			ReadBufferSize:   limits.message,
			WriteBufferSize:  limits.message,
			Error:            refuseHandshake,
			// CheckOrigin is left to its default: Origin, if sent, must name the Host. Compression is
			// left off: the read limit would then bound compressed bytes only.
		},
		clients: make(map[*client]bool),
		members: make(map[string]*client),
	}
}

// refuseHandshake answers an upgrade request that cannot be taken.
func refuseHandshake(w http.ResponseWriter, r *http.Request, status int, reason error) {
	text := reason.Error()
	if status == http.StatusForbidden {
		text = fmt.Sprintf("the page's origin %.100q is not this host, %.100q", r.Header.Get("Origin"), r.Host)
	}
	w.Header().Set("Sec-WebSocket-Version", "13")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.Error(w, strconv.Itoa(status)+": "+text, status)
}

// ServeHTTP runs one client from handshake to end.
func (c *chat) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/ws" {
		http.Error(w, "404: the chat backend answers at /ws only", http.StatusNotFound)
		return
	}
	if !websocket.IsWebSocketUpgrade(r) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "426: /ws speaks WebSocket; this request has no Upgrade: websocket", http.StatusUpgradeRequired)
		return
	}
	conn, err := c.upgrader.Upgrade(w, r, nil)
	if err != nil {
		c.log.Debug("demo: chat handshake refused", "remote", r.RemoteAddr, "error", err)
		return
	}
	cl := newClient(c, conn, r)
	if !c.open(cl) {
		conn.Close()
		return
	}
	defer c.handlers.Done()
	go cl.write()
	cl.read()
	c.leave(cl)
	<-cl.written
	if !cl.peerClosed {
		cl.drain()
	}
	conn.Close()
	cl.cut.Stop()
}

// open counts cl among the connections; false if the chat is already closed. A client too many
// is taken in only to be told so: a browser cannot see the status of a refused handshake.
func (c *chat) open(cl *client) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.handlers.Add(1)
	if len(c.clients) >= c.limits.clients {
		cl.kick(websocket.CloseTryAgainLater, "the demo is full")
	}
	c.clients[cl] = true
	return true
}

// close ends every connection and waits for it.
func (c *chat) close() {
	c.mu.Lock()
	c.closed = true
	for cl := range c.clients {
		cl.kick(websocket.CloseGoingAway, "the demo is stopping")
	}
	c.mu.Unlock()
	c.handlers.Wait()
}

// leave forgets cl and tells the others.
func (c *chat) leave(cl *client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.clients, cl)
	if c.members[cl.who.ID] == cl {
		delete(c.members, cl.who.ID)
		c.broadcast(moved{Type: "leave", Who: cl.who, At: time.Now().UnixMilli()})
	}
}

// enter makes cl a member and greets it. A connection of the same session is replaced, which
// the others need not know.
func (c *chat) enter(cl *client, nick, session string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := personID(session)
	old := c.members[id]
	cl.who = person{ID: id, Nick: c.freeNick(nick, id)}
	if old != nil {
		old.kick(closeReplaced, "replaced by a newer connection")
	}
	c.members[id] = cl
	cl.send(hello{
		Type: "hello", Run: c.run, You: cl.who, Roster: c.roster(),
		History: append([]said{}, c.history...), Limit: c.limits.message, Seen: cl.seen,
	})
	switch {
	case old == nil:
		c.broadcast(moved{Type: "join", Who: cl.who, At: time.Now().UnixMilli()})
	case old.who.Nick != cl.who.Nick:
		c.broadcast(moved{Type: "nick", Who: cl.who, Was: old.who.Nick, At: time.Now().UnixMilli()})
	}
}

// rename gives cl another name.
func (c *chat) rename(cl *client, nick string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.members[cl.who.ID] != cl {
		return // replaced in the meantime
	}
	was := cl.who.Nick
	cl.who.Nick = c.freeNick(nick, cl.who.ID)
	if cl.who.Nick != was {
		c.broadcast(moved{Type: "nick", Who: cl.who, Was: was, At: time.Now().UnixMilli()})
	}
}

// say keeps a message and sends it to all, its author included.
func (c *chat) say(cl *client, text, ref string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.members[cl.who.ID] != cl {
		return // replaced in the meantime
	}
	c.lastID++
	m := said{Type: "chat", ID: c.lastID, Ref: ref, From: cl.who, Text: text, At: time.Now().UnixMilli()}
	c.history = append(c.history, m)
	if extra := len(c.history) - c.limits.history; extra > 0 {
		c.history = append(c.history[:0], c.history[extra:]...)
	}
	c.broadcast(m)
}

// broadcast queues m for every member. The caller holds mu, so all see the same order.
func (c *chat) broadcast(m any) {
	data := encode(m)
	for _, cl := range c.members {
		cl.queue(data)
	}
}

// roster lists the members in no order. The caller holds mu.
func (c *chat) roster() []person {
	people := make([]person, 0, len(c.members))
	for _, cl := range c.members {
		people = append(people, cl.who)
	}
	return people
}

// freeNick is nick, or nick with the first number that nobody but the person id has. The caller holds mu.
func (c *chat) freeNick(nick, id string) string {
	taken := make(map[string]bool, len(c.members))
	for _, cl := range c.members {
		if cl.who.ID != id {
			taken[strings.ToLower(cl.who.Nick)] = true
		}
	}
	free := nick
	for n := 2; taken[strings.ToLower(free)]; n++ {
		suffix := " " + strconv.Itoa(n)
		free = strings.TrimSpace(firstRunes(nick, maxNick-len(suffix))) + suffix
	}
	return free
}

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
