package upstream

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"syscall"
	"testing"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/health"
	"wstunnel/internal/reactor"
)

func TestTurnsAreSpreadOut(t *testing.T) {
	for _, tt := range []struct {
		weights []int
		want    string
	}{
		{[]int{1, 1, 1}, "[0 1 2]"},
		{[]int{5, 1, 1}, "[0 0 1 0 2 0 0]"},
		{[]int{20, 0, 10}, "[0 2 0]"},
		{[]int{0, 0}, "[]"},
	} {
		if got := fmt.Sprint(turnsOf(tt.weights)); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.weights, got, tt.want)
		}
	}
	many := make([]int, 100)
	for i := range many {
		many[i] = 1000 - i
	}
	turns := turnsOf(many)
	if len(turns) > mostTurns || slices.Max(turns) != 99 {
		t.Errorf("a round of 100 servers has %d turns", len(turns))
	}
}

// TestHashesStayTheSame over versions and machines, so that clients keep their servers.
func TestHashesStayTheSame(t *testing.T) {
	r := newRing([]string{"tcp 10.0.0.1:80", "tcp 10.0.0.2:80", "tcp 10.0.0.3:80"}, []int{1, 1, 2})
	any := func(int) bool { return true }
	for text, want := range map[string]int{"": 2, "a": 0, "alice": 1, "bob": 2, "/index.html": 0, "192.0.2.1": 2} {
		if got := r.find(Hash(text), any); got != want {
			t.Errorf("%q belongs to %d, want %d", text, got, want)
		}
	}
}

func TestRingGoesByWeight(t *testing.T) {
	weights := []int{1, 2, 0, 5}
	r := newRing([]string{"a", "b", "c", "d"}, weights)
	counts := make([]int, 4)
	for i := range 8000 {
		counts[r.find(Hash(fmt.Sprint(i)), func(int) bool { return true })]++
	}
	for i, n := range counts {
		if want := 1000 * weights[i]; n < want*3/4 || n > want*5/4 {
			t.Errorf("server %d has %d of 8000, want about %d", i, n, want)
		}
	}
	if found := r.find(1, func(int) bool { return false }); found != -1 {
		t.Errorf("found %d where none fits", found)
	}
	if found := (ring{}).find(1, func(int) bool { return true }); found != -1 {
		t.Errorf("found %d on an empty ring", found)
	}
	all := make([]string, 2000)
	same := make([]int, 2000)
	for i := range all {
		all[i], same[i] = fmt.Sprint(i), 1000
	}
	if n := len(newRing(all, same)); n > mostPoints {
		t.Errorf("2000 servers have %d points", n)
	}
}

func TestMeterSpacesOut(t *testing.T) {
	var m meter
	now := time.Hour
	for i, want := range []time.Duration{0, 0, 0, 0, 0, 0, 20, 40, 60} { // a tenth of a second's worth beside the first
		if at, ok := m.reserve(now, 50, time.Second); !ok || max(0, at-now) != want*time.Millisecond {
			t.Errorf("%d waits %v, %v; want %v", i, at-now, ok, want*time.Millisecond)
		}
	}
	if n := m.waiting(now, 50); n != 3 {
		t.Errorf("%d wait, want 3", n)
	}
	if at, ok := m.reserve(now, 50, 50*time.Millisecond); ok {
		t.Errorf("one that may wait for 50 ms waits %v", at-now)
	}
	m.giveBack(now + 40*time.Millisecond)
	m.giveBack(now + 20*time.Millisecond)
	if n := m.waiting(now, 50); n != 1 {
		t.Errorf("%d wait when two have left, want 1", n)
	}
	for i, want := range []time.Duration{40, 80} { // what has passed is nobody's
		if at, ok := m.reserve(now+30*time.Millisecond, 50, time.Second); !ok || at-now != want*time.Millisecond {
			t.Errorf("%d behind those that left waits until %v, %v; want %v", i, at-now, ok, want*time.Millisecond)
		}
	}
	if at, ok := m.reserve(now+120*time.Millisecond, 50, 0); !ok || at > now+120*time.Millisecond {
		t.Errorf("later: %v %v", at-now, ok)
	}
}

func TestTokensTellServersApart(t *testing.T) {
	key := []byte("0123456789abcdef")
	tokens := []string{
		tokenOf(key, "a", "tcp", "10.0.0.1:80"), tokenOf(key, "a", "tcp", "10.0.0.2:80"), tokenOf(key, "b", "tcp", "10.0.0.1:80"),
		tokenOf([]byte("0123456789abcdeF"), "a", "tcp", "10.0.0.1:80"), tokenOf(key, "at", "cp", "10.0.0.1:80"),
	}
	slices.Sort(tokens)
	if n := len(slices.Compact(tokens)); n != 5 {
		t.Errorf("%d of 5 tokens differ", n)
	}
}

// TestChoosingAllocatesNothing however servers are chosen.
func TestChoosingAllocatesNothing(t *testing.T) {
	clock := reactor.NewClock()
	p := New(t.Context(), clock, slog.New(slog.DiscardHandler), func(int64) bool { return false }, func(string, string, health.Status) {})
	defer p.Retire(nil)
	target := &config.Target{Upstream: "u", Scheme: "http", Host: "u"}
	for i := range 5 {
		target.Servers = append(target.Servers, config.Server{Network: "tcp", Address: fmt.Sprintf("127.0.0.1:%d", 9000+i), Weight: 1 + i%2})
	}
	for balance := config.BalanceDefault; balance <= config.BalanceHash; balance++ {
		of := *target
		of.Balance = balance
		u := p.Upstream(&of)
		a := &attempt{upstream: u, choice: Choice{Hash: 1, Hashed: true}}
		if n := testing.AllocsPerRun(100, func() {
			if e, none := a.choose(nil); e == nil || none {
				t.Error("no server")
			}
		}); n > 0 {
			t.Errorf("%v: %v allocations", balance, n)
		}
	}
}

// TestRingIsNotWalkedInVain, since it is long: where no server can be used, and where only backups can, which are not on it.
func TestRingIsNotWalkedInVain(t *testing.T) {
	p := New(t.Context(), reactor.NewClock(), slog.New(slog.DiscardHandler), func(int64) bool { return false }, func(string, string, health.Status) {})
	defer p.Retire(nil)
	target := &config.Target{Upstream: "u", Scheme: "http", Host: "u", Servers: []config.Server{
		{Network: "tcp", Address: "127.0.0.1:9000"}, {Network: "tcp", Address: "127.0.0.1:9001"}, {Network: "tcp", Address: "127.0.0.1:9002", Backup: true},
	}}
	target.Balance = config.BalanceHash
	u := p.Upstream(target)
	u.ring = ring{{hash: 1, index: 99}} // of nobody: who asks for it panics
	a := &attempt{upstream: u, choice: Choice{Hash: 1, Hashed: true}, tried: u.endpoints[:2:2]}
	if e, none := a.choose(nil); e != u.endpoints[2] || none {
		t.Errorf("of a backup alone %v, %v is chosen", e, none)
	}
	a.tried = u.endpoints
	if e, none := a.choose(nil); e != nil || !none {
		t.Errorf("of none %v, %v is chosen", e, none)
	}
}

// TestNoServerStillTellsWhyNot: who waits for a restart has to know that nobody listened.
func TestNoServerStillTellsWhyNot(t *testing.T) {
	refused := fmt.Errorf("connecting: %w", syscall.ECONNREFUSED)
	a := &attempt{upstream: &Upstream{Target: &config.Target{}}}
	if err := a.err(); !errors.Is(err, ErrNoServer) {
		t.Errorf("none at all: %v", err)
	}
	a.failed(nil, refused)
	if err := a.err(); errors.Is(err, ErrNoServer) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("one: %v", err)
	}
	a.failed(nil, refused)
	if err := a.err(); !errors.Is(err, ErrNoServer) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("two: %v", err)
	}
}
