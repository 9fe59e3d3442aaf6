//go:build linux

package main_test

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// startTagging is a backend whose 101 says whose the tunnel is: the query has user and groups. It takes what comes.
func startTagging(t *testing.T) (address string) {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := http.Header{}
		for field, name := range map[string]string{"X-Wstunnel-User": "user", "X-Wstunnel-Groups": "groups", "X-Wstunnel-Push": "push"} {
			if v := r.URL.Query().Get(name); v != "" {
				header.Set(field, v)
			}
		}
		conn, err := (&websocket.Upgrader{}).Upgrade(w, r, header)
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			if _, _, err := conn.NextReader(); err != nil {
				return
			}
		}
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// control is HTTP on the control socket.
type control struct {
	t      *testing.T
	client http.Client
}

func controlOf(t *testing.T, yaml string) *control {
	path := socketOf(yaml)
	c := &control{t: t}
	c.client.Transport = &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}
	return c
}

// ask returns the body of an answer whose status is as expected.
func (c *control) ask(status int, method, target, kind, body string) string {
	c.t.Helper()
	r, err := http.NewRequest(method, "http://wstunnel"+target, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", kind)
	resp, err := c.client.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != status {
		c.t.Errorf("%s %s with %.60q: %d %.200s, want %d", method, target, body, resp.StatusCode, text, status)
	}
	return strings.TrimSpace(string(text))
}

// says reads a message.
func (s socket) says(t *testing.T, want string) {
	t.Helper()
	s.SetReadDeadline(time.Now().Add(patience))
	if _, got, err := s.ReadMessage(); err != nil || string(got) != want {
		t.Errorf("read %q, %v; want %q", got, err, want)
	}
}

type listed struct {
	Tunnels []struct {
		ID, User, Backend string
		Groups            []string
		Pushable          bool
	}
	Next string
}

func (c *control) list(query string) (l listed) {
	c.t.Helper()
	if err := json.Unmarshal([]byte(c.ask(200, "GET", "/v1/tunnels"+query, "", "")), &l); err != nil {
		c.t.Fatal(err)
	}
	return l
}

// awaitTunnels waits until so many are listed: a client has its 101 a moment before.
func (c *control) awaitTunnels(n int) listed {
	c.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if l := c.list(""); len(l.Tunnels) == n {
			return l
		}
		if time.Now().After(end) {
			c.t.Fatalf("there are no %d tunnels", n)
		}
	}
}

func TestMessagesAreSaidOverTheControlSocket(t *testing.T) {
	yaml := withSocket(t, settings(`{path: /ws, websocket: "ws://`+startTagging(t)+`"}`))
	f := startFront(t, yaml)
	anna := f.dialSocket(t, "wss", "/ws?user=anna&groups=lobby,staff")
	berta := f.dialSocket(t, "ws", "/ws?user=berta&groups=lobby")
	mute := f.dialSocket(t, "ws", "/ws?user=mute&push=off")
	defer mute.Close()
	c := controlOf(t, yaml)
	all := c.awaitTunnels(3)
	if len(all.Tunnels) != 3 || all.Next != "" || all.Tunnels[0].User != "anna" || len(all.Tunnels[0].Groups) != 2 || all.Tunnels[2].Pushable {
		t.Fatalf("%+v", all)
	}
	if page := c.list("?limit=2"); len(page.Tunnels) != 2 || len(c.list("?limit=2&after="+page.Next).Tunnels) != 1 {
		t.Errorf("%+v", page)
	}
	for query, n := range map[string]int{
		"?user=anna": 1, "?group=lobby": 2, "?group=lobby&user=berta": 1, "?client=127.0.0.1": 3, "?client=192.0.2.1": 0, "?user=nobody": 0,
	} {
		if got := len(c.list(query).Tunnels); got != n {
			t.Errorf("%s: %d tunnels, want %d", query, got, n)
		}
	}
	id, second := all.Tunnels[0].ID, all.Tunnels[1].ID
	const plain, inJSON, written = "text/plain", "application/json", `{"matched":1,"written":1,"queued":0,"dropped":0}`
	if got := c.ask(200, "POST", "/v1/tunnels/"+id+"/messages", plain, "plain"); got != written {
		t.Error(got)
	}
	anna.says(t, "plain")
	c.ask(200, "POST", "/v1/users/anna/messages", inJSON, `{"json":{"n": 1},"wait":"written","ttl_ms":5000}`)
	anna.says(t, `{"n": 1}`)
	c.ask(200, "POST", "/v1/groups/lobby/messages", "application/octet-stream", "\xff")
	anna.says(t, "\xff")
	berta.says(t, "\xff")
	if got := c.ask(200, "POST", "/v1/push", inJSON, `{"to":{"ids":["`+second+`"],"users":["anna","mute"],"groups":["lobby"]},"text":"all"}`); got !=
		`{"matched":3,"written":2,"queued":0,"dropped":1}` {
		t.Error(got)
	}
	anna.says(t, "all")
	berta.says(t, "all")
	c.ask(200, "PUT", "/v1/tunnels/"+second+"/groups/staff", "", "")
	c.ask(200, "DELETE", "/v1/tunnels/"+id+"/groups/staff", "", "")
	c.ask(200, "POST", "/v1/groups/staff/messages", plain, "berta alone")
	berta.says(t, "berta alone")
	c.ask(200, "GET", "/v1/tunnels/"+id, "", "")
	c.ask(200, "DELETE", "/v1/tunnels/"+id+"?code=4001&reason=out", "", "")
	anna.awaitClose(4001)
	f.awaitLog(t, 0, "tunnel closed", "close_code", float64(4001))
	c.awaitTunnels(2) // it is logged before it is forgotten
	c.ask(410, "GET", "/v1/tunnels/"+id, "", "")
	c.ask(410, "POST", "/v1/tunnels/"+id+"/messages", plain, "x")
	c.expectRefusals(second, all.Tunnels[2].ID)
}

// expectRefusals asks for what is refused, of a tunnel and of one that takes no messages.
func (c *control) expectRefusals(id, mute string) {
	const plain, inJSON = "text/plain", "application/json"
	for _, r := range []struct {
		status               int
		method, target, kind string
		body                 string
	}{
		{404, "GET", "/v1/tunnels/99999999-00000000", "", ""},
		{404, "GET", "/v1/tunnels/anna", "", ""},
		{404, "DELETE", "/v1/tunnels/" + id[:len(id)-8] + "0000000z", "", ""},
		{400, "GET", "/v1/tunnels?usr=anna", "", ""},
		{400, "GET", "/v1/tunnels?limit=0", "", ""},
		{404, "GET", "/v1/tunnels?site=nobody", "", ""},
		{404, "POST", "/v1/groups/lobby/messages?site=nobody", plain, "x"},
		{404, "POST", "/v1/push", inJSON, `{"to":{"users":["berta"],"site":"nobody"},"text":"x"}`},
		{404, "GET", "/v1/events?site=nobody", "", ""},
		{422, "POST", "/v1/drain", inJSON, `{"site":"nobody"}`},
		{400, "GET", "/v1/tunnels?client=localhost", "", ""},
		{405, "POST", "/v1/tunnels", "", ""},
		{409, "POST", "/v1/tunnels/" + mute + "/messages", plain, "x"},
		{413, "POST", "/v1/tunnels/" + id + "/messages", plain, strings.Repeat("x", 256<<10+1)},
		{413, "POST", "/v1/push", inJSON, strings.Repeat("x", 2<<20+1)},
		{422, "POST", "/v1/users/berta/messages", plain, "\xff"},
		{422, "POST", "/v1/users/berta/messages", inJSON, "{\"text\":\"\xff\"}"},
		{422, "PUT", "/v1/tunnels/" + id + "/groups/a%20b", "", ""},
		{422, "DELETE", "/v1/tunnels/" + id + "?code=1006", "", ""},
		{422, "DELETE", "/v1/tunnels/" + id + "?code=abc", "", ""},
		{422, "DELETE", "/v1/tunnels/" + id + "?reason=" + strings.Repeat("x", 124), "", ""},
		{400, "POST", "/v1/push", inJSON, `{"text":"x"}`},
		{400, "POST", "/v1/push", inJSON, `{"to":{},"text":"x"}`},
		{400, "POST", "/v1/push", inJSON, `{"to":{"users":["berta"],"site":""},"text":"x"}`},
		{400, "POST", "/v1/push", inJSON, `{"to":{"users":["berta"]}}`},
		{400, "POST", "/v1/push", inJSON, `{"to":{"users":["berta"]},"text":"x","binary":"eA=="}`},
		{400, "POST", "/v1/push", inJSON, `{"to":{"users":["berta"]},"text":"x"} more`},
		{400, "POST", "/v1/push", inJSON, `{"to":{"user":"berta"},"text":"x"}`},
		{400, "POST", "/v1/push", inJSON, `{"to":{"users":["berta"]},"text":"x","ttl_ms":60001}`},
		{400, "POST", "/v1/push", inJSON, `{"to":{"users":["berta"]},"text":"x","wait":"read"}`},
		{400, "POST", "/v1/users/berta/messages", inJSON, `{"to":{"users":["berta"]},"text":"x"}`},
	} {
		if got := c.ask(r.status, r.method, r.target, r.kind, r.body); !strings.HasPrefix(got, `{"errors":["`) {
			c.t.Errorf("%s %s: answered with %.100q", r.method, r.target, got)
		}
	}
}

func TestTunnelsSendAndKickCommands(t *testing.T) {
	yaml := withSocket(t, settings(`{path: /ws, websocket: "ws://`+startTagging(t)+`"}`))
	f := startFront(t, yaml)
	anna := f.dialSocket(t, "wss", "/ws?user=anna&groups=lobby")
	controlOf(t, yaml).awaitTunnels(1)
	f.expectOrder(t, 0, []string{"ID", "USER", "anna", "lobby", "/ws"}, "tunnels")
	printed, _ := f.order(t, "tunnels", "--user", "anna", "--json")
	var one struct{ ID string }
	if err := json.Unmarshal([]byte(printed), &one); err != nil || one.ID == "" {
		t.Fatalf("%v: %q", err, printed)
	}
	f.expectOrder(t, 0, []string{"tunnels: 1 (written: 1, queued: 0, dropped: 0)"}, "send", one.ID, "to you")
	anna.says(t, "to you")
	f.expectOrder(t, 0, []string{"tunnels: 1 (written: 1"}, "send", "--group", "lobby", "--user", "anna", "once")
	anna.says(t, "once")
	f.expectOrder(t, 0, []string{"tunnels: 0"}, "send", "--user", "nobody", "x")
	f.expectOrder(t, 0, []string{"tunnels: 1 (written: 1"}, "send", "--site", "_", "--user", "anna", "here")
	anna.says(t, "here")
	f.expectOrder(t, 1, []string{`there is no site "elsewhere"`}, "send", "--site", "elsewhere", "--user", "anna", "x")
	f.expectOrder(t, 1, []string{`there is no site "elsewhere"`}, "tunnels", "--site", "elsewhere")
	f.expectOrder(t, 1, []string{"no such tunnel"}, "send", "9999999-00000000", "x")
	f.expectOrder(t, 2, []string{"not UTF-8"}, "send", one.ID, "\xff")
	f.expectOrder(t, 2, []string{"send takes"}, "send", "x")
	f.expectOrder(t, 2, []string{"--site goes with"}, "send", "--site", "example.com", one.ID, "x")
	f.expectOrder(t, 2, []string{"--client"}, "tunnels", "--client", "here")
	f.expectOrder(t, 1, []string{"close code 1006"}, "kick", one.ID, "--code", "1006")
	f.expectOrder(t, 0, []string{one.ID + " is being closed with 4001"}, "kick", one.ID, "--code", "4001", "--reason", "out")
	anna.awaitClose(4001)
}
