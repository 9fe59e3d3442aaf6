//go:build portable

package proxy

import (
	"crypto/tls"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// hasHungUp reports whether the peer of a socket has ended its stream, be it behind bytes that are yet to be read.
func hasHungUp(conn net.Conn) bool {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = socketUnder(secure)
	}
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return false
	}
	hungUp := false
	raw.Control(func(fd uintptr) {
		state := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(state, 0)
		hungUp = n > 0 && err == nil
	})
	return hungUp
}
