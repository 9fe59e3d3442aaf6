package reactor

import (
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Group is a set of loops that share the work, one for each processor that Go may use.
type Group struct {
	Loops []*Loop

	clock     *Clock
	log       *slog.Logger
	listeners atomic.Int32 // that there have been
	// handshakes holds those that compute now: one fewer than there are processors, or loops would wait for theirs behind them.
	handshakes chan struct{}
	waiting    atomic.Int32 // handshakes that wait for a place among those
	watcher    atomic.Pointer[func(held time.Duration)]
	offloads   offloads
	pipes      atomic.Int32 // that a loop may have

	mu             sync.Mutex // guards what follows
	acceptFailures int        // since the last line about them
	acceptLogged   time.Time  // when that was, on the clock
}

// Watch has f told how much of a processor's time each event and each posted function took, on its loop. Nil ends the watch. It is safe
// for concurrent use.
func (g *Group) Watch(f func(held time.Duration)) {
	if f == nil {
		g.watcher.Store(nil)
		return
	}
	g.watcher.Store(&f)
}

// watch runs f, and tells the watcher of it if there is one.
func (g *Group) watch(f func()) {
	watcher := g.watcher.Load()
	if watcher == nil {
		f()
		return
	}
	runtime.LockOSThread() // whose time is taken
	defer runtime.UnlockOSThread()
	began := threadTime()
	f()
	(*watcher)(threadTime() - began)
}

// NewGroup starts the loops, which go by the clock. What goes wrong inside callbacks is logged to log.
func NewGroup(log *slog.Logger, clock *Clock) (*Group, error) {
	g := &Group{log: log, clock: clock, handshakes: make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-1))}
	g.pipes.Store(maxPipes)
	g.offloads.most = maxOffloads
	for range runtime.GOMAXPROCS(0) {
		l, err := newLoop(g)
		if err != nil {
			for _, made := range g.Loops {
				made.release()
			}
			return nil, fmt.Errorf("event loop: %w", err)
		}
		g.Loops = append(g.Loops, l)
	}
	for _, l := range g.Loops {
		go l.run()
	}
	clock.mu.Lock()
	clock.loops = append(clock.loops, g.Loops...)
	clock.mu.Unlock()
	return g, nil
}

// Close makes the loops end, and returns at once. What was posted until then is run; then every connection that is
// left is closed and its handler told so with [net.ErrClosed]. It is safe for concurrent use and on a loop.
func (g *Group) Close() {
	for _, l := range g.Loops {
		l.Post(func() { l.stopped = true })
	}
}

// Pick returns the loop with the fewest connections. It is safe for concurrent use.
func (g *Group) Pick() *Loop {
	best := g.Loops[0]
	for _, l := range g.Loops[1:] {
		if l.load.Load() < best.load.Load() {
			best = l
		}
	}
	return best
}
