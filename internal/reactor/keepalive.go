//go:build linux

package reactor

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// KeepAlive says how a TCP peer is found to be gone: after Idle and Count times Interval. So long a peer also has to acknowledge what it is
// sent, and may keep its window shut (TCP_USER_TIMEOUT): where that is set, the kernel goes by it instead of the count.
type KeepAlive struct {
	Idle     time.Duration // without a byte, before the first probe
	Interval time.Duration // between probes
	Count    int           // of unanswered probes that end the connection
}

// total is the time after which a peer that says nothing is gone.
func (k KeepAlive) total() time.Duration { return k.Idle + time.Duration(k.Count)*k.Interval }

// SetKeepAlive sets TCP's own supervision of the peer. Of other sockets, and of connections that were dialled to this machine itself,
// it does nothing. Times are in whole seconds. Kernels that know no user timeout for multipath TCP supervise it without.
func (c *Conn) SetKeepAlive(k KeepAlive) {
	if !c.near && isTCP(int(c.fd)) {
		k.set(int(c.fd))
	}
}

// prepare sets on a listening socket what the connections that it accepts are to have: TCP_NODELAY, and supervision. It reports
// whether they will have it. Those of a multipath TCP socket do not inherit it.
func prepare(fd int, k KeepAlive) (inherited bool) {
	return protocol(fd) == unix.IPPROTO_TCP && setUp(fd, k) == nil
}

// setUp sets the options of a client's connection, if it is TCP.
func setUp(fd int, k KeepAlive) error {
	if !isTCP(fd) {
		return nil
	}
	return errors.Join(k.set(fd), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
}

func (k KeepAlive) set(fd int) error {
	for _, option := range []struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(k.Idle / time.Second)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(k.Interval / time.Second)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, k.Count},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(k.total() / time.Millisecond)},
	} {
		if err := unix.SetsockoptInt(fd, option.level, option.name, option.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}

func isTCP(fd int) bool {
	p := protocol(fd)
	return p == unix.IPPROTO_TCP || p == unix.IPPROTO_MPTCP
}

// protocol returns that of a socket, 0 where it has none.
func protocol(fd int) int {
	p, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return 0
	}
	return p
}
