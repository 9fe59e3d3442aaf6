//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package tls

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// errLocked says that another process, or another order of this one, holds a lock.
var errLocked = errors.New("locked by another process")

// lock takes the lock of a name without waiting. It ends with the process, however that ends; the file stays, since removing it
// would let two processes hold two files of one name.
func (s storage) lock(name string) (unlock func(), err error) {
	f, err := os.OpenFile(s.file("locks", name), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		switch err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err {
		case nil:
			return func() { f.Close() }, nil
		case unix.EINTR:
			continue
		case unix.EWOULDBLOCK:
			err = errLocked
		}
		f.Close()
		return nil, err
	}
}
