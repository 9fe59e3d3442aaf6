package admin

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// Rights are those of the control socket's file: who may connect. What a peer may do is decided by who it is.
type Rights struct {
	Mode  os.FileMode
	Group int // -1 for the one that it is made with
}

// maxPath is sun_path of unix(7), less its NUL.
const maxPath = 107

// Socket is the control socket. It is removed when it is closed, unless another one has taken its place.
type Socket struct {
	*net.UnixListener
	path  string
	group int // that it was made with: the process's, or its directory's
	file  os.FileInfo
	once  sync.Once
}

// Listen opens the control socket at a path. It takes the place of one that nobody listens on any more and, with takeOver, of one that somebody does.
func Listen(path string, rights Rights, takeOver bool) (*Socket, error) {
	switch info, err := os.Lstat(path); {
	case err == nil && info.Mode().Type() != os.ModeSocket:
		return nil, fmt.Errorf("%s is there, and no socket", path)
	case err == nil && !takeOver:
		if conn, err := net.DialTimeout("unix", path, time.Second); err == nil {
			conn.Close()
			return nil, fmt.Errorf("another server listens on %s; give each one an admin.socket of its own", path)
		}
	}
	// Renamed into its place, it is there at every moment.
	beside := path + "." + strconv.Itoa(os.Getpid())
	if err := os.Remove(beside); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	if len(beside) > maxPath {
		return nil, fmt.Errorf("the path %s is too long for a socket; give it another one with admin.socket", path)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: beside, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	s := &Socket{UnixListener: l, path: path}
	info, err := os.Lstat(beside)
	if err == nil {
		s.group = int(info.Sys().(*syscall.Stat_t).Gid)
		err = rights.give(beside, s.group)
	}
	if err == nil {
		err = os.Rename(beside, path)
	}
	if err == nil {
		s.file, err = os.Lstat(path)
	}
	if err != nil {
		os.Remove(beside)
		l.Close()
		return nil, err
	}
	return s, nil
}

// give makes them those of a file whose group was another one before.
func (r Rights) give(path string, before int) error {
	group := r.Group
	if group < 0 {
		group = before
	}
	if err := os.Chown(path, -1, group); err != nil {
		return fmt.Errorf("%w: the server has to be a member of group %d", err, group)
	}
	return os.Chmod(path, r.Mode)
}

// Give makes them those of the socket.
func (s *Socket) Give(r Rights) error { return r.give(s.path, s.group) }

// Close ends the listening.
func (s *Socket) Close() error {
	s.once.Do(func() {
		if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.file) {
			os.Remove(s.path)
		}
	})
	return s.UnixListener.Close()
}
