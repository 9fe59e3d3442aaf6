package reactor

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// threadTime returns the processor's time that the thread has had.
func threadTime() time.Duration {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return time.Duration(t.Nano())
}

// socketError takes the error that the kernel keeps for a socket.
func socketError(fd int32) error {
	code, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return err
	}
	if code == 0 {
		return nil
	}
	return unix.Errno(code)
}

// addresses returns the two ends of a connection: a *net.TCPAddr each, or a *net.UnixAddr.
func addresses(fd int32) (local, remote net.Addr) {
	own, _ := unix.Getsockname(int(fd))
	peer, _ := unix.Getpeername(int(fd))
	return netAddr(own), netAddr(peer)
}

func netAddr(a unix.Sockaddr) net.Addr {
	switch a := a.(type) {
	case *unix.SockaddrInet4:
		return &net.TCPAddr{IP: a.Addr[:], Port: a.Port}
	case *unix.SockaddrInet6:
		return &net.TCPAddr{IP: a.Addr[:], Port: a.Port}
	case *unix.SockaddrUnix:
		return &net.UnixAddr{Name: a.Name, Net: "unix"}
	}
	return &net.UnixAddr{Net: "unix"}
}
