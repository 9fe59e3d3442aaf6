package reactor

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Clock is the time that loops and all above them go by: that of the system's monotonic clock, unless a test turns it. It is safe for
// concurrent use.
type Clock struct {
	start   time.Time    // its zero
	skipped atomic.Int64 // nanoseconds by which it is ahead

	mu     sync.Mutex // guards what follows
	alarms map[*Alarm]struct{}
	loops  []*Loop
}

// NewClock starts a clock.
func NewClock() *Clock { return &Clock{start: time.Now(), alarms: map[*Alarm]struct{}{}} }

// Elapsed returns the exact time since the clock was started.
func (c *Clock) Elapsed() time.Duration { return time.Since(c.start) + c.ahead() }

// Now is Elapsed as a point in time. Only comparisons with others of this clock mean anything: it knows nothing of what has set the
// system's clock meanwhile.
func (c *Clock) Now() time.Time { return c.start.Add(c.Elapsed()) }

func (c *Clock) ahead() time.Duration { return time.Duration(c.skipped.Load()) }

// Skip turns the clock forward, for tests of what takes long. What has come by now is dealt with before, and what runs out has been told
// when Skip returns. It is not to be called on a loop.
func (c *Clock) Skip(d time.Duration) {
	c.settle()
	c.skipped.Add(int64(d))
	for _, a := range c.takeDue() {
		a.f()
	}
	c.settle()
}

// settle lets the loops deal with what has come and with what they post to one another, a few times over.
func (c *Clock) settle() {
	c.mu.Lock()
	loops := c.loops
	c.mu.Unlock()
	for range 3 {
		for _, l := range loops {
			l.finishTurn()
		}
	}
}

// takeDue takes out the alarms that have run out, in their order, and lets the others go off at their time.
func (c *Clock) takeDue() (due []*Alarm) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.Elapsed()
	for a := range c.alarms {
		if a.due > now {
			a.timer.Reset(a.due - now)
			continue
		}
		a.timer.Stop()
		delete(c.alarms, a)
		due = append(due, a)
	}
	slices.SortFunc(due, func(a, b *Alarm) int { return cmp.Compare(a.due, b.due) })
	return due
}

// finishTurn waits until the loop has told all events and timers of this moment.
func (l *Loop) finishTurn() {
	done := make(chan struct{})
	end := func() { close(done) }
	posted := l.Post(func() {
		l.doubtAll()
		if !l.Post(end) { // for the next turn: timers come last in one
			end()
		}
	})
	if posted {
		<-done
	}
}

// Alarm calls a function after a while, for those who live on no loop. Its methods are safe for concurrent use.
type Alarm struct {
	clock *Clock
	f     func()
	timer *time.Timer   // nil until it was set; guarded by the clock's mu
	due   time.Duration // likewise
}

// Alarm returns an alarm that is not set. It calls f, on a goroutine that f must not keep.
func (c *Clock) Alarm(f func()) *Alarm { return &Alarm{clock: c, f: f} }

// AfterFunc returns an alarm that goes off after d.
func (c *Clock) AfterFunc(d time.Duration, f func()) *Alarm {
	a := c.Alarm(f)
	a.Set(d)
	return a
}

// Set makes the alarm go off once after d, instead of any time that it was set to before.
func (a *Alarm) Set(d time.Duration) {
	c := a.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	a.due = c.Elapsed() + d
	c.alarms[a] = struct{}{}
	if a.timer == nil {
		a.timer = time.AfterFunc(d, a.ring)
	} else {
		a.timer.Reset(d)
	}
}

// Stop makes the alarm not go off, and reports whether it was set.
func (a *Alarm) Stop() bool {
	c := a.clock
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, set := c.alarms[a]; !set {
		return false
	}
	a.timer.Stop()
	delete(c.alarms, a)
	return true
}

// ring goes off, unless the alarm was stopped or set anew at this moment.
func (a *Alarm) ring() {
	if a.clock.hasRunOut(a) {
		a.f()
	}
}

func (c *Clock) hasRunOut(a *Alarm) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, set := c.alarms[a]; !set || a.due > c.Elapsed() {
		return false
	}
	delete(c.alarms, a)
	return true
}
