package reactor

import (
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// KeepAlive says how a TCP peer is found to be gone: after Idle and Count times Interval. So long a peer also has to acknowledge what it is
// sent, and may keep its window shut (TCP_USER_TIMEOUT): where that is set, the kernel goes by it instead of the count. Only Linux has it; elsewhere
// the system's own time for what is not acknowledged holds, and a window may stay shut.
type KeepAlive struct {
	Idle     time.Duration // without a byte, before the first probe
	Interval time.Duration // between probes
	Count    int           // of unanswered probes that end the connection
}

// SetKeepAlive sets TCP's own supervision of the peer. Of other sockets, and of connections that were dialled to this machine itself,
// it does nothing. Times are in whole seconds. Kernels that know no user timeout for multipath TCP supervise it without.
func (c *Conn) SetKeepAlive(k KeepAlive) {
	if !c.near && isTCP(int(c.fd)) {
		k.set(int(c.fd))
	}
}

// setUp sets the options of a client's connection, if it is TCP.
func setUp(fd int, k KeepAlive) error {
	if !isTCP(fd) {
		return nil
	}
	return errors.Join(k.set(fd), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
}

// option is one of a socket.
type option struct{ level, name, value int }

func (k KeepAlive) set(fd int) error {
	for _, o := range k.options() {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return os.NewSyscallError("setsockopt", err)
		}
	}
	return nil
}
