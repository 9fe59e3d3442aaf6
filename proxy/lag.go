package proxy

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"wstunnel/internal/metrics"
	"wstunnel/internal/reactor"
)

// lagInterval is how often it is measured how long the loops let things wait.
const lagInterval = time.Second

// lag measures how long what is posted to the loops waits: what a message in a tunnel waits too.
type lag struct {
	clients *clients
	waited  metrics.Durations
	alarm   *reactor.Alarm
	on      atomic.Bool
	pending atomic.Int32 // loops that have not answered yet
}

func newLag(c *clients) *lag {
	l := &lag{clients: c}
	l.alarm = c.server.clock.Alarm(l.measure)
	return l
}

// turn has it measured, or no longer: nobody asks.
func (l *lag) turn(on bool) {
	switch was := l.on.Swap(on); {
	case on && !was:
		l.alarm.Set(lagInterval)
	case !on:
		l.alarm.Stop()
	}
}

// measure asks all loops, and again a while after the last one has answered.
func (l *lag) measure() {
	l.pending.Store(int32(len(l.clients.loops.Loops)))
	for _, loop := range l.clients.loops.Loops {
		asked := loop.Elapsed()
		loop.Post(func() {
			l.waited.Note(loop.Elapsed() - asked)
			if l.pending.Add(-1) == 0 && l.on.Load() {
				l.alarm.Set(lagInterval)
			}
		})
	}
}

// alive returns an error if a loop does not answer until ctx is done.
func (d *clients) alive(ctx context.Context) error {
	for i, loop := range d.loops.Loops {
		answered := make(chan struct{})
		if !loop.Post(func() { close(answered) }) {
			return fmt.Errorf("event loop %d has ended", i)
		}
		select {
		case <-answered:
		case <-ctx.Done():
			return fmt.Errorf("event loop %d does not answer", i)
		}
	}
	return nil
}
