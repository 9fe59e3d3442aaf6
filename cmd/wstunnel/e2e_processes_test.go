//go:build linux

package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestTunnelsOfOlderProcessesAreReached: of four, one stays in the first process and one in the second, since they have TLS.
func TestTunnelsOfOlderProcessesAreReached(t *testing.T) {
	u := startUpgradable(t, settings(`{path: /ws, websocket: "ws://`+startTagging(t)+`"}`))
	yaml := u.yaml(t)
	open := func(scheme, user string) socket { return u.dialSocket(t, scheme, "/ws?groups=lobby&user="+user) }
	anna, berta := open("wss", "anna"), open("ws", "berta")
	controlOf(t, yaml).awaitTunnels(2)
	u.upgrade(t)
	clara := open("wss", "clara")
	controlOf(t, yaml).awaitTunnels(3)
	u.upgrade(t)
	dora := open("wss", "dora")
	c := controlOf(t, yaml)
	all := c.awaitTunnels(4).Tunnels
	for i, user := range []string{"anna", "berta", "clara", "dora"} {
		if all[i].User != user {
			t.Errorf("tunnel %d is %s's, want %s's", i, all[i].User, user)
		}
	}
	first := c.list("?limit=3")
	if rest := c.list("?limit=3&after=" + first.Next); len(first.Tunnels) != 3 || len(rest.Tunnels) != 1 || rest.Tunnels[0].User != "dora" || rest.Next != "" {
		t.Errorf("%+v is followed by %+v", first, rest)
	}
	if n := len(c.list("?user=clara").Tunnels); n != 1 {
		t.Errorf("clara has %d tunnels", n)
	}
	watching := dialLines(t, yaml)
	watching.says("WATCH", "OK 4")
	l := dialLines(t, yaml)
	l.says("COUNT", "OK 4")
	l.says("SEND USER anna to you", "OK 1")
	anna.says(t, "to you")
	l.says("SEND GROUP lobby to all", "OK 4")
	if got := c.ask(200, "POST", "/v1/push", "application/json", `{"to":{"groups":["lobby"]},"text":"and again","wait":"written"}`); got !=
		`{"matched":4,"written":4,"queued":0,"dropped":0}` {
		t.Error(got)
	}
	for _, s := range []socket{anna, berta, clara, dora} {
		s.says(t, "to all")
		s.says(t, "and again")
	}
	l.says("JOIN "+all[0].ID+" staff", "OK 1")
	l.says("SEND GROUP staff to one", "OK 1")
	anna.says(t, "to one")
	l.says("LEAVE "+all[0].ID+" staff", "OK 1")
	l.says("SEND GROUP staff to none", "OK 0")
	l.says("SEND MESSAGE "+all[0].ID+" you", "OK 1")
	anna.says(t, "you")
	if o := decode[struct {
		Tunnels int
		Sites   []struct{ Tunnels int }
	}](t, c.ask(200, "GET", "/v1/overview", "", "")); o.Tunnels != 4 || len(o.Sites) != 1 || o.Sites[0].Tunnels != 4 {
		t.Errorf("the overview has %+v", o)
	}
	l.says("KICK "+all[0].ID+" 4001 out", "OK 1")
	anna.awaitClose(4001)
	watching.awaitClosed("anna")
	eventually(t, "the first process ends", func() bool { return !isAlive(u.pids[0]) })
	l.says("SEND MESSAGE "+all[0].ID+" x", "ERR 410 ")
	l.says("SEND MESSAGE 99999999-00000000 x", "ERR 404 no such tunnel")
	syscall.Kill(u.pids[1], syscall.SIGKILL)
	c.awaitTunnels(2)
	l.says("COUNT", "OK 2")
	l.says("SEND GROUP lobby who is left", "OK 2")
	berta.says(t, "who is left")
	dora.says(t, "who is left")
	berta.Close()
	dora.Close()
	u.stopLast(t)
}

// awaitClosed waits for the event that a user's tunnel has ended.
func (l *lines) awaitClosed(user string) {
	l.t.Helper()
	for {
		line, err := l.readLine()
		if err != nil {
			l.t.Errorf("no event of the end of %s's tunnel: %v", user, err)
			return
		}
		var e struct {
			Event  string
			Tunnel struct{ User string }
		}
		if json.Unmarshal([]byte(line), &e) == nil && e.Event == "closed" && e.Tunnel.User == user {
			return
		}
	}
}

// TestUserOfASiteReachesItsTunnelsInOlderProcessesOnly: relayed tunnels stay where they are.
func TestUserOfASiteReachesItsTunnelsInOlderProcessesOnly(t *testing.T) {
	_, sites, _ := strings.Cut(twoSites(t, "", "admin: {allow: [33]}"), "\n")
	u := startUpgradable(t, strings.ReplaceAll(sites, "path: /,", "path: /, mode: relay,"))
	yaml := u.yaml(t)
	if err := os.Chmod(filepath.Dir(socketOf(yaml)), 0o755); err != nil {
		t.Fatal(err)
	}
	a := u.openAt(t, "a.example", "/?user=anna&groups=lobby")
	b := u.openAt(t, "b.example", "/?user=anna&groups=lobby")
	c := controlOf(t, yaml)
	all := c.awaitTunnels(2).Tunnels
	u.upgrade(t)
	c.awaitTunnels(2)
	otherSays(t, yaml,
		"COUNT", "OK 1",
		"SEND GROUP lobby for a alone", "OK 1",
		"SEND MESSAGE "+all[1].ID+" x", "ERR 404 no such tunnel",
		"KICK "+all[1].ID, "ERR 404 no such tunnel",
		"WATCH b.example", "ERR 404 there is no site",
	)
	a.says(t, "for a alone")
	if _, text := otherAsks(t, yaml, "GET", "/v1/tunnels"); len(decode[listed](t, text).Tunnels) != 1 {
		t.Errorf("listed are %s", text)
	}
	if got := c.ask(200, "POST", "/v1/users/anna/messages?site=b.example", "application/json", `{"text":"for b","wait":"written"}`); got != `{"matched":1,"written":1,"queued":0,"dropped":0}` {
		t.Error(got)
	}
	b.says(t, "for b")
	a.Close()
	b.Close()
	u.stopLast(t)
}
