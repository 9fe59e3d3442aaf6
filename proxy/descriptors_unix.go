//go:build unix

package proxy

import (
	"math"

	"golang.org/x/sys/unix"
)

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
