package proxy

import (
	"errors"
	"slices"
	"syscall"

	"wstunnel/internal/reactor"
)

// files are the static files that are being sent.
type files struct {
	open chan struct{} // holds one for each file that stays open while a client takes it
}

// staticFile is a file that is being sent. It stays open as long as that takes if few enough are, and else is opened anew for each piece.
type staticFile struct {
	variant
	files  *files
	info   reactor.FileInfo
	rep    *representation
	file   *reactor.File // nil while it is closed
	shared shared        // who closes the file, if it is not this one's alone
	kept   bool          // counted among those that stay open
}

// shared is a file that several clients may be sent.
type shared interface {
	// readNow returns what there is at an offset, up to len(p), in p or elsewhere, or [reactor.ErrWouldWait].
	readNow(p []byte, offset int64) ([]byte, error)
	// release says that one of them needs it no longer.
	release()
}

// errFileChanged ends a response of which the rest would be another file's.
var errFileChanged = errors.New("the file was changed while it was sent")

// opening is [reactor.OpenFile] or [reactor.OpenFileNow].
type opening func(dir, name string) (*reactor.File, reactor.FileInfo, error)

// find opens a file, if it is a regular one. The directory is opened anew each time, so that a deployment may swap a link to it.
func (f *files) find(open opening, v variant) (*staticFile, error) {
	file, info, err := open(v.dir, v.path())
	if err != nil {
		return nil, err
	}
	return &staticFile{variant: v, files: f, info: info, rep: &representation{}, file: file}, nil
}

// reopen opens the file again if it was closed.
func (s *staticFile) reopen(open opening) error {
	if s.file != nil {
		return nil
	}
	file, info, err := open(s.dir, s.path())
	if err != nil {
		return err
	}
	if s.file = file; !info.Same(s.info) {
		s.close()
		return errFileChanged
	}
	return nil
}

// readAt reads a piece at an offset. It may wait for a disk.
func (s *staticFile) readAt(p []byte, offset int64) (int, error) {
	if err := s.reopen(reactor.OpenFile); err != nil {
		return 0, err
	}
	return s.file.ReadAt(p, offset)
}

// rest is called where it may be long until the next piece: the file stays open if few enough do.
func (s *staticFile) rest() {
	if s.kept || s.file == nil {
		return
	}
	select {
	case s.files.open <- struct{}{}:
		s.kept = true
	default: // those that are open may stay so for long
		s.close()
	}
}

// close closes the file.
func (s *staticFile) close() {
	switch {
	case s.file == nil:
	case s.shared != nil:
		s.shared.release()
	default:
		s.file.Close()
	}
	s.file, s.shared = nil, nil
	if s.kept {
		s.kept = false
		<-s.files.open
	}
}

// troubles are errors that say nothing about a file: descriptors or memory have run out, or the disk or what it is reached by fails.
var troubles = []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOMEM, syscall.EIO, syscall.ESTALE, syscall.ETIMEDOUT}

func isTrouble(err error) bool {
	return slices.ContainsFunc(troubles, func(trouble error) bool { return errors.Is(err, trouble) })
}
