package proxy

import (
	"math"
	"runtime"

	"golang.org/x/sys/unix"
)

// What is kept of the descriptors for other things than connections: sparedDescriptors, sparedPerLoop for an event loop and its pipes,
// and one in sparedShare, up to maxSparedShare. An event loop keeps maxRecentFiles open at most that nobody is sent.
const (
	sparedDescriptors = 128
	sparedPerLoop     = 40
	sparedShare       = 16
	maxSparedShare    = 4096
	maxRecentFiles    = 256
)

// spared returns how many descriptors are kept for other things than connections: of a low limit no more than half.
func spared(limit int64) int64 {
	share := min(limit/sparedShare, maxSparedShare)
	return min(limit/2, sparedDescriptors+int64(sparedPerLoop*runtime.GOMAXPROCS(0))+share)
}

// spare is what the spared descriptors are for; the rest is for listeners, logs and certificates.
type spare struct {
	files       int // static files that are open while clients take them
	openings    int // of such files that wait for a disk: two descriptors each
	recentFiles int // that one event loop keeps open for a second
	loopPipes   int // for those of one event loop: two descriptors each
}

func divideSpared(limit int64) spare {
	loops := runtime.GOMAXPROCS(0)
	free := max(int(spared(limit))-8*loops, 32)
	return spare{
		files: free / 4, openings: free / 8, recentFiles: min(free/8/loops, maxRecentFiles), loopPipes: max(1, free/8/loops),
	}
}

// descriptorLimit raises the limit on open files as far as the process may, and returns it.
func descriptorLimit() int64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return math.MaxInt32
	}
	if limit.Cur < limit.Max {
		raised := unix.Rlimit{Cur: limit.Max, Max: limit.Max}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
			limit = raised
		}
	}
	return int64(min(uint64(limit.Cur), math.MaxInt32))
}
