//go:build linux

package main_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// TestUpgradeThatFailsChangesNothing, and is told with its reason.
func TestUpgradeThatFailsChangesNothing(t *testing.T) {
	php := startSocketPHP(t, "")
	u := startUpgradable(t, settings(`{path: /ws, websocket: "ws://`+php.address+`"}`, `{path: /, respond: {status: 200, body: here}}`))
	real := u.binary + ".real"
	u.install(t)
	if err := os.Rename(u.binary, real); err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile(u.config)
	if err != nil {
		t.Fatal(err)
	}
	fixed := strings.Replace(string(good), "127.0.0.1:0", u.http, 1) // whose port the other binary finds in use
	live := u.dialSocket(t, "ws", "/ws")
	hello := func(version int) string {
		body := fmt.Sprintf("wstunnel hand-over%c", version)
		return fmt.Sprintf("#!/usr/bin/env python3\nimport socket,time\ns=socket.socket(fileno=3)\ns.sendall(bytes([1,0,0,0,0,0,0,0,0,0,0,%d])+%q.encode('latin1'))\ns.recv(9999)\ntime.sleep(99)\n", len(body), body)
	}
	for _, tt := range []struct {
		name, script, config string
		says                 []string
	}{
		{"no binary", "", "", []string{"starting", "no such file"}},
		{"no program", "garbage\x00", "", []string{"starting", "exec format error"}},
		{"it ends at once", "#!/bin/sh\nexit 3\n", "", []string{"exit status 3 before it served"}},
		{"it dies", "#!/bin/sh\nkill -9 $$\n", "", []string{"signal: killed before it served"}},
		{"it knows no hand-over", "#!/bin/sh\nunset WSTUNNEL_HANDOVER\nexec " + real + " \"$@\"\n", fixed, []string{"exit status 1 before it served"}},
		{"another format", hello(9), "", []string{"hands over in format 9, this one (2) does not know it"}},
		{"nonsense", "#!/bin/sh\necho 'GET / HTTP/1.1' >&3\nsleep 99\n", "", []string{"does not take over"}},
		{
			"mistakes in the configuration", "#!/bin/sh\nexec " + real + " \"$@\"\n", string(good) + "drain: {code: 7}\ntimeouts: {nonsense: 1s}\n",
			[]string{u.config + ":", `bad close code "7"`, "nonsense"},
		},
		{
			"a listener that can't be opened", "#!/bin/sh\nexec " + real + " \"$@\"\n", strings.Replace(string(good), "127.0.0.1:0", "192.0.2.1:80", 1),
			[]string{"listening on 192.0.2.1:80"},
		},
	} {
		if tt.script == "" {
			os.Remove(u.binary)
		} else {
			u.installScript(t, tt.script)
		}
		if tt.config != "" {
			u.write(t, tt.config)
		}
		t.Run(tt.name, func(t *testing.T) {
			printed, code := u.order(t, "upgrade")
			if code == 0 {
				t.Errorf("exit code 0")
			}
			for _, text := range tt.says {
				if !strings.Contains(printed, text) {
					t.Errorf("printed %q, which lacks %q", printed, text)
				}
			}
			live.echo("behind " + tt.name)
			u.get(t, "/")
			u.dialSocket(t, "wss", "/ws").echo("new")
			if pid := u.status(t).PID; pid != u.pids[0] {
				t.Errorf("process %d serves", pid)
			}
		})
		u.write(t, string(good))
	}
	u.upgrade(t)
	live.echo("after an upgrade that went well")
	u.stopLast(t)
}

func TestSecondUpgradeIsRefusedWhileOneRuns(t *testing.T) {
	u := startUpgradable(t, settings(`{path: /, respond: {status: 200, body: here}}`))
	started := filepath.Join(t.TempDir(), "started")
	u.installScript(t, "#!/bin/sh\necho $$ > "+started+".new\nmv "+started+".new "+started+"\nexec sleep 99\n")
	first := make(chan string, 1)
	cmd := wstunnel(t, "upgrade", "--config", u.config)
	go func() {
		printed, _ := cmd.CombinedOutput()
		first <- string(printed)
	}()
	var pid int
	eventually(t, "the first is under way", func() bool {
		text, _ := os.ReadFile(started)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
		return pid > 0
	})
	u.expectOrder(t, 2, []string{"an upgrade is under way already"}, "upgrade")
	u.expectOrder(t, 1, []string{"an upgrade is under way: give this order again"}, "drain")
	syscall.Kill(pid, syscall.SIGKILL)
	if printed := <-first; !strings.Contains(printed, "signal: killed before it served") {
		t.Errorf("the first says %q", printed)
	}
	u.get(t, "/")
	u.stopLast(t)
}

// TestProcessThatIsKilledDuringAnUpgrade, the old or the new one, when so many tunnels were given: what is left serves on, with all tunnels that it had or was given, and
// none has a message changed. The others end with the process that had them.
func TestProcessThatIsKilledDuringAnUpgrade(t *testing.T) {
	address, conns := socketBackend(t)
	for _, victim := range []string{"new", "old"} {
		for _, given := range []int{1, 5} {
			t.Run(fmt.Sprintf("%s behind %d", victim, given), func(t *testing.T) { killDuringUpgrade(t, victim, given, address, conns) })
		}
	}
}

func killDuringUpgrade(t *testing.T, victim string, given int, address string, conns <-chan *websocket.Conn) {
	u := startUpgradable(t, "listen: [{address: '127.0.0.1:0'}]\nsites: [{hosts: [_], locations: [{path: /ws, websocket: 'ws://"+address+"'}]}]\n")
	const tunnels = 8
	stop, results := make(chan struct{}), make(chan error, tunnels)
	var messages atomic.Int64
	var clients, backends []*websocket.Conn
	for range tunnels {
		clients, backends = append(clients, u.dialSocket(t, "ws", "/ws").Conn), append(backends, <-conns)
	}
	for i := range tunnels {
		go func() { sendNumbered(clients[i], uint64(i), stop) }()
		go func() { results <- readNumbered(backends[i], &messages) }()
	}
	real := u.binary + ".real"
	u.install(t)
	if err := os.Rename(u.binary, real); err != nil {
		t.Fatal(err)
	}
	between := python(t, "successor.py")
	u.installScript(t, fmt.Sprintf("#!/bin/sh\nexec %s %s %d %s \"$@\"\n", strings.Join(between.Args, " "), victim, given, real))
	start(t, wstunnel(t, "upgrade", "--config", u.config))
	behind, _ := strconv.Atoi(u.awaitLine(t, 0, `^killed the `+victim+` process behind (\d+)`))
	want := behind
	if victim == "new" {
		want = tunnels - behind
		eventually(t, "the old one knows", func() bool { return strings.Contains(u.out.String(), "upgrade failed; this process goes on") })
	}
	eventually(t, "there is one that serves", func() bool {
		resp, err := http.Get("http://" + u.http + "/")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusNotFound
	})
	s := u.status(t)
	if isOld := s.PID == u.pids[0]; isOld != (victim == "new") {
		t.Errorf("process %d serves", s.PID)
	}
	u.pids = append(u.pids, s.PID)
	before := messages.Load()
	eventually(t, "messages go on", func() bool { return want == 0 || messages.Load() > before+100 })
	close(stop)
	whole := 0
	for range tunnels {
		select {
		case err := <-results:
			if err == nil {
				whole++
			} else if strings.Contains(err.Error(), "instead of") || strings.Contains(err.Error(), "not what was sent") {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("a tunnel stands still")
		}
	}
	if whole != want {
		t.Errorf("%d of %d tunnels live on, want %d", whole, tunnels, want)
	}
	u.stopLast(t)
}
