package reactor

import "golang.org/x/sys/unix"

// hungUp reports whether the peer of a socket has ended its stream, be it behind bytes that are yet to be read.
func hungUp(fd int32) bool {
	state := []unix.PollFd{{Fd: fd, Events: unix.POLLRDHUP}}
	n, err := unix.Poll(state, 0)
	return n > 0 && err == nil
}
