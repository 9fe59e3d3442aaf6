package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"wstunnel/internal/ws"
	"wstunnel/proxy"
)

// expectUpgradeRefused asks for a tunnel, which is not to be opened.
func (f *front) expectUpgradeRefused(t *testing.T, host string) {
	t.Helper()
	c := f.dial()
	c.send(strings.Replace(upgrade, "example.com", host, 1))
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != "5" {
		t.Errorf("an upgrade was answered %d with Retry-After %q, want 503 and 5", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
}

func (c *client) expectGoingAway(t *testing.T) {
	t.Helper()
	if op, payload := frame(t, c.br); op != ws.OpClose || code(payload) != ws.CloseGoingAway {
		t.Errorf("got opcode %d with %q, want a Close with 1001", op, payload)
	}
}

// TestDrainOfEverythingEndsTunnelsAndNothingElse, and is taken back by EndDrain only.
func TestDrainOfEverythingEndsTunnelsAndNothingElse(t *testing.T) {
	yaml := oneSite(socketTo(startEchoSocket(t).address), httpTo(startEcho(t).address))
	f := start(t, yaml)
	c, _ := f.openTunnel()
	if !f.server.Ready() {
		t.Error("not ready before the drain")
	}
	if n, err := f.server.Drain(proxy.DrainScope{}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	c.expectGoingAway(t)
	c.Write(ws.AppendClose(nil, 1001, "", &[4]byte{1, 2, 3, 4}))
	c.rest()
	await(t, "the end of the tunnel", func() bool { return f.server.TunnelCount() == 0 })
	f.apply(t, plainListener+yaml)
	f.expectUpgradeRefused(t, "example.com")
	page := f.dial()
	page.send(get)
	page.expect(200)
	if f.server.Ready() {
		t.Error("ready during a drain")
	}
	if err := f.server.EndDrain(proxy.DrainScope{Site: "example.com"}); err == nil {
		t.Error("a drain was taken back that there was not")
	}
	if err := f.server.EndDrain(proxy.DrainScope{}); err != nil {
		t.Error(err)
	}
	later, _ := f.openTunnel()
	later.expectEcho("open again")
	if got := strings.Count(f.log.String(), `"closed_by":"proxy","cause":"drain"`); got != 1 {
		t.Errorf("the log tells of %d tunnels that were drained, want 1", got)
	}
}

func TestDrainOfASiteLeavesOthersAlone(t *testing.T) {
	socket := socketTo(startEchoSocket(t).address)
	f := start(t, oneSite(socket)+"  - hosts: [other.example, www.other.example]\n    locations: ["+socket+"]\n")
	here, _ := f.openTunnel()
	there := f.dial()
	there.send(strings.Replace(upgrade, "example.com", "www.other.example", 1))
	there.expectSwitch()
	await(t, "both tunnels", func() bool { return len(f.server.Tunnels()) == 2 })
	if n, err := f.server.Drain(proxy.DrainScope{Site: "www.other.example"}); n != 1 || err != nil {
		t.Fatal(n, err)
	}
	there.expectGoingAway(t)
	here.expectEcho("still here")
	f.expectUpgradeRefused(t, "other.example")
	f.openTunnel()
	if got := f.server.Draining(); len(got) != 1 || got[0].String() != "site other.example" || !f.server.Ready() {
		t.Errorf("draining %v, ready %v", got, f.server.Ready())
	}
	for _, unknown := range []proxy.DrainScope{{Site: "third.example"}, {Upstream: "chat", Server: "127.0.0.1:1"}} {
		if _, err := f.server.Drain(unknown); err == nil {
			t.Errorf("%+v is no part of the configuration", unknown)
		}
	}
}

func TestDrainOfAServerSendsNobodyThere(t *testing.T) {
	one, two := startEchoSocket(t), startEchoSocket(t)
	f := start(t, "upstreams: {chat: {servers: ["+one.address+", "+two.address+"]}}\n"+oneSite(`{path: /ws, websocket: "ws://chat"}`))
	clients := map[string]*client{}
	for len(clients) < 2 {
		c, id := f.openTunnel()
		for _, status := range f.server.Tunnels() {
			if status.ID == id {
				clients[status.Backend] = c
			}
		}
	}
	scope := proxy.DrainScope{Upstream: "chat", Server: one.address}
	if _, err := f.server.Drain(scope); err != nil {
		t.Fatal(err)
	}
	clients[one.address].expectGoingAway(t)
	clients[two.address].expectEcho("not me")
	clients[one.address].Close()
	await(t, "the end of the first", func() bool { return f.server.TunnelCount() == 1 })
	for range 4 {
		c, _ := f.openTunnel()
		c.expectEcho("elsewhere")
	}
	await(t, "the end of those to the server", func() bool {
		for _, status := range f.server.Tunnels() {
			if status.Backend == one.address {
				return false
			}
		}
		return true
	})
	if _, err := f.server.Drain(proxy.DrainScope{Upstream: "chat", Server: two.address}); err != nil {
		t.Fatal(err)
	}
	c := f.dial()
	c.send(upgrade)
	if resp := c.head(); !strings.Contains(resp, " 503 ") || !strings.Contains(resp, "Retry-After:") {
		t.Errorf("with no server left: %q", resp)
	}
	if err := f.server.EndDrain(scope); err != nil {
		t.Fatal(err)
	}
	back, _ := f.openTunnel()
	back.expectEcho("back")
}

// TestDrainTellsTheClientFirst: the backend sees the client's own Close frame, as if it had left by itself.
func TestDrainTellsTheClientFirst(t *testing.T) {
	seen := make(chan string, 1)
	b := startSocket(t, func(conn net.Conn, br *bufio.Reader) {
		op, payload := frame(t, br)
		if op == ws.OpClose {
			seen <- payload
		}
	})
	f := start(t, "drain: {code: 1012}\n"+oneSite(socketTo(b.address)))
	c, _ := f.openTunnel()
	if _, err := f.server.Drain(proxy.DrainScope{}); err != nil {
		t.Fatal(err)
	}
	if op, payload := frame(t, c.br); op != ws.OpClose || code(payload) != 1012 {
		t.Errorf("the client saw opcode %d with %q, want a Close with 1012", op, payload)
	}
	f.server.Skip(4 * time.Second)
	if len(seen) > 0 {
		t.Errorf("the backend saw a Close with %q before the client's", <-seen)
	}
	c.Write(ws.AppendClose(nil, 4321, "my own", &[4]byte{1, 2, 3, 4}))
	if got := <-seen; code(got) != 4321 || got[2:] != "my own" {
		t.Errorf("the backend saw a Close with %q, want the client's", got)
	}
}

// TestDrainTellsTheBackendOfASilentClient after 5 seconds, by a masked frame with a FIN behind it; nobody sees a reset.
func TestDrainTellsTheBackendOfASilentClient(t *testing.T) {
	type end struct {
		op      ws.Opcode
		payload string
		err     error
	}
	seen := make(chan end, 1)
	b := startSocket(t, func(conn net.Conn, br *bufio.Reader) {
		var e end
		e.op, e.payload = frame(t, br)
		_, e.err = br.ReadByte()
		seen <- e
	})
	f := start(t, oneSite(socketTo(b.address)))
	c, _ := f.openTunnel()
	f.server.Drain(proxy.DrainScope{})
	c.expectGoingAway(t)
	f.server.Skip(4 * time.Second)
	if len(seen) > 0 {
		t.Error("the backend was told too early")
	}
	f.server.Skip(time.Second)
	if e := <-seen; e.op != ws.OpClose || code(e.payload) != ws.CloseGoingAway || e.err != io.EOF {
		t.Errorf("the backend saw %+v, want a Close with 1001 and the end of the stream", e)
	}
	if _, err := c.br.ReadByte(); err != io.EOF {
		t.Errorf("the client saw %v behind the Close, want the end of the stream", err)
	}
	await(t, "the end of the tunnel", func() bool { return f.server.TunnelCount() == 0 })
}

// TestDrainIsSpreadInRandomOrder over the time that the configuration says.
func TestDrainIsSpreadInRandomOrder(t *testing.T) {
	const tunnels = 20
	f := start(t, "drain: {spread: 20s}\n"+oneSite(socketTo(startEchoSocket(t).address)))
	var clients []*client
	for range tunnels {
		c, _ := f.openTunnel()
		clients = append(clients, c)
	}
	drain := f.watch()
	f.server.Drain(proxy.DrainScope{})
	closed := make([]bool, tunnels)
	var order []int
	for second := range 20 {
		drain.turnTo(time.Duration(second)*time.Second + 300*time.Millisecond)
		await(t, "the next Close frame", func() bool {
			for i, c := range clients {
				if !closed[i] && c.isAnswered(time.Millisecond) {
					c.expectGoingAway(t)
					closed[i], order = true, append(order, i)
				}
			}
			return len(order) > second
		})
		if len(order) != second+1 {
			t.Fatalf("%d tunnels are closed after %d s, want %d", len(order), second, second+1)
		}
	}
	inOrder := true
	for i, c := range order {
		inOrder = inOrder && i == c
	}
	if inOrder {
		t.Error("they were closed in the order in which they had been opened")
	}
}

func TestRemovedRoutesAreDrainedWhereThatIsWanted(t *testing.T) {
	one, two := startEchoSocket(t), startEchoSocket(t)
	locations := []string{socketTo(one.address), `{path: /kept, websocket: "ws://` + one.address + `"}`}
	f := start(t, oneSite(locations...))
	c, _ := f.openTunnel()
	kept := f.dial()
	kept.send(strings.Replace(upgrade, "/ws", "/kept/below", 1))
	kept.expectSwitch()
	f.apply(t, plainListener+oneSite(locations[1:]...))
	c.expectEcho("lives on by default")
	f.apply(t, plainListener+"on_route_removed: drain\n"+oneSite(locations...))
	c.expectEcho("its route is back")
	f.apply(t, plainListener+"on_route_removed: drain\n"+oneSite(`{path: /ws, websocket: "ws://`+two.address+`"}`, locations[1]))
	c.expectGoingAway(t)
	kept.expectEcho("its route never went")
}
