//go:build !linux || portable

package reactor

// userTimeout is that of [KeepAlive] where it is set.
func userTimeout(int) int { return 0 }
