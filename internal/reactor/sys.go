//go:build linux

package reactor

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls here never block, so they are made without telling Go's scheduler.

// read reads into p; a read that would block is unix.EAGAIN.
func read(fd int32, p []byte) (int, error) {
	return transfer(unix.SYS_READ, fd, p)
}

// write writes what the descriptor takes of p, which may be nothing.
func write(fd int32, p []byte) (int, error) {
	n, err := transfer(unix.SYS_WRITE, fd, p)
	if err == unix.EAGAIN {
		return 0, nil
	}
	return n, err
}

func transfer(call uintptr, fd int32, p []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)))
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// acceptFrom takes the next connection. The peer's address is the zero AddrPort on a Unix socket.
func acceptFrom(listener int32) (fd int32, peer netip.AddrPort, err error) {
	var raw unix.RawSockaddrInet6 // the longest that is looked at; what is longer is cut off
	length := uint32(unsafe.Sizeof(raw))
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(listener), uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&length)),
		unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	if errno != 0 {
		return -1, netip.AddrPort{}, errno
	}
	port := func(p *uint16) uint16 { return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(p))[:]) }
	switch raw.Family {
	case unix.AF_INET:
		raw := (*unix.RawSockaddrInet4)(unsafe.Pointer(&raw))
		peer = netip.AddrPortFrom(netip.AddrFrom4(raw.Addr), port(&raw.Port))
	case unix.AF_INET6:
		peer = netip.AddrPortFrom(netip.AddrFrom16(raw.Addr).Unmap(), port(&raw.Port))
	}
	return int32(n), peer, nil
}

// poll returns the events at hand.
func poll(epfd int, events []unix.EpollEvent) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// acknowledged returns how many bytes a TCP peer has acknowledged in all, and how many the kernel still has for it; of a Unix
// socket only whether the peer has read all.
func acknowledged(fd int32) (taken, queued uint64, known bool) {
	if n, err := unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err == nil {
		queued = uint64(n)
	}
	info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, queued, false
	}
	return info.Bytes_acked, queued, true
}

// threadTime returns the processor's time that the thread has had.
func threadTime() time.Duration {
	var t unix.Timespec
	unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t)
	return time.Duration(t.Nano())
}

// connected reports whether a socket is connected. To this machine itself it often is as soon as connect returns.
func connected(fd int32) bool {
	var raw unix.RawSockaddrAny
	length := uint32(unsafe.Sizeof(raw))
	_, _, errno := unix.RawSyscall(unix.SYS_GETPEERNAME, uintptr(fd), uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&length)))
	return errno == 0
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

// hungUp reports whether the peer of a socket has ended its stream.
func hungUp(fd int32) bool {
	state := []unix.PollFd{{Fd: fd, Events: unix.POLLRDHUP}}
	n, err := unix.Poll(state, 0)
	return n > 0 && err == nil
}
