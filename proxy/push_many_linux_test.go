//go:build linux

package proxy_test

import (
	"bufio"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"wstunnel/proxy"
)

// watchLongest keeps for how long a loop was held at most.
func (f *front) watchLongest() *atomic.Int64 {
	var longest atomic.Int64
	f.server.WatchLoops(func(held time.Duration) {
		for was := longest.Load(); int64(held) > was && !longest.CompareAndSwap(was, int64(held)); was = longest.Load() {
		}
	})
	return &longest
}

// listAll lists as the control socket does, a page at a time.
func (f *front) listAll() (n int) {
	for filter := (proxy.TunnelFilter{Limit: 1000}); ; {
		page, more := f.server.List(filter)
		n += len(page)
		if !more {
			return n
		}
		filter.After = page[len(page)-1].ID
	}
}

// TestManyTunnelsHoldNoLoop: a message to all of a group, and a list, take milliseconds per thousand tunnels, of which no loop is held for long.
func TestManyTunnelsHoldNoLoop(t *testing.T) {
	const rounds = 5
	b := startSilent(t)
	b.sayOf(func(n int64) string { return fmt.Sprintf("X-Wstunnel-User: user-%d\r\nX-Wstunnel-Groups: all\r\n", n) })
	f := start(t, oneSite(socketTo(b.address)))
	many := asManyAs(t, 2000, 4)
	conns := f.openSilently(t, many)
	longest := f.watchLongest()
	for what, do := range map[string]func(){
		"push": func() {
			got, err := f.server.Push(t.Context(), proxy.Audience{Groups: []string{"all"}}, textTo("to all of you"), true)
			if got.Matched < many || got.Written < many || err != nil {
				t.Errorf("%+v, %v", got, err)
			}
		},
		"list": func() { // while others open tunnels and end them
			done := make(chan bool)
			go func() {
				defer close(done)
				for range 50 {
					c := f.dial()
					c.send(upgrade)
					c.head()
					c.Close()
				}
			}()
			if n := f.listAll(); n < many {
				t.Errorf("%d are listed", n)
			}
			<-done
		},
	} {
		var took, held []time.Duration
		for range rounds {
			longest.Store(0)
			began := time.Now()
			do()
			took, held = append(took, time.Since(began)), append(held, time.Duration(longest.Load()))
		}
		each := slices.Min(took) * 1000 / time.Duration(many)
		t.Logf("%s: a thousand in %v, a loop is held for %v at most", what, each, slices.Min(held))
		if most := slowed(40 * time.Millisecond); each > most {
			t.Errorf("%s: a thousand take %v, more than %v", what, each, most)
		}
		if most := slowed(2 * time.Millisecond); slices.Min(held) > most {
			t.Errorf("%s: a loop was held for %v, more than %v", what, held, most)
		}
	}
	for _, conn := range conns {
		br := bufio.NewReaderSize(conn, 128)
		for range rounds {
			if _, payload := frame(t, br); payload != "to all of you" {
				t.Fatal(payload)
			}
		}
		conn.Close()
	}
}
