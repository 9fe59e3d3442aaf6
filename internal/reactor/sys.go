//go:build linux

package reactor

import (
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

// poll returns the events at hand.
func poll(epfd int, events []unix.EpollEvent) int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
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
