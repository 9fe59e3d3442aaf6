package relay

import "time"

// Clock is the time that sessions go by.
type Clock interface {
	Elapsed() time.Duration
	// Now is Elapsed as a point in time, for the deadlines of a [Conn].
	Now() time.Time
	// Alarm returns one that is not set, and calls f when it goes off.
	Alarm(f func()) Alarm
}

// Alarm goes off once after the time that it was set to last.
type Alarm interface {
	Set(d time.Duration)
	Stop() bool
}
