package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
)

// Go collects garbage whenever the heap has doubled. A small heap doubles all the time, so that one is given more room:
// paceMost percent, as long as the product of what lives and the percentage stays below paceHeap. Then, and from there on, it is 100.
const (
	paceMost = 400
	paceHeap = 16 << 20
)

// paceCollector gives a small heap room to grow, after each collection anew. GOGC in the environment stands instead.
func paceCollector() {
	if os.Getenv("GOGC") == "" {
		repace()
	}
}

var pace atomic.Int64 // the percentage that was set last

func repace() {
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	percent := min(paceMost, max(100, 100*paceHeap/max(1, int64(live[0].Value.Uint64()))))
	if pace.Swap(percent) != percent {
		debug.SetGCPercent(int(percent))
	}
	// The next collection finds this one gone.
	runtime.AddCleanup(new(sentinel), func(struct{}) { repace() }, struct{}{})
}

// sentinel is too large for the allocator of tiny objects, which die together.
type sentinel struct{ _ [4]uint64 }
