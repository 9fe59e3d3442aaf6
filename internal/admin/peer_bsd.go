//go:build darwin || freebsd

package admin

import (
	"net"

	"golang.org/x/sys/unix"
)

// solLocal is the level of the options of Unix sockets.
const solLocal = 0

// peerUID returns the user of the process that has connected.
func peerUID(conn *net.UnixConn) (uid uint32, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Xucred
	if failed := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptXucred(int(fd), solLocal, unix.LOCAL_PEERCRED) }); failed != nil {
		return 0, failed
	}
	if err != nil {
		return 0, err
	}
	return cred.Uid, nil
}
