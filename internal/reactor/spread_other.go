//go:build !linux

package reactor

import "golang.org/x/sys/unix"

// canSpread is false: elsewhere only 127.0.0.1 is this machine's.
func canSpread(unix.Sockaddr) bool { return false }

func bindSource(int, [4]byte) {}
