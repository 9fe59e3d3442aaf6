package metrics

import (
	"sync/atomic"
	"time"
)

// bounds are the upper ends of the buckets that durations are counted in; there is one more for all that are longer.
var bounds = [...]time.Duration{
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond, time.Second, 2500 * time.Millisecond, 5 * time.Second,
	10 * time.Second, time.Minute,
}

// Durations counts durations in buckets. Its zero value is ready for use, and it is safe for concurrent use. It fills two cache lines, so that two of them that
// stand side by side do not slow each other down.
type Durations struct {
	counts      [len(bounds) + 1]atomic.Uint64
	nanoseconds atomic.Int64 // of all together
}

// Note counts a duration.
func (d *Durations) Note(took time.Duration) {
	i := 0
	for i < len(bounds) && took > bounds[i] {
		i++
	}
	d.counts[i].Add(1)
	d.nanoseconds.Add(int64(max(0, took)))
}

// Count returns how many there have been.
func (d *Durations) Count() (n uint64) {
	for i := range d.counts {
		n += d.counts[i].Load()
	}
	return n
}
