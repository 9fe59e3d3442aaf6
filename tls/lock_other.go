//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package tls

import "errors"

// errLocked is never returned here.
var errLocked = errors.New("locked by another process")

// lock does nothing: on this system processes cannot share a storage.
func (s storage) lock(string) (unlock func(), err error) { return func() {}, nil }
