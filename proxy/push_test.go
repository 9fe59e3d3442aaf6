package proxy_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"wstunnel/internal/handover"
	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
	"wstunnel/proxy"
)

// startTagging is a backend whose 101 has further lines: those that tags makes of the request's head. It echoes bytes.
func startTagging(t *testing.T, tags func(head string) string) *backend {
	t.Helper()
	page := strings.TrimSuffix(ok, "\r\n\r\nok") + "\r\nX-Wstunnel-User: anna\r\nGrip-Channel: all\r\n\r\nok"
	return startUpgrading(t, page, tags, func(conn net.Conn, br *bufio.Reader) { io.Copy(conn, br) })
}

// startUpgrading is a backend that opens each tunnel that it is asked for, with further lines in its 101, and answers all else with a page.
func startUpgrading(t *testing.T, page string, lines func(head string) string, serve func(conn net.Conn, br *bufio.Reader)) *backend {
	t.Helper()
	return startBackend(t, func(b *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		head, err := rawHead(br)
		b.note(head)
		if err != nil {
			return
		}
		keys := field(head, "Sec-WebSocket-Key")
		if len(keys) != 1 {
			io.WriteString(conn, page)
			return
		}
		answer := strings.Replace(switching, sampleAccept, ws.Accept(keys[0]), 1)
		io.WriteString(conn, strings.TrimSuffix(answer, "\r\n")+lines(head)+"\r\n")
		serve(conn, br)
	})
}

// byQuery says what the request's query says: user, and groups behind a plus.
func byQuery(head string) string {
	_, rest, _ := strings.Cut(head, "?")
	query, _, _ := strings.Cut(rest, " ")
	user, groups, _ := strings.Cut(query, "+")
	return "X-Wstunnel-User: " + user + "\r\nX-Wstunnel-Groups: " + groups + "\r\n"
}

const annaInTwoGroups = "x-wstunnel-user: anna\r\nX-Wstunnel-Groups: lobby, room-7\r\nGrip-Channel: news; prev-id=3, lobby\r\n"

// tagged opens a tunnel, and returns the head of the 101 too.
func (f *front) tagged(target string) (c *client, head string) {
	f.t.Helper()
	before := f.newestTunnel()
	c = f.dial()
	c.send(strings.Replace(upgrade, "GET /ws ", "GET "+target+" ", 1))
	head = c.head()
	await(f.t, "the tunnel", func() bool { return f.newestTunnel() > before })
	return c, head
}

func textTo(message string) *tunnel.Message {
	return proxy.NewMessage([]byte(message), false, 0)
}

func TestBackendSaysWhoseATunnelIs(t *testing.T) {
	for _, mode := range []string{"tunnel", "relay"} {
		b := startTagging(t, always(annaInTwoGroups))
		f := start(t, oneSite(`{path: /ws, mode: `+mode+`, websocket: "ws://`+b.address+`"}`))
		c, head := f.tagged("/ws")
		if lower := strings.ToLower(head); strings.Contains(lower, "wstunnel") || strings.Contains(lower, "grip") {
			t.Errorf("%s: the client sees %q", mode, head)
		}
		live := f.server.Tunnels()[0]
		if live.User != "anna" || !slices.Equal(live.Groups, []string{"lobby", "room-7", "news"}) || !live.Pushable {
			t.Errorf("%s: %+v", mode, live)
		}
		if ids := field(b.seen()[0], "X-Wstunnel-Id"); !slices.Equal(ids, []string{live.Key}) {
			t.Errorf("%s: the backend was told %q, not %s", mode, ids, live.Key)
		}
		c.Close()
		await(t, "the end", func() bool { return f.server.TunnelCount() == 0 })
		if got, err := f.server.Push(t.Context(), proxy.Audience{Users: []string{"anna"}, Groups: []string{"news"}}, textTo("gone"), false); err != nil || got.Matched != 0 {
			t.Errorf("%s: %+v, %v", mode, got, err)
		}
	}
}

func TestClientsForgeNoTags(t *testing.T) {
	b := startTagging(t, always(""))
	f := start(t, oneSite(socketTo(b.address), httpTo(b.address)))
	const forged = "X-Wstunnel-Id: 1-00000000\r\nx-wstunnel-user: root\r\nX-WSTUNNEL-ANYTHING: 1\r\nGrip-Channel: all\r\nX_Wstunnel_User: root\r\n"
	c := f.dial()
	c.send(upgradeWith(forged))
	c.expectSwitch()
	page := f.dial()
	page.send("GET / HTTP/1.1\r\nHost: example.com\r\n" + forged + "\r\n")
	if a := page.expect(200); a.Header.Get("X-Wstunnel-User") != "" || a.Header.Get("Grip-Channel") != "" {
		t.Errorf("a page has %v", a.Header)
	}
	for i, head := range b.seen() {
		lower := strings.ToLower(head)
		if strings.Contains(lower, "root") || strings.Contains(lower, "anything") || strings.Contains(lower, "grip") || strings.Contains(lower, "00000000") ||
			len(field(head, "X-Wstunnel-Id")) != 1-i {
			t.Errorf("the backend was sent %q", head)
		}
	}
}

func TestTagsThatMeanNothingFailTheHandshake(t *testing.T) {
	for lines, why := range map[string]string{
		"X-Wstunnel-User: " + strings.Repeat("x", 129):                     "has 129 bytes; 128 are allowed",
		"X-Wstunnel-User: a b":                                             "has a blank, a comma or a control character",
		"X-Wstunnel-User: \xff":                                            "is not UTF-8",
		"X-Wstunnel-User: a\r\nX-Wstunnel-User: b":                         "two users",
		"X-Wstunnel-Groups: a" + manyNames(32):                             "more than 32 groups",
		"Grip-Channel: " + strings.Repeat("x", 129):                        "128 are allowed",
		"X-Wstunnel-Push: perhaps":                                         "neither on nor off",
		"X-Wstunnel-User: " + strings.Repeat("x", 2000) + "\r\nX-Other: 1": "has 2000 bytes",
	} {
		f := start(t, oneSite(socketTo(startTagging(t, always(lines+"\r\n")).address)))
		c := f.dial()
		c.send(upgrade)
		c.expect(502)
		if !strings.Contains(f.log.String(), why) {
			t.Errorf("%.60q: the log does not say %q", lines, why)
		}
	}
}

func manyNames(n int) (names string) {
	for i := range n {
		names += fmt.Sprintf(", group-%d", i)
	}
	return names
}

func TestAuthRequestSaysWhoseATunnelIs(t *testing.T) {
	authority := startHeads(t, always("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Wstunnel-User: berta\r\nX-Wstunnel-Groups: staff\r\n\r\n"))
	b := startTagging(t, always("X-Wstunnel-Groups: lobby\r\n"))
	f := start(t, oneSite(`{path: /ws, websocket: "ws://`+b.address+`", auth_request: "http://`+authority.address+`/"}`))
	c := f.dial()
	c.send(upgradeWith("X-Wstunnel-User: root\r\n"))
	c.expectSwitch()
	await(t, "the tunnel", func() bool { return len(f.server.Tunnels()) == 1 })
	if live := f.server.Tunnels()[0]; live.User != "berta" || !slices.Equal(live.Groups, []string{"lobby", "staff"}) {
		t.Errorf("%+v", live)
	}
	if strings.Contains(authority.seen()[0], "root") {
		t.Error("the authority is told what the client says")
	}
}

func TestMessagesArePushedToWhomTheyAreFor(t *testing.T) {
	for _, mode := range []string{"tunnel", "relay"} {
		b := startTagging(t, byQuery)
		f := start(t, oneSite(`{path: /ws, mode: `+mode+`, websocket: "ws://`+b.address+`"}`))
		anna, _ := f.tagged("/ws?anna+lobby,chess")
		other, _ := f.tagged("/ws?anna+lobby")
		berta, _ := f.tagged("/ws?berta+chess")
		keys := []string{f.server.Tunnels()[0].Key, f.server.Tunnels()[2].Key}
		for _, c := range []struct {
			to   proxy.Audience
			want []*client
		}{
			{proxy.Audience{Users: []string{"anna"}}, []*client{anna, other}},
			{proxy.Audience{Groups: []string{"chess"}}, []*client{anna, berta}},
			{proxy.Audience{Keys: keys}, []*client{anna, berta}},
			{proxy.Audience{Users: []string{"anna", "nobody"}, Groups: []string{"chess", "lobby"}, Keys: append(keys, "9-00000000")}, []*client{anna, other, berta}},
			{proxy.Audience{Users: []string{"nobody"}}, nil},
			{proxy.Audience{Users: []string{"anna"}, Site: "other.example"}, nil},
		} {
			message := fmt.Sprint(c.to)
			got, err := f.server.Push(t.Context(), c.to, textTo(message), true)
			if want := (proxy.Pushed{Matched: len(c.want), Written: len(c.want)}); got != want || err != nil {
				t.Errorf("%s %s: %+v, %v", mode, message, got, err)
			}
			for _, client := range c.want {
				if got := mustRead(t, client.br, len(serverText(message))); got != serverText(message) {
					t.Errorf("%s: read %q, want %q", mode, got, message)
				}
			}
		}
		if _, err := f.server.PushTo(t.Context(), keys[1], textTo("to you"), true); err != nil {
			t.Error(err)
		}
		if op, payload := frame(t, berta.br); op != ws.OpText || payload != "to you" {
			t.Errorf("%s: got opcode %d with %q", mode, op, payload)
		}
	}
}

func TestGroupsChangeWhileATunnelIsOpen(t *testing.T) {
	f := start(t, oneSite(socketTo(startTagging(t, always("")).address)))
	c, _ := f.tagged("/ws")
	key := f.server.Tunnels()[0].Key
	for range 2 {
		if err := f.server.Join(key, "late"); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := f.server.Push(t.Context(), proxy.Audience{Groups: []string{"late"}}, textTo("one"), true); err != nil || got.Written != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, payload := frame(t, c.br); payload != "one" {
		t.Error(payload)
	}
	for range 2 {
		if err := f.server.Leave(key, "late"); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := f.server.Push(t.Context(), proxy.Audience{Groups: []string{"late"}}, textTo("two"), true); got.Matched != 0 {
		t.Errorf("%+v", got)
	}
	if _, bad := errors.AsType[*proxy.TagError](f.server.Join(key, "a b")); !bad {
		t.Error("a name with a blank is taken")
	}
	for i := range 32 {
		if err := f.server.Join(key, fmt.Sprint("group-", i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, bad := errors.AsType[*proxy.TagError](f.server.Join(key, "group-32")); !bad {
		t.Error("a group too many is taken")
	}
	c.Close()
	await(t, "the end", func() bool { return f.server.TunnelCount() == 0 })
	if err := f.server.Join(key, "late"); !errors.Is(err, proxy.ErrGone) {
		t.Error(err)
	}
	if err := f.server.Join("12345-00000000", "late"); !errors.Is(err, proxy.ErrNoTunnel) {
		t.Error(err)
	}
}

func TestWhatCannotBePushedInto(t *testing.T) {
	for _, c := range []struct {
		name, asked, answered string
		want                  error
	}{
		{"push is off", "", "X-Wstunnel-Push: off\r\n", proxy.ErrPushOff},
		{"another extension", "Sec-WebSocket-Extensions: permessage-deflate, x-own\r\n", "Sec-WebSocket-Extensions: permessage-deflate, x-own\r\n", proxy.ErrExtensions},
		{"permessage-deflate", deflateLine, deflateLine, nil},
	} {
		f := start(t, oneSite(socketTo(startTagging(t, always(c.answered+"X-Wstunnel-User: anna\r\n")).address)))
		client := f.dial()
		client.send(upgradeWith(c.asked))
		client.expectSwitch()
		await(t, "the tunnel", func() bool { return len(f.server.Tunnels()) == 1 })
		key := f.server.Tunnels()[0].Key
		if _, err := f.server.PushTo(t.Context(), key, textTo("x"), true); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
		got, _ := f.server.Push(t.Context(), proxy.Audience{Users: []string{"anna"}}, textTo("x"), true)
		if got.Matched != 1 || got.Dropped == 1 != (c.want != nil) {
			t.Errorf("%s: %+v", c.name, got)
		}
		if _, err := f.server.PushTo(t.Context(), key[:len(key)-8]+"zzzzzzzz", textTo("x"), true); !errors.Is(err, proxy.ErrNoTunnel) {
			t.Errorf("%s, a wrong key: %v", c.name, err)
		}
	}
}

// TestPushIntoAMessageWaitsForItsEnd, for ten seconds.
func TestPushIntoAMessageWaitsForItsEnd(t *testing.T) {
	more := make(chan string)
	b := startSocket(t, func(conn net.Conn, _ *bufio.Reader) {
		for s := range more {
			io.WriteString(conn, s)
		}
	})
	f := start(t, oneSite(socketTo(b.address)))
	c, _ := f.tagged("/ws")
	key, message := f.server.Tunnels()[0].Key, serverText("a message in two pieces")
	more <- message[:7]
	mustRead(t, c.br, 7)
	over := make(chan error, 1)
	go func() {
		_, err := f.server.PushTo(t.Context(), key, textTo("too late"), true)
		over <- err
	}()
	await(t, "the first to expire", func() bool {
		f.server.Skip(proxy.PushTTL)
		return len(over) > 0
	})
	if err := <-over; !errors.Is(err, proxy.ErrExpired) {
		t.Error(err)
	}
	got, err := f.server.PushTo(t.Context(), key, textTo("in time"), false)
	if want := (proxy.Pushed{Matched: 1, Queued: 1}); got != want || err != nil {
		t.Fatalf("%+v, %v", got, err)
	}
	f.server.Skip(proxy.PushTTL - time.Second)
	more <- message[7:]
	mustRead(t, c.br, len(message)-7)
	if _, payload := frame(t, c.br); payload != "in time" {
		t.Errorf("got %q", payload)
	}
	close(more)
}

// pausing has something happen to a tunnel that is on its way to another process.
type pausing struct {
	*handover.Giver
	happens func()
}

func (p pausing) Move(t *handover.Tunnel, held *tunnel.Held) error {
	p.happens()
	return p.Giver.Move(t, held)
}

// TestWhatIsAskedOfATunnelOnItsWay is to be asked again, but for messages, which go along: unless both processes are asked, and the other was before.
func TestWhatIsAskedOfATunnelOnItsWay(t *testing.T) {
	yaml := plainListener + oneSite(socketTo(startTagging(t, always(annaInTwoGroups)).address))
	old := startWith(t, yaml)
	c, _ := old.tagged("/ws")
	s := succeed(t, old, yaml)
	key := old.server.Tunnels()[0].Key
	old.server.StopAccepting()
	n, err := old.server.HandOver(pausing{s.giver, func() {
		for what, err := range map[string]error{"join": old.server.Join(key, "staff"), "leave": old.server.Leave(key, "lobby")} {
			if !errors.Is(err, proxy.ErrHandingOver) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if got, err := old.server.PushTo(t.Context(), key, textTo("goes along"), false); err != nil || got != (proxy.Pushed{Matched: 1, Queued: 1}) {
			t.Errorf("%+v, %v", got, err)
		}
		if got, err := old.server.Push(t.Context(), proxy.Audience{Users: []string{"anna"}, Settled: true}, textTo("twice"), false); err != nil ||
			got != (proxy.Pushed{Matched: 1, Dropped: 1}) {
			t.Errorf("%+v, %v", got, err)
		}
	}})
	if n != 1 || err != nil {
		t.Fatalf("%d tunnels went, %v", n, err)
	}
	if got, err := s.young.server.PushTo(t.Context(), key, textTo("behind it"), false); err != nil || got.Matched != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, want := range []string{"goes along", "behind it"} {
		if _, payload := frame(t, c.br); payload != want {
			t.Errorf("got %q, want %q", payload, want)
		}
	}
}

// TestTagsAndWaitingMessagesAreHandedOver to a new binary.
func TestTagsAndWaitingMessagesAreHandedOver(t *testing.T) {
	more := make(chan string)
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		rawHead(bufio.NewReader(conn))
		io.WriteString(conn, strings.TrimSuffix(switching, "\r\n")+annaInTwoGroups+"\r\n")
		for s := range more {
			io.WriteString(conn, s)
		}
	})
	yaml := plainListener + oneSite(socketTo(b.address))
	old := startWith(t, yaml)
	c, _ := old.tagged("/ws")
	s := succeed(t, old, yaml)
	was, message := old.server.Tunnels()[0], serverText("a message in two pieces")
	more <- message[:7]
	mustRead(t, c.br, 7)
	if got, err := old.server.PushTo(t.Context(), was.Key, textTo("on the way"), false); err != nil || got.Queued != 1 {
		t.Fatalf("%+v, %v", got, err)
	}
	s.handOver(t, 1)
	now := s.young.server.Tunnels()[0]
	if now.Key != was.Key || now.User != "anna" || !slices.Equal(now.Groups, was.Groups) {
		t.Errorf("%+v", now)
	}
	if got, err := s.young.server.Push(t.Context(), proxy.Audience{Users: []string{"anna"}}, textTo("behind it"), false); err != nil || got.Queued != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	more <- message[7:]
	mustRead(t, c.br, len(message)-7)
	for _, want := range []string{"on the way", "behind it"} {
		if _, payload := frame(t, c.br); payload != want {
			t.Errorf("got %q, want %q", payload, want)
		}
	}
	close(more)
}

// TestPushIntoARelayThatIsStalledExpires.
func TestPushIntoARelayThatIsStalledExpires(t *testing.T) {
	f := start(t, oneSite(relayTo(startFlood(t).address)))
	f.tagged("/ws")
	key := f.server.Tunnels()[0].Key
	await(t, "a stall", func() bool { // of half a second, since a busy machine makes pauses
		before := f.server.Tunnels()[0].ToClient.Bytes
		for range 5 {
			time.Sleep(100 * time.Millisecond)
			if f.server.Tunnels()[0].ToClient.Bytes != before {
				return false
			}
		}
		return before > 0
	})
	for n := range 64 {
		if got, err := f.server.PushTo(t.Context(), key, textTo("too late"), false); got.Queued != 1 || err != nil {
			t.Fatalf("message %d: %+v, %v", n, got, err)
		}
	}
	for _, step := range []struct {
		skip time.Duration
		want error
	}{{0, proxy.ErrFull}, {8 * time.Second, proxy.ErrFull}, {2 * time.Second, nil}} {
		f.server.Skip(step.skip)
		if _, err := f.server.PushTo(t.Context(), key, textTo("is there room"), false); !errors.Is(err, step.want) {
			t.Errorf("%v later: %v, want %v", step.skip, err, step.want)
		}
	}
	if _, err := f.server.PushTo(t.Context(), key, textTo(strings.Repeat("x", proxy.MaxPush)), false); !errors.Is(err, proxy.ErrFull) {
		t.Errorf("too many bytes: %v", err)
	}
}
