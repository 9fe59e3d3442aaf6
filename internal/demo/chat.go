package demo

import (
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// Close codes of this chat, beside those of RFC 6455 section 7.4.1.
const closeReplaced = 4001 // the same browser tab has opened a newer connection

// colours are how many the page has for people.
const colours = 9

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
	// Colour is the number of one of the page's colours. As long as there are enough, each person in the room has one alone.
	Colour int `json:"colour"`
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
	if !c.begin() {
		http.Error(w, "503: "+stopping, http.StatusServiceUnavailable)
		return
	}
	defer c.handlers.Done()
	conn, err := c.upgrader.Upgrade(w, r, nil)
	if err != nil {
		c.log.Debug("demo: chat handshake refused", "remote", r.RemoteAddr, "error", err)
		return
	}
	cl := newClient(c, conn, r)
	c.open(cl)
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

// stopping is said to those who are connected when the demo ends.
const stopping = "the demo is stopping"

// begin counts a handshake among what the end waits for; false if the chat is already closed.
func (c *chat) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.handlers.Add(1)
	}
	return !c.closed
}

// open counts cl among the connections. One that comes too late, or a client too many, is taken in only to be told so: a browser
// cannot see the status of a refused handshake.
func (c *chat) open(cl *client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
		cl.kick(websocket.CloseGoingAway, stopping)
	case len(c.clients) >= c.limits.clients:
		cl.kick(websocket.CloseTryAgainLater, "the demo is full")
	}
	c.clients[cl] = true
}

// close ends every connection and waits for it.
func (c *chat) close() {
	c.mu.Lock()
	c.closed = true
	for cl := range c.clients {
		cl.kick(websocket.CloseGoingAway, stopping)
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
	cl.who = person{ID: id, Nick: c.freeNick(nick, id), Colour: c.freeColour(id)}
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

// freeColour is the colour that a person has, or was last seen with; for a new one the first of those that the fewest have, where what was
// said counts a little. The caller holds mu.
func (c *chat) freeColour(id string) int {
	var taken [colours]int
	for _, m := range c.history {
		if m.From.ID == id {
			return m.From.Colour
		}
		taken[m.From.Colour]++
	}
	for _, cl := range c.members {
		if cl.who.ID == id {
			return cl.who.Colour
		}
		taken[cl.who.Colour] += len(c.history) + 1
	}
	free := 0
	for colour, n := range taken {
		if n < taken[free] {
			free = colour
		}
	}
	return free
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
