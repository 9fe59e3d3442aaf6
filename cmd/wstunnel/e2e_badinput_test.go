//go:build linux

package main_test

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestThousandControlConnections: those beyond the bound are told so, nobody is kept from asking, and memory stays what it was.
func TestThousandControlConnections(t *testing.T) {
	const many, most = 1000, 256
	address := freePort(t)
	yaml := twoSites(t, `, address: "`+address+`", tokens: [{name: ops, hash: "`+hashOf("ops")+`"}]`, "")
	f := startFront(t, yaml)
	before := usageOf(t, f.cmd.Process.Pid)
	var all []*lines
	for range many {
		l := dialLines(t, yaml)
		l.says("COUNT", "OK 0")
		all = append(all, l)
	}
	f.expectOrder(t, 0, []string{"ready"}, "status")
	for n, l := range all[:many-most] {
		if rest, err := l.rest(); err != nil || !strings.HasPrefix(rest, "ERR 503 too many connections") {
			t.Fatalf("connection %d is told %q, %v", n, rest, err)
		}
	}
	all[many-1].says("COUNT", "OK 0")
	f.awaitDescriptors(t, before.descriptors+most+16)
	var visitors []net.Conn
	for range many {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		visitors = append(visitors, conn)
	}
	for n, conn := range visitors[:many-most] {
		if rest, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(rest), "HTTP/1.1 503 ") {
			t.Fatalf("connection %d is told %q, %v", n, rest, err)
		}
	}
	if status, _, _ := askWeb(t, "GET", address, "/v1/status", map[string]string{"Authorization": "Bearer ops"}, ""); status != 200 {
		t.Errorf("status over TCP: %d", status)
	}
}

// TestLinesThatAreNone have clear answers, and cost the connection at most.
func TestLinesThatAreNone(t *testing.T) {
	yaml := withSocket(t, settings(`{path: /ws, websocket: "ws://`+startTagging(t)+`"}`))
	f := startFront(t, yaml)
	anna := f.dialSocket(t, "ws", "/ws?user=anna")
	controlOf(t, yaml).awaitTunnels(1)
	l := dialLines(t, yaml)
	for _, c := range [][2]string{
		{"COUNT\x00", "ERR 400 unknown order \"COUNT\\x00\""},
		{"\x00\x00\x00", "ERR 400 unknown order"},
		{"", "ERR 400 unknown order"},
		{"SEND USER an\x00na x", "OK 0"},
		{"SEND USER anna a\x00b", "OK 1"},
		{"SEND USER anna \xc3\x28", "ERR 422 the text is not UTF-8"},
		{"SEND MESSAGE \x00 x", "ERR 404 no such tunnel"},
		{"SEND MESSAGE 18446744073709551616-00000000 x", "ERR 404 no such tunnel"},
		{"SEND MESSAGE -1-00000000 x", "ERR 404 no such tunnel"},
		{"KICK 1", "ERR 404 no such tunnel"},
		{"JOIN 1-00000000 a\x00b", "ERR 422 "},
		{"LEAVE 999999-00000000 x", "ERR 404 no such tunnel"},
	} {
		l.says(c[0], c[1])
	}
	anna.says(t, "a\x00b")
	long := dialLines(t, yaml)
	go io.WriteString(long, "SEND USER anna "+strings.Repeat("x", 1<<20)+"\nCOUNT\n")
	if rest, _ := long.rest(); !strings.HasPrefix(rest, "ERR 413 a line has more than ") || strings.Count(rest, "\n") != 1 {
		t.Errorf("a line of 1 MB is answered with %q", rest)
	}
	slow := dialLines(t, yaml)
	io.WriteString(slow, "SEND USER anna in ")
	l.says("COUNT", "OK 1") // which waits for nobody's half line
	io.WriteString(slow, "two halves\n")
	if got, err := slow.readLine(); got != "OK 1\n" {
		t.Errorf("%q, %v", got, err)
	}
	anna.says(t, "in two halves")
	binary := dialLines(t, yaml)
	io.WriteString(binary, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n") // as TLS begins
	if got, err := binary.readLine(); !strings.HasPrefix(got, "ERR 400 ") {
		t.Errorf("%q, %v", got, err)
	}
}

// startScripted is a WebSocket backend that does as it is told, of one connection.
func startScripted(t *testing.T, do func(conn net.Conn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		br := bufio.NewReader(conn)
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		accept := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Accept: "+base64.StdEncoding.EncodeToString(accept[:])+"\r\n\r\n")
		do(conn)
	}()
	return l.Addr().String()
}

// toClient is how many bytes have gone to the client of a tunnel.
func (c *control) toClient(id string) uint64 {
	var told struct {
		ToClient struct{ Bytes uint64 } `json:"to_client"`
	}
	if err := json.Unmarshal([]byte(c.ask(200, "GET", "/v1/tunnels/"+id, "", "")), &told); err != nil {
		c.t.Fatal(err)
	}
	return told.ToClient.Bytes
}

// TestMessagesWhereNoneCanGo: into the middle of a fragmented message, behind a Close frame, and to a browser that reads nothing.
func TestMessagesWhereNoneCanGo(t *testing.T) {
	more := make(chan string)
	yaml := withSocket(t, settings(`{path: /ws, websocket: "ws://`+startScripted(t, func(conn net.Conn) {
		for s := range more {
			io.WriteString(conn, s)
		}
	})+`"}`, `{path: /flood, websocket: "ws://`+startScripted(t, func(conn net.Conn) {
		for frame := "\x82\x7e\xff\xff" + strings.Repeat("x", 65535); ; {
			if _, err := io.WriteString(conn, frame); err != nil {
				return
			}
		}
	})+`"}`))
	f := startFront(t, yaml)
	c := controlOf(t, yaml)
	s := f.dialSocket(t, "ws", "/ws")
	id := c.awaitTunnels(1).Tunnels[0].ID
	more <- "\x01\x05begin" // a text, not its end
	eventually(t, "a message has begun", func() bool { return c.toClient(id) >= 7 })
	c.ask(504, "POST", "/v1/tunnels/"+id+"/messages", "application/json", `{"text":"too late","ttl_ms":1,"wait":"written"}`)
	l := dialLines(t, yaml)
	for range 64 {
		l.says("SEND MESSAGE "+id+" waits", "OK 1")
	}
	l.says("SEND MESSAGE "+id+" one too many", "ERR 429 too much waits")
	c.ask(429, "POST", "/v1/tunnels/"+id+"/messages", "text/plain", "one too many")
	more <- "\x80\x03end"
	s.says(t, "beginend")
	for range 64 {
		s.says(t, "waits")
	}
	more <- "\x88\x02\x03\xe8"
	s.awaitClose(1000)
	c.ask(410, "POST", "/v1/tunnels/"+id+"/messages", "text/plain", "behind a Close frame")
	l.says("SEND MESSAGE "+id+" behind a Close frame", "ERR 410 the tunnel has ended")
	close(more)
	s.Close()
	f.awaitLog(t, 0, "tunnel closed")
	l.says("SEND MESSAGE "+id+" nobody is there", "ERR 410 the tunnel has ended")
	flood, _, err := websocket.DefaultDialer.Dial("ws://"+f.http+"/flood", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer flood.Close()
	stalled := c.awaitTunnels(1).Tunnels[0].ID
	var bytes uint64
	still := 0
	eventually(t, "a stall", func() bool { // and not somebody else who has the machine for a moment
		before := bytes
		bytes = c.toClient(stalled)
		time.Sleep(100 * time.Millisecond)
		if still++; bytes == 0 || bytes != before {
			still = 0
		}
		return still == 5
	})
	c.ask(504, "POST", "/v1/tunnels/"+stalled+"/messages", "application/json", `{"text":"too late","ttl_ms":1,"wait":"written"}`)
	for range 64 {
		l.says("SEND MESSAGE "+stalled+" waits", "OK 1")
	}
	l.says("SEND MESSAGE "+stalled+" one too many", "ERR 429 too much waits")
	l.says("COUNT", "OK "+strconv.Itoa(len(c.list("").Tunnels)))
}
