//go:build !linux || portable

package reactor

import (
	"net/netip"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// read reads into p; a read that would block is unix.EAGAIN.
func read(fd int32, p []byte) (int, error) {
	for {
		if n, err := unix.Read(int(fd), p); err != unix.EINTR {
			return n, err
		}
	}
}

// write writes what the descriptor takes of p, which may be nothing.
func write(fd int32, p []byte) (int, error) {
	for {
		switch n, err := unix.Write(int(fd), p); err {
		case nil:
			return n, nil
		case unix.EAGAIN:
			return 0, nil
		case unix.EINTR:
		default:
			return 0, err
		}
	}
}

// receive is a read from a socket, and send a write to one.
func receive(fd int32, p []byte) (int, error) { return read(fd, p) }

func send(fd int32, p []byte) (int, error) { return write(fd, p) }

// newSocket makes a stream socket that does not block and is closed on exec.
func newSocket(family int) (int, error) {
	return private(func() (int, error) { return unix.Socket(family, unix.SOCK_STREAM, 0) })
}

// acceptFrom takes the next connection. The peer's address is the zero AddrPort on a Unix socket.
func acceptFrom(listener int32) (fd int32, peer netip.AddrPort, err error) {
	n, err := private(func() (fd int, err error) {
		var address unix.Sockaddr
		fd, address, err = unix.Accept(int(listener))
		switch a := address.(type) {
		case *unix.SockaddrInet4:
			peer = netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port))
		case *unix.SockaddrInet6:
			peer = netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), uint16(a.Port))
		}
		return fd, err
	})
	return int32(n), peer, err
}

// private makes a descriptor that no other program inherits, and that does not block.
func private(make func() (int, error)) (fd int, err error) {
	syscall.ForkLock.RLock()
	if fd, err = make(); err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return -1, err
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

// acknowledged is not known.
func acknowledged(int32) (taken, queued uint64, known bool) { return 0, 0, false }

// noDelay sets TCP_NODELAY.
func noDelay(fd int) { unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) }

// connect begins to connect a socket that does not block.
func connect(fd int, address unix.Sockaddr) error { return unix.Connect(fd, address) }

// connected reports whether a socket is connected. To this machine itself it often is as soon as connect returns.
func connected(fd int32) bool {
	_, err := unix.Getpeername(int(fd))
	return err == nil
}

// prepare leaves it to setUp to give connections TCP_NODELAY and supervision: not every system lets them inherit both.
func prepare(int, KeepAlive) (inherited bool) { return false }

// options are what supervises a TCP peer.
func (k KeepAlive) options() []option {
	return []option{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
		{unix.IPPROTO_TCP, tcpKeepIdle, int(k.Idle / time.Second)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, int(k.Interval / time.Second)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, k.Count},
	}
}

// isTCP reports whether a stream socket is one of TCP.
func isTCP(fd int) bool {
	address, err := unix.Getsockname(fd)
	if err != nil {
		return false
	}
	switch address.(type) {
	case *unix.SockaddrInet4, *unix.SockaddrInet6:
		return true
	}
	return false
}

// newPipe makes none: no call moves bytes between sockets and pipes.
func newPipe() (*Pipe, error) { return nil, errNoPipe }

func splice(from, to, n int) (int, error) { return 0, errNoPipe }
