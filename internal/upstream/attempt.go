package upstream

import (
	"errors"
	"slices"
	"strings"
	"syscall"
)

// Choice is what of a request decides which server it goes to.
type Choice struct {
	// Hash is that of what the upstream goes by; without Hashed the request lacks it.
	Hash   uint64
	Hashed bool
	// Sticky is what the client's cookie names, or empty.
	Sticky string
}

// attempt is one request's way from server to server, until one takes it.
type attempt struct {
	upstream *Upstream
	choice   Choice
	tried    []*endpoint
	errs     []error // of those
	said     bool    // one of them was connected with
}

// failed notes that a server could not be used; another one's turn comes.
func (a *attempt) failed(e *endpoint, err error) {
	a.errs = append(slices.Clip(a.errs), err)
	a.tried = append(slices.Clip(a.tried), e)
}

// again has all servers be tried again.
func (a *attempt) again() { *a = attempt{upstream: a.upstream, choice: a.choice} }

// ErrNoServer says that no server of an upstream can be used, or be connected with.
var ErrNoServer = errors.New("no server is up")

// ErrTooManyHandshakes says that a handshake would have waited for longer than it may for its time, within handshakes_per_second.
var ErrTooManyHandshakes = errors.New("too many handshakes wait for the server")

// err says what went wrong with each server that was tried. What the last one did decides how the client is answered, unless there are several, of which none is
// there, or it was waited for one to come back.
func (a *attempt) err() error {
	e := &dialError{errs: a.errs}
	if len(a.errs) == 0 || !a.said && a.mayPass() && (len(a.errs) > 1 || a.upstream.Target.Hold > 0) {
		e.errs = append(slices.Clip(a.errs), ErrNoServer)
	}
	return e
}

// mayPass reports whether what went wrong may soon be over: nobody listens, or what took the connection ended.
func (a *attempt) mayPass() bool {
	for _, err := range a.errs {
		if !isAway(err) {
			return false
		}
	}
	return true
}

// isAway reports an error that a server's restart leads to, or its machine's.
func isAway(err error) bool {
	for _, number := range []error{syscall.ECONNREFUSED, syscall.ENOENT, syscall.EHOSTUNREACH, syscall.ENETUNREACH} {
		if errors.Is(err, number) {
			return true
		}
	}
	return IsSilence(err)
}

// isOurs reports an error that is no fault of a server: what this process may open has run out.
func isOurs(err error) bool {
	for _, number := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, number) {
			return true
		}
	}
	return false
}

// dialError is an upstream that can't be reached.
type dialError struct {
	errs []error
}

func (e *dialError) Error() string {
	texts := make([]string, len(e.errs))
	for i, err := range e.errs {
		texts[i] = err.Error()
	}
	return strings.Join(texts, "; ")
}

// Unwrap returns the last one, and with ErrNoServer what the last server did.
func (e *dialError) Unwrap() []error {
	last := len(e.errs) - 1
	if e.errs[last] == ErrNoServer && last > 0 {
		return e.errs[last-1:]
	}
	return e.errs[last:]
}
