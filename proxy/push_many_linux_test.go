//go:build linux

package proxy_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wstunnel/proxy"
)

// TestPushToManyHoldsNoLoop: a message to a group of 1,500 tunnels goes out in milliseconds, of which no loop is held for long.
func TestPushToManyHoldsNoLoop(t *testing.T) {
	const many = 1500
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		rawHead(br)
		io.WriteString(conn, strings.TrimSuffix(switching, "\r\n")+"X-Wstunnel-Groups: all\r\n\r\n")
		io.Copy(io.Discard, br)
	})
	f := start(t, oneSite(socketTo(b.address)))
	clients := make([]*client, many)
	for i := range clients {
		clients[i] = f.dial()
		clients[i].send(upgrade)
		clients[i].expectSwitch()
	}
	await(t, "all of them", func() bool { return len(f.server.Tunnels()) == many })
	var longest atomic.Int64
	f.server.WatchLoops(func(held time.Duration) {
		for was := longest.Load(); int64(held) > was && !longest.CompareAndSwap(was, int64(held)); was = longest.Load() {
		}
	})
	began := time.Now()
	got, err := f.server.Push(t.Context(), proxy.Audience{Groups: []string{"all"}}, textTo("to all of you"), true)
	t.Logf("%d tunnels in %v, a loop was held for %v at most", many, time.Since(began), time.Duration(longest.Load()))
	if want := (proxy.Pushed{Matched: many, Written: many}); got != want || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if held := time.Duration(longest.Load()); held > 20*time.Millisecond {
		t.Errorf("a loop was held for %v", held)
	}
	for _, c := range clients {
		if _, payload := frame(t, c.br); payload != "to all of you" {
			t.Fatal(payload)
		}
	}
	began = time.Now()
	if page, _ := f.server.List(proxy.TunnelFilter{}); len(page) != many {
		t.Errorf("%d are listed", len(page))
	}
	t.Logf("listed in %v", time.Since(began))
}
