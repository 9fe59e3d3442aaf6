package proxy_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"wstunnel/proxy"
)

// TestWhoReadsNothingStallsNobodyElse: messages to a client that takes none of them are refused when too much waits, on each way to it; all others of its group have
// theirs at once; and it can be kicked.
func TestWhoReadsNothingStallsNobodyElse(t *testing.T) {
	for _, mode := range []string{"tunnel", "relay"} {
		for _, way := range []string{"ws", "wss", "h2"} {
			t.Run(mode+" "+way, func(t *testing.T) { checkStalled(t, mode, way) })
		}
	}
}

func checkStalled(t *testing.T, mode, way string) {
	const size = 64 << 10
	b := startTagging(t, always(annaInTwoGroups))
	f := startTLS(t, secureSite(`{path: /ws, mode: `+mode+`, websocket: "ws://`+b.address+`"}`))
	switch way {
	case "ws":
		f.tagged("/ws")
	case "wss":
		c := f.dialSecure()
		c.send(upgrade)
		c.head()
	case "h2":
		c, _ := f.dialH2()
		c.opened(1)
	}
	await(t, "who reads nothing", func() bool { return len(f.server.Tunnels()) == 1 })
	stalled := f.server.Tunnels()[0].Key
	other, _ := f.tagged("/ws")
	accepted, refused := 0, 0
	for refused < 100 {
		if accepted > 1000 {
			t.Fatal("there is no end of what is taken in")
		}
		switch _, err := f.server.PushTo(t.Context(), stalled, textTo(strings.Repeat("x", size)), false); {
		case err == nil:
			accepted++
		case errors.Is(err, proxy.ErrFull):
			refused++
		default:
			t.Fatal(err)
		}
	}
	t.Logf("%d were taken in", accepted)
	began := time.Now()
	if got, err := f.server.Push(t.Context(), proxy.Audience{Groups: []string{"lobby"}}, textTo(strings.Repeat("x", size/2)+"to all"), false); err != nil ||
		got.Matched != 2 || got.Written+got.Queued == 0 || got.Dropped > 1 {
		t.Errorf("%+v, %v", got, err)
	}
	mustRead(t, other.br, 4+size/2+len("to all"))
	if took := time.Since(began); took > proxy.PushTTL/2 { // of what waits for who takes nothing
		t.Errorf("the others have theirs after %v", took)
	}
	if err := f.server.Kick(stalled, 4000, "read what you are sent"); err != nil {
		t.Error(err)
	}
	await(t, "the end of who reads nothing", func() bool {
		f.server.Skip(time.Second)
		return f.server.TunnelCount() == 1
	})
	if _, err := f.server.PushTo(t.Context(), stalled, textTo("gone"), false); !errors.Is(err, proxy.ErrGone) {
		t.Errorf("behind its end: %v", err)
	}
}
