//go:build linux

package main_test

import (
	"strings"
	"syscall"
	"testing"
	"time"
)

// chat is a configuration with two servers of WebSockets that are checked as clients open them.
func chat(first, second backend, more string) string {
	return "metrics: 127.0.0.1:0\n" + settings(`{path: /ws, websocket: "ws://chat"}`) +
		"upstreams:\n  chat:\n    servers: ['" + first.address + "', '" + second.address + "']\n    balance: round_robin\n" +
		"    health: {kind: websocket, path: /ws, interval: 100ms, timeout: 1s, rise: 1, fall: 2}\n" + more
}

// awaitValue waits until a server has a metric's value, or more.
func awaitValue(t *testing.T, metrics, name string, server backend, want float64) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		got := value(families(t, metrics), name, "upstream", "chat", "server", server.address)
		if got >= want {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s of %s is %v, want %v", name, server.address, got, want)
		}
	}
}

// TestProcessThatHangsIsFoundOut: it is stopped, and its kernel still takes connections. What was open to it lives on when it goes on.
func TestProcessThatHangsIsFoundOut(t *testing.T) {
	hung, well := startSocketPython(t), startSocketPython(t)
	f := startFront(t, chat(hung, well, ""))
	metrics := f.awaitLog(t, 0, "metrics are served").text("address")
	awaitValue(t, metrics, "wstunnel_backend_checks_total", hung, 1)
	awaitValue(t, metrics, "wstunnel_backend_checks_total", well, 1)
	both := []socket{f.dialSocket(t, "ws", "/ws"), f.dialSocket(t, "wss", "/ws")}
	f.awaitLog(t, 0, "tunnel opened", "backend", hung.address)
	f.awaitLog(t, 0, "tunnel opened", "backend", well.address)

	since := f.out.len()
	hung.signal(t, syscall.SIGSTOP)
	if e := f.awaitLog(t, since, "server is down", "server", hung.address); !strings.HasSuffix(e.text("reason"), "2 checks in a row failed, the last one: no answer within 1s") {
		t.Errorf("the log says %v", e)
	}
	for range 4 {
		f.dialSocket(t, "ws", "/ws").echo("somebody is there")
	}
	f.awaitLogs(t, since, 4, "tunnel opened", "backend", well.address)
	all := families(t, metrics)
	if up, down := value(all, "wstunnel_backend_up", "server", well.address), value(all, "wstunnel_backend_up", "server", hung.address); up != 1 || down != 0 {
		t.Errorf("%v and %v are up, want 1 and 0", up, down)
	}

	hung.signal(t, syscall.SIGCONT)
	f.awaitLog(t, since, "server is up", "server", hung.address, "reason", "a check succeeded")
	for _, s := range both {
		s.echo("still here")
	}
}

// TestTunnelsOfAServerThatGoesDownAreClosed where the configuration says so.
func TestTunnelsOfAServerThatGoesDownAreClosed(t *testing.T) {
	hung, well := startSocketPython(t), startSocketPython(t)
	f := startFront(t, chat(hung, well, "    on_down: close\n"))
	metrics := f.awaitLog(t, 0, "metrics are served").text("address")
	awaitValue(t, metrics, "wstunnel_backend_checks_total", hung, 1)
	awaitValue(t, metrics, "wstunnel_backend_checks_total", well, 1)
	one := f.dialSocket(t, "wss", "/ws")
	first := f.awaitLog(t, 0, "tunnel opened").text("backend")
	other := f.dialSocket(t, "wss", "/ws")
	f.awaitLogs(t, 0, 2, "tunnel opened")
	if first != hung.address {
		one, other = other, one
	}
	hung.signal(t, syscall.SIGSTOP)
	one.awaitClose(1012)
	one.Close()
	f.awaitLog(t, 0, "tunnel closed", "close_code", "1012")
	other.echo("not me")
	hung.signal(t, syscall.SIGCONT)
}
