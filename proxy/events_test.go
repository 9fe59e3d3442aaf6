package proxy_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wstunnel/internal/tunnel"
	"wstunnel/proxy"
)

// awaitEvent takes events until there is one of a kind.
func awaitEvent(t *testing.T, s *proxy.Subscription, kind proxy.EventKind) *proxy.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		missed, some, err := s.Next(ctx)
		if err != nil || missed > 0 {
			t.Fatalf("no event %q: %d missed, %v", kind, missed, err)
		}
		for i, e := range some {
			if e.Kind == kind {
				if i+1 < len(some) {
					t.Fatalf("%q is followed by %q at once", kind, some[i+1].Kind)
				}
				return e
			}
		}
	}
}

func TestLifeOfATunnelIsToldAsItHappens(t *testing.T) {
	for _, mode := range []string{"tunnel", "relay"} {
		b := startTagging(t, byQuery)
		f := start(t, oneSite(`{path: /ws, mode: `+mode+`, websocket: "ws://`+b.address+`"}`))
		all, none := f.server.Subscribe(nil), f.server.Subscribe([]string{"elsewhere.example.com"})
		anna, _ := f.tagged("/ws?anna+lobby")
		opened := awaitEvent(t, all, proxy.EventOpened)
		is := f.server.Tunnels()[0]
		if opened.Tunnel == nil || opened.Tunnel.Key != is.Key || opened.Tunnel.User != "anna" || opened.Tunnel.Mode != mode || opened.Time.IsZero() {
			t.Errorf("%s: %+v", mode, opened)
		}
		some := f.server.Subscribe([]string{is.Site})
		for range 2 { // of which the second changes nothing
			if err := f.server.Join(is.Key, "chess"); err != nil {
				t.Fatal(err)
			}
		}
		if e := awaitEvent(t, all, proxy.EventJoined); e.Group != "chess" || len(e.Tunnel.Groups) != 2 {
			t.Errorf("%s: %+v", mode, e)
		}
		if err := f.server.Leave(is.Key, "lobby"); err != nil {
			t.Fatal(err)
		}
		if e := awaitEvent(t, all, proxy.EventLeft); e.Group != "lobby" || len(e.Tunnel.Groups) != 1 {
			t.Errorf("%s: %+v", mode, e)
		}
		if err := f.server.Kick(is.Key, 4001, "out"); err != nil {
			t.Fatal(err)
		}
		frame(t, anna.br)
		anna.Close()
		e := awaitEvent(t, all, proxy.EventClosed)
		if e.Result.Cause != tunnel.CauseOrder || e.Result.Code != 4001 || e.Result.By != tunnel.Proxy || e.Tunnel.User != "anna" {
			t.Errorf("%s: %+v of %+v", mode, e.Result, e.Tunnel)
		}
		if e := awaitEvent(t, some, proxy.EventClosed); e.Tunnel.Key != is.Key {
			t.Errorf("%s: its site is told %+v", mode, e)
		}
		if _, err := f.server.Drain(proxy.DrainScope{}); err != nil {
			t.Fatal(err)
		}
		awaitEvent(t, all, proxy.EventDrain)
		if err := f.server.EndDrain(proxy.DrainScope{}); err != nil {
			t.Fatal(err)
		}
		awaitEvent(t, all, proxy.EventDrainEnded)
		for name, s := range map[string]*proxy.Subscription{"another site": none, "the site": some} {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			if missed, more, err := s.Next(ctx); err == nil {
				t.Errorf("%s: %s is told %d events, and missed %d", mode, name, len(more), missed)
			}
			cancel()
			s.Close()
		}
		all.Close()
		all.Close() // which is nothing any more
	}
}

// TestSubscriberThatNeverTakesHoldsUpNobody: of more events than are kept it misses those that there is no room for, and another one gets all. No loop is held, which the
// harness sees to.
func TestSubscriberThatNeverTakesHoldsUpNobody(t *testing.T) {
	const kept, clients = 4096, 8
	tunnels := 5000
	if raceFactor > 1 {
		tunnels = kept/2 + clients*20
	}
	tunnels -= tunnels % clients
	var ended atomic.Int64
	b := startSocket(t, func(_ net.Conn, br *bufio.Reader) {
		io.Copy(io.Discard, br)
		ended.Add(1)
	})
	f := start(t, oneSite(socketTo(b.address)))
	asleep, awake := f.server.Subscribe(nil), f.server.Subscribe(nil)
	var opening sync.WaitGroup
	for range clients {
		opening.Go(func() {
			for range tunnels / clients {
				conn, err := net.Dial("tcp", f.plain)
				if err != nil {
					t.Error(err)
					return
				}
				io.WriteString(conn, upgrade)
				_, err = rawHead(bufio.NewReader(conn))
				conn.Close()
				if err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	told := map[proxy.EventKind]int{}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for told[proxy.EventClosed] < tunnels {
		missed, some, err := awake.Next(ctx)
		if missed > 0 || err != nil {
			t.Fatalf("after %v it has missed %d, %v", told, missed, err)
		}
		for _, e := range some {
			told[e.Kind]++
		}
	}
	opening.Wait()
	if told[proxy.EventOpened] != tunnels || told[proxy.EventClosed] != tunnels {
		t.Errorf("told are %v of %d tunnels", told, tunnels)
	}
	missed, some, err := asleep.Next(ctx)
	if missed != 2*tunnels-kept || len(some) == 0 || err != nil {
		t.Errorf("who has taken nothing has missed %d, %v; want %d", missed, err, 2*tunnels-kept)
	}
	some = nil
	await(t, "the ends of the backend, which have memory too", func() bool { return ended.Load() == int64(tunnels) })
	with := heap()
	asleep.Close()
	awake.Close()
	if used := int64(with) - int64(heap()); used > 4<<20 {
		t.Errorf("%d bytes are kept for who takes nothing", used)
	} else {
		t.Logf("%d bytes are kept for who takes nothing", used)
	}
}

// TestEventWithoutSubscribersCostsNothing that is worth counting.
func TestEventWithoutSubscribersCostsNothing(t *testing.T) {
	f := start(t, oneSite(socketTo(startEcho(t).address)))
	s := f.server.Subscribe(nil)
	s.Close()
	await(t, "a turn without allocations", func() bool { // those of others, such as of the test before, are counted too
		return testing.AllocsPerRun(100, func() { f.server.Publish(proxy.Event{Kind: proxy.EventReloaded}) }) == 0
	})
}
