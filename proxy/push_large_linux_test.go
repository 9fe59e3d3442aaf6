package proxy_test

import (
	"io"
	"strings"
	"testing"
	"time"

	"wstunnel/proxy"
)

// TestLargeMessageToManyHoldsNoLoop: how many tunnels get one before others have their turn depends on how long it is.
func TestLargeMessageToManyHoldsNoLoop(t *testing.T) {
	const many, rounds = 200, 5
	b := startSilent(t)
	b.sayOf(func(int64) string { return "X-Wstunnel-Groups: all\r\n" })
	f := startTLS(t, secureSite(socketTo(b.address)))
	clients := make([]*client, many)
	for i := range clients {
		if clients[i] = f.dial(); i%4 == 0 {
			clients[i] = f.dialSecure()
		}
		clients[i].send(upgrade)
		clients[i].expectSwitch()
		clients[i].SetDeadline(time.Time{}) // nothing comes until all are there
		go io.Copy(io.Discard, clients[i].br)
	}
	await(t, "all of them", func() bool { return len(f.server.Tunnels()) == many })
	longest := f.watchLongest()
	message := textTo(strings.Repeat("x", proxy.MaxPush))
	best := time.Hour
	for range rounds {
		longest.Store(0)
		got, err := f.server.Push(t.Context(), proxy.Audience{Groups: []string{"all"}}, message, true)
		if want := (proxy.Pushed{Matched: many, Written: many}); got != want || err != nil {
			t.Fatalf("%+v, %v", got, err)
		}
		best = min(best, time.Duration(longest.Load()))
	}
	t.Logf("a loop is held for %v at most", best)
	if most := slowed(5 * time.Millisecond); best > most {
		t.Errorf("a loop was held for %v, more than %v", best, most)
	}
}
