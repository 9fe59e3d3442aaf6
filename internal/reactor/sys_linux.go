//go:build !portable

package reactor

import (
	"encoding/binary"
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls here never block, so they are made without telling Go's scheduler.

// read reads into p; a read that would block is unix.EAGAIN.
func read(fd int32, p []byte) (int, error) {
	return transfer(unix.SYS_READ, fd, p, 0)
}

// write writes what the descriptor takes of p, which may be nothing.
func write(fd int32, p []byte) (int, error) {
	n, err := transfer(unix.SYS_WRITE, fd, p, 0)
	if err == unix.EAGAIN {
		return 0, nil
	}
	return n, err
}

// receive is a read from a socket, and send a write to one, which cost the kernel a little less.
func receive(fd int32, p []byte) (int, error) {
	return transfer(unix.SYS_RECVFROM, fd, p, 0)
}

func send(fd int32, p []byte) (int, error) {
	n, err := transfer(unix.SYS_SENDTO, fd, p, unix.MSG_NOSIGNAL)
	if err == unix.EAGAIN {
		return 0, nil
	}
	return n, err
}

func transfer(call uintptr, fd int32, p []byte, flags uintptr) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), flags, 0, 0)
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

// noDelay sets TCP_NODELAY.
func noDelay(fd int) {
	on := int32(1)
	unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, uintptr(unsafe.Pointer(&on)), unsafe.Sizeof(on), 0)
}

// connect begins to connect a socket that does not block.
func connect(fd int, address unix.Sockaddr) error {
	var errno unix.Errno
	switch to := address.(type) {
	case *unix.SockaddrInet4:
		raw := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkOrder(to.Port), Addr: to.Addr}
		_, _, errno = unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&raw)), unsafe.Sizeof(raw))
	case *unix.SockaddrInet6:
		raw := unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: networkOrder(to.Port), Addr: to.Addr, Scope_id: to.ZoneId}
		_, _, errno = unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&raw)), unsafe.Sizeof(raw))
	default:
		return unix.Connect(fd, address)
	}
	if errno != 0 {
		return errno
	}
	return nil
}

// networkOrder returns a port as it stands in an address.
func networkOrder(port int) (raw uint16) {
	binary.BigEndian.PutUint16((*[2]byte)(unsafe.Pointer(&raw))[:], uint16(port))
	return raw
}

// connected reports whether a socket is connected. To this machine itself it often is as soon as connect returns.
func connected(fd int32) bool {
	var raw unix.RawSockaddrAny
	length := uint32(unsafe.Sizeof(raw))
	_, _, errno := unix.RawSyscall(unix.SYS_GETPEERNAME, uintptr(fd), uintptr(unsafe.Pointer(&raw)), uintptr(unsafe.Pointer(&length)))
	return errno == 0
}

// newSocket makes a stream socket that does not block and is closed on exec.
func newSocket(family int) (int, error) {
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
}

// prepare sets on a listening socket what the connections that it accepts are to have: TCP_NODELAY, and supervision. It reports
// whether they will have it. Those of a multipath TCP socket do not inherit it.
func prepare(fd int, k KeepAlive) (inherited bool) {
	return protocol(fd) == unix.IPPROTO_TCP && setUp(fd, k) == nil
}

// options are what supervises a TCP peer.
func (k KeepAlive) options() []option {
	gone := k.Idle + time.Duration(k.Count)*k.Interval
	return []option{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, int(k.Idle / time.Second)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(k.Interval / time.Second)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, k.Count},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(gone / time.Millisecond)},
	}
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

const pipeSize = 256 << 10 // asked for; the kernel may grant less

func newPipe() (*Pipe, error) {
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize)
	return &Pipe{r: fds[0], w: fds[1]}, nil
}

// splice returns -1 where it would block.
func splice(from, to, n int) (int, error) {
	for {
		moved, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		switch errno {
		case 0:
			return int(moved), nil
		case unix.EAGAIN:
			return -1, nil
		case unix.EINTR:
		default:
			return 0, os.NewSyscallError("splice", errno)
		}
	}
}
