package health

import (
	"bytes"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/leaks"
	"wstunnel/internal/reactor"
)

func TestMain(m *testing.M) { leaks.Verify(m) }

// patience bounds whatever a test waits for.
const patience = 20 * time.Second

// tested is a group with its clock, its log, and what it has told.
type tested struct {
	*Group
	t       *testing.T
	members []*Member

	written sync.Mutex // guards what follows
	log     bytes.Buffer
	told    []string
}

func (g *tested) Write(p []byte) (int, error) {
	g.written.Lock()
	defer g.written.Unlock()
	return g.log.Write(p)
}

func newTested(t *testing.T, o Options, servers ...Server) *tested {
	g := &tested{t: t}
	log := slog.New(slog.NewTextHandler(g, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
		if a.Key == slog.TimeKey {
			return slog.Attr{}
		}
		return a
	}}))
	g.Group = NewGroup(reactor.NewClock(), log, "chat", func(m *Member, up bool) {
		g.written.Lock()
		defer g.written.Unlock()
		g.told = append(g.told, m.address+map[bool]string{true: " up", false: " down"}[up])
	})
	t.Cleanup(g.Close)
	g.members = g.Set(o, servers)
	return g
}

// logged returns what was logged since the last call.
func (g *tested) logged() string {
	g.written.Lock()
	defer g.written.Unlock()
	defer g.log.Reset()
	return g.log.String()
}

// awaitLogged waits until so many lines have been logged since the last call, and returns them: a change is told of when it has been made.
func (g *tested) awaitLogged(lines int) string {
	g.t.Helper()
	all := ""
	for deadline := time.Now().Add(patience); strings.Count(all, "\n") < lines; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			g.t.Fatalf("%d lines have not been logged:\n%s", lines, all)
		}
		all += g.logged()
	}
	return all
}

// awaitTold waits until so many changes have been told since the last call, and returns which.
func (g *tested) awaitTold(changes int) (all []string) {
	g.t.Helper()
	for deadline := time.Now().Add(patience); len(all) < changes; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			g.t.Fatalf("%d changes have not been told: %v", changes, all)
		}
		all = append(all, g.toldSince()...)
	}
	return all
}

// toldSince returns which changes were told since the last call.
func (g *tested) toldSince() []string {
	g.written.Lock()
	defer g.written.Unlock()
	told := g.told
	g.told = nil
	return told
}

// wantUp fails the test unless just these servers are up.
func (g *tested) wantUp(when string, want ...bool) {
	g.t.Helper()
	got := make([]bool, len(g.members))
	for i, m := range g.members {
		got[i] = m.Up()
	}
	if !slices.Equal(got, want) {
		g.t.Fatalf("%s the servers are up: %v, want %v", when, got, want)
	}
}

func servers(n int) (all []Server) {
	for i := range n {
		all = append(all, Server{Network: "tcp", Address: string(rune('a'+i)) + ":1"})
	}
	return all
}

var errRefused = errors.New("connection refused")

func fail(m *Member, times int) {
	for range times {
		m.Failed(errRefused)
	}
}

func TestThreeFailuresInARowEject(t *testing.T) {
	g := newTested(t, Options{}, servers(2)...)
	a, b := g.members[0], g.members[1]
	b.Answered()
	fail(a, 2)
	a.Answered()
	fail(a, 2)
	g.wantUp("with an answer between them", true, true)
	fail(a, 1)
	g.wantUp("behind three failures", false, true)
	if got, want := g.logged(), `level=WARN msg="server is down" upstream=chat server=a:1 reason="3 failures in a row, the last one: connection refused; ejected for 5s"`+"\n"; got != want {
		t.Errorf("logged is\n%s\nwant\n%s", got, want)
	}
	if s := a.Status(); s.State != Ejected || s.Failures != 5 || s.Ejections != 1 || s.EjectedFor <= 4*time.Second || s.EjectedFor > 5*time.Second {
		t.Errorf("its status is %+v", s)
	}
	g.clock.Skip(5 * time.Second)
	g.wantUp("after 5 seconds", true, true)
	if got, want := g.logged(), `level=INFO msg="server is up" upstream=chat server=a:1 reason="it was ejected for 5s"`+"\n"; got != want {
		t.Errorf("logged is\n%s\nwant\n%s", got, want)
	}
	if got := g.toldSince(); !slices.Equal(got, []string{"a:1 down", "a:1 up"}) {
		t.Errorf("told are %v", got)
	}
}

func TestEjectionsDoubleUpToFiveMinutes(t *testing.T) {
	g := newTested(t, Options{}, servers(2)...)
	a := g.members[0]
	g.members[1].Answered()
	for _, want := range []time.Duration{
		5 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second, 80 * time.Second, 160 * time.Second, 5 * time.Minute, 5 * time.Minute,
	} {
		fail(a, 3)
		g.clock.Skip(want - time.Second)
		g.wantUp("a second before "+want.String(), false, true)
		g.clock.Skip(time.Second)
		g.wantUp("after "+want.String(), true, true)
	}
	g.clock.Skip(5*time.Minute - time.Second)
	a.Answered()
	fail(a, 3)
	if s := a.Status(); s.EjectedFor < 299*time.Second {
		t.Errorf("soon again it is ejected for %v", s.EjectedFor)
	}
	g.clock.Skip(10 * time.Minute)
	fail(a, 3)
	if s := a.Status(); s.EjectedFor > 5*time.Second {
		t.Errorf("after a good while it is ejected for %v", s.EjectedFor)
	}
}

// TestNeverTheLastAndNeverMoreThanHalf of the servers are ejected.
func TestNeverTheLastAndNeverMoreThanHalf(t *testing.T) {
	for _, c := range []struct{ servers, ejected int }{{1, 0}, {2, 1}, {3, 1}, {4, 2}, {5, 2}} {
		g := newTested(t, Options{}, servers(c.servers)...)
		for _, m := range g.members {
			m.Answered()
		}
		for _, m := range g.members {
			fail(m, 9)
		}
		if got := g.ejected(); got != c.ejected {
			t.Errorf("of %d servers %d are ejected, want %d", c.servers, got, c.ejected)
		}
		if g.clock.Skip(5 * time.Second); c.ejected > 0 {
			fail(g.members[c.servers-1], 1)
			if g.members[c.servers-1].Up() {
				t.Errorf("of %d servers the last one is not ejected when another is back", c.servers)
			}
		}
	}
}

// TestServerThatIsNotUsedTakesNobodysPlace: of two of which one is `down: true`, the other is the last.
func TestServerThatIsNotUsedTakesNobodysPlace(t *testing.T) {
	all := []Server{closed(t), closed(t), closed(t)}
	all[1].Unused = true
	g := newTested(t, Options{Check: check(config.CheckTCP)}, all[:2]...)
	g.members[0].Answered()
	fail(g.members[0], 5)
	g.wantUp("where the other is not used", true, true)
	g.members = g.Set(Options{}, all)
	fail(g.members[0], 5)
	g.wantUp("beside a third", false, true, true)
	fail(g.members[2], 5)
	g.wantUp("when that fails too", false, true, true)
	if checks := g.members[1].Status().Checks; checks > 0 {
		t.Errorf("it was checked %d times", checks)
	}
}

func TestNothingIsEjectedBeforeTheFirstAnswer(t *testing.T) {
	g := newTested(t, Options{}, servers(2)...)
	fail(g.members[0], 10)
	fail(g.members[1], 10)
	g.wantUp("at a boot", true, true)
	g.members[1].Answered()
	fail(g.members[0], 1)
	g.wantUp("once the other one answers", false, true)
	if got := g.logged(); strings.Count(got, "\n") != 1 {
		t.Errorf("logged is\n%s", got)
	}
}

func TestServerThatComesBackIsGivenItsShareLittleByLittle(t *testing.T) {
	g := newTested(t, Options{SlowStart: 30 * time.Second}, servers(2)...)
	a := g.members[0]
	g.members[1].Answered()
	if got := a.Share(); got != 1 {
		t.Errorf("at the start its share is %v", got)
	}
	fail(a, 3)
	g.clock.Skip(5 * time.Second)
	for _, c := range []struct {
		skip   time.Duration
		lo, hi float64
	}{{0, 0.1, 0.1}, {2 * time.Second, 0.1, 0.1}, {13 * time.Second, 0.5, 0.6}, {10 * time.Second, 0.83, 0.95}, {6 * time.Second, 1, 1}} {
		g.clock.Skip(c.skip)
		if got := a.Share(); got < c.lo || got > c.hi {
			t.Errorf("%v later its share is %v, want %v to %v", c.skip, got, c.lo, c.hi)
		}
	}
	fail(a, 3)
	g.Set(Options{}, servers(2))
	g.clock.Skip(10 * time.Second)
	if got := a.Share(); !a.Up() || got != 1 {
		t.Errorf("without slow_start its share is %v", got)
	}
}

// TestServersThatStayKeepTheirHealth over a reload, and others are forgotten.
func TestServersThatStayKeepTheirHealth(t *testing.T) {
	g := newTested(t, Options{}, servers(3)...)
	a := g.members[0]
	a.Answered()
	fail(a, 3)
	if !slices.Equal(g.Set(Options{}, slices.Clone(servers(3))), g.members) {
		t.Error("the members are others")
	}
	again := g.Set(Options{}, []Server{{Network: "tcp", Address: "c:1"}, {Network: "unix", Address: "a:1"}, {Network: "tcp", Address: "a:1"}})
	if again[0] != g.members[2] || again[2] != a || slices.Contains(g.members, again[1]) || a.Up() {
		t.Error("they are not the ones that stay")
	}
	g.toldSince()
	g.Set(Options{}, []Server{{Network: "tcp", Address: "a:1"}})
	if got := g.toldSince(); !a.Up() || !slices.Equal(got, []string{"a:1 up"}) {
		t.Errorf("the only one that is left is up: %v; told are %v", a.Up(), got)
	}
	g.Set(Options{}, nil)
	fail(a, 3)
	g.clock.Skip(time.Hour)
	if got := g.toldSince(); len(got) > 0 {
		t.Errorf("of one that is gone is told %v", got)
	}
}

// TestLastServerComesBackWhenTheOthersFailTheirChecks although it was ejected.
func TestLastServerComesBackWhenTheOthersFailTheirChecks(t *testing.T) {
	g := newTested(t, Options{}, servers(2)...)
	a, b := g.members[0], g.members[1]
	b.Answered()
	fail(a, 3)
	g.mu.Lock()
	b.check = &config.Check{Fall: 1}
	changes := changes(b.checkFailed(errRefused))
	g.mu.Unlock()
	changes.tell()
	g.wantUp("with the other one down", true, false)
	if got := g.logged(); !strings.Contains(got, "no other server is left") {
		t.Errorf("logged is\n%s", got)
	}
}

// TestHealthCostsNothingWhileNothingChanges: what is asked and told with each request.
func TestHealthCostsNothingWhileNothingChanges(t *testing.T) {
	g := newTested(t, Options{SlowStart: time.Minute}, servers(2)...)
	m := g.members[0]
	m.Answered()
	g.mu.Lock() // no lock is taken
	defer g.mu.Unlock()
	if n := testing.AllocsPerRun(1000, func() {
		m.Answered()
		if !m.Up() || m.Share() != 1 {
			t.Error("it is not up")
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkAnswered(b *testing.B) {
	g := NewGroup(reactor.NewClock(), slog.New(slog.DiscardHandler), "chat", nil)
	m := g.Set(Options{SlowStart: time.Minute}, servers(2))[0]
	for b.Loop() {
		m.Answered()
		if !m.Up() || m.Share() != 1 {
			b.Fatal("it is not up")
		}
	}
}

// TestManyAtATime: requests and reloads on all sides, for the race detector.
func TestManyAtATime(t *testing.T) {
	g := newTested(t, Options{SlowStart: time.Second}, servers(4)...)
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for n := range 500 {
				m := g.members[(i+n)%4]
				switch n % 7 {
				case 0:
					m.Answered()
				case 6:
					g.Set(Options{SlowStart: time.Second}, servers(4-n%2))
				case 5:
					m.Status()
				default:
					m.Failed(errRefused)
				}
				m.Up()
				m.Share()
			}
		})
	}
	all.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.up() == 0 {
		t.Error("no server is up")
	}
}
