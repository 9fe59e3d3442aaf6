//go:build !linux

package reactor

import "golang.org/x/sys/unix"

// hungUp reports whether the peer of a socket has ended its stream, be it behind bytes that are yet to be read.
func hungUp(fd int32) bool {
	queue, err := unix.Kqueue()
	if err != nil {
		return false
	}
	defer unix.Close(queue)
	unix.CloseOnExec(queue)
	var change [1]unix.Kevent_t
	unix.SetKevent(&change[0], int(fd), unix.EVFILT_READ, unix.EV_ADD)
	var events [1]unix.Kevent_t
	n, err := unix.Kevent(queue, change[:], events[:], &unix.Timespec{})
	return n > 0 && err == nil && events[0].Flags&unix.EV_EOF != 0
}
