//go:build linux

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// order runs a command that speaks to the running server, and returns what it printed and its exit code.
func (f *front) order(t *testing.T, args ...string) (printed string, code int) {
	t.Helper()
	out, err := wstunnel(t, append(args, "--config", f.config)...).CombinedOutput()
	if exit, ok := err.(*exec.ExitError); ok {
		return string(out), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out), 0
}

// expectOrder requires what an order prints and returns.
func (f *front) expectOrder(t *testing.T, wantCode int, want []string, args ...string) {
	t.Helper()
	printed, code := f.order(t, args...)
	if code != wantCode {
		t.Errorf("%v: exit code %d, want %d\n%s", args, code, wantCode, printed)
	}
	for _, text := range want {
		if !strings.Contains(printed, text) {
			t.Errorf("%v printed %q, which lacks %q", args, printed, text)
		}
	}
}

// withSocket is a configuration with a control socket of its own.
func withSocket(t *testing.T, yaml string) string {
	dir, err := os.MkdirTemp("", "wst")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return "admin: {socket: " + filepath.Join(dir, "control.sock") + "}\n" + yaml
}

// awaitControl waits until the control socket is there, if a configuration by [withSocket] has one: it is opened behind the listeners.
func awaitControl(t *testing.T, yaml string) {
	t.Helper()
	if strings.HasPrefix(yaml, "admin: {socket: /") {
		eventually(t, "the control socket", func() bool {
			_, err := os.Stat(socketOf(yaml))
			return err == nil
		})
	}
}

func TestReloadCommandWaitsForTheVerdict(t *testing.T) {
	good := withSocket(t, settings(`{path: /ws, websocket: "ws://`+startSocketPHP(t, "").address+`"}`))
	f := startFront(t, good)
	live := f.dialSocket(t, "wss", "/ws")
	f.write(t, strings.Replace(good, "websocket:", "websockt:", 1)+"drain: {code: 7}\n")
	f.expectOrder(t, 2, []string{f.config + ":13:", "websockt", `bad close code "7"`}, "reload")
	f.expectOrder(t, 0, []string{"tunnels: 1", "the last reload failed:", "websockt", "ready"}, "status")
	live.echo("as before")
	f.write(t, good)
	f.expectOrder(t, 0, []string{"reloaded " + f.config + " (sites: 1, tunnels that live on: 1)"}, "reload")
	if printed, _ := f.order(t, "status"); strings.Contains(printed, "failed") {
		t.Errorf("status still says %q", printed)
	}
	live.echo("still as before")
	f.write(t, "[\n")
	f.expectOrder(t, 1, []string{"no server listens on"}, "reload", "--socket", filepath.Join(t.TempDir(), "none"))
}

func TestDrainCommand(t *testing.T) {
	f := startFront(t, withSocket(t, settings(`{path: /ws, websocket: "ws://`+startSocketPHP(t, "").address+`"}`)))
	f.dialSocket(t, "ws", "/ws").echo("before")
	f.expectOrder(t, 1, []string{`no site has the host "nowhere.example"`}, "drain", "--site", "nowhere.example")
	f.expectOrder(t, 2, []string{"--upstream and --server go together"}, "drain", "--upstream", "chat")
	f.expectOrder(t, 2, []string{"either --site, or --upstream and --server"}, "drain", "--site", "example.com", "--upstream", "chat", "--server", "127.0.0.1:1")
	f.expectOrder(t, 0, []string{"tunnels that are being closed: 1"}, "drain")
	f.expectOrder(t, 0, []string{"not ready", "being drained: everything"}, "status")
	f.awaitLog(t, 0, "tunnel closed", "cause", "drain")
	f.expectOrder(t, 0, []string{"taken back"}, "drain", "--end")
	f.dialSocket(t, "ws", "/ws").echo("after")
}

// TestControlSocketIsForItsServer: a second server does not take it, and it is gone after the stop.
func TestControlSocketIsForItsServer(t *testing.T) {
	yaml := withSocket(t, settings(`{path: /, respond: 200}`))
	f := startFront(t, yaml)
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, wstunnel(t, "run", file))
	if code := p.wait(t); code != 1 || !strings.Contains(p.out.String(), "another server listens on") {
		t.Errorf("exit code %d, %s", code, p.out)
	}
	f.expectOrder(t, 0, []string{"ready"}, "status")
	f.stop(t)
	f.expectOrder(t, 1, []string{"no server listens on"}, "status")
}

// TestControlSocketIsForRootAndItsOwnUser though its mode lets others connect.
func TestControlSocketIsForRootAndItsOwnUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to become somebody else")
	}
	yaml := withSocket(t, settings(`{path: /, respond: 200}`))
	f := startFront(t, yaml)
	socket := strings.TrimSuffix(strings.TrimPrefix(strings.SplitN(yaml, "\n", 2)[0], "admin: {socket: "), "}")
	for _, name := range []string{socket, filepath.Dir(socket)} {
		if err := os.Chmod(name, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("/usr/bin/python3", "-c", `
import socket, sys
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.sendall(b"POST /v1/reload HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
print(s.makefile().read())`, socket)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "403 Forbidden") || !strings.Contains(string(out), "user 65534 may not; root may") {
		t.Errorf("got %s, %v", out, err)
	}
	f.expectOrder(t, 0, []string{"ready"}, "status")
}

// TestSecondSIGTERMHurries: a drain that would take long ends at once, with Close frames.
func TestSecondSIGTERMHurries(t *testing.T) {
	yaml := "drain: {spread: 100s}\n" + settings(`{path: /ws, websocket: "ws://`+startSocketPHP(t, "").address+`"}`)
	f := startFront(t, strings.Replace(yaml, "shutdown_timeout: 5s", "shutdown_timeout: 200s", 1))
	var sockets []socket
	for range 4 {
		s := f.dialSocket(t, "ws", "/ws")
		go s.ReadMessage() // answers its Close frame
		sockets = append(sockets, s)
	}
	f.signal(t, syscall.SIGTERM)
	f.awaitLog(t, 0, "tunnel closed", "cause", "drain")
	f.signal(t, syscall.SIGTERM)
	f.awaitLog(t, 0, "hurrying")
	if code := f.wait(t); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if n := len(f.awaitLogs(t, 0, 4, "tunnel closed", "cause", "drain")); n != len(sockets) {
		t.Errorf("%d tunnels were drained, want %d", n, len(sockets))
	}
}
