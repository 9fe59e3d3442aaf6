package reactor

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Adoptable reports whether [Adopt] takes conn: a *net.TCPConn, a *net.UnixConn, or a *tls.Conn over a [Transport]
// over one of these.
func Adoptable(conn net.Conn) bool {
	if secure, ok := conn.(*tls.Conn); ok {
		t, ok := secure.NetConn().(*Transport)
		if !ok || t.blocking == nil {
			return false
		}
		conn = t.blocking
	}
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn:
		return true
	}
	return false
}

// Adopt takes conn over from the net package, for [Loop.Add]. Of a *tls.Conn the handshake must be done. The caller must not
// touch conn any more, and nobody may be reading or writing. If Adopt fails, conn is as it was. It is
// safe on any goroutine.
func Adopt(conn net.Conn) (*Conn, error) {
	if !Adoptable(conn) {
		return nil, fmt.Errorf("a %T can't be put on an event loop", conn)
	}
	secure, isTLS := conn.(*tls.Conn)
	var transport *Transport
	if isTLS {
		transport = secure.NetConn().(*Transport)
		conn = transport.blocking
	}
	fd, err := duplicate(conn.(syscall.Conn))
	if err != nil {
		return nil, err
	}
	// The net package's own descriptor would wake its poller for every event.
	conn.Close()
	c := &Conn{fd: fd}
	if isTLS {
		transport.toLoop(c, secure)
	}
	return c, nil
}

// duplicate returns another descriptor of conn's. File and Fd would make it blocking.
func duplicate(conn syscall.Conn) (int32, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return 0, err
	}
	var dup int
	var dupErr error
	err = raw.Control(func(fd uintptr) {
		dup, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)
	})
	if err != nil {
		return 0, err
	}
	return int32(dup), os.NewSyscallError("dup", dupErr)
}
