package proxy

import (
	"runtime/debug"
	"sync/atomic"
	"time"

	"wstunnel/internal/reactor"
)

// Memory is given back when at least tidyAfter connections have come or gone and there has been quiet for a while: fewer
// than tidyQuiet of them in tidyPause.
const (
	tidyAfter = 256
	tidyQuiet = 32
	tidyPause = time.Second
)

// tidier gives the memory that a burst of handshakes or farewells took back to the system, once it is over. What tunnels need to
// live on is a fraction of what it takes to open them.
type tidier struct {
	clock   *reactor.Clock
	changes atomic.Int64 // since the last tidying
	last    int64        // changes when they were last looked at; belongs to the timer
}

// note counts a connection, or a tunnel over HTTP/2, that came or went.
func (t *tidier) note() {
	if t.changes.Add(1) == tidyAfter {
		t.clock.AfterFunc(tidyPause, t.check)
	}
}

func (t *tidier) check() {
	changes := t.changes.Load()
	if changes-t.last > tidyQuiet {
		t.last = changes
		t.clock.AfterFunc(tidyPause, t.check)
		return
	}
	t.last = 0
	t.changes.Store(0)
	debug.FreeOSMemory()
}
