package static

import (
	"errors"
	"slices"
	"syscall"
	"time"

	"wstunnel/internal/reactor"
)

// Files are the static files of a process that are being sent. They are safe for concurrent use.
type Files struct {
	open chan struct{} // holds one for each file that stays open while a client takes it
}

// NewFiles returns files of which so many may stay open while their clients take them.
func NewFiles(open int) *Files { return &Files{open: make(chan struct{}, open)} }

// File is a file that is being sent. It stays open as long as that takes if few enough are, and else is opened anew for each piece.
type File struct {
	Variant
	Info   reactor.FileInfo
	files  *Files
	rep    *Representation
	file   *reactor.File // nil while it is closed
	shared *recentFile   // who closes the file, if it is not this one's alone
	kept   bool          // counted among those that stay open
}

// ErrChanged ends a response of which the rest would be another file's.
var ErrChanged = errors.New("the file was changed while it was sent")

// opening is [reactor.OpenFile] or [reactor.OpenFileNow].
type opening func(dir, name string) (*reactor.File, reactor.FileInfo, error)

// Find opens a file, if it is a regular one. The directory is opened anew each time, so that a deployment may swap a link to it. It may wait for a disk.
func (f *Files) Find(v Variant) (*File, error) { return f.find(reactor.OpenFile, v) }

// FindNow is Find for a loop, with the files that it has found lately: [reactor.ErrWouldWait] where it would have to wait.
func (f *Files) FindNow(recent *Recent, v Variant) (*File, error) {
	if known := recent.find(v); known != nil {
		return &File{Variant: v, files: f, Info: known.info, rep: &known.rep, file: known.file, shared: known}, nil
	}
	file, err := f.find(reactor.OpenFileNow, v)
	if err != nil || file.file == nil {
		return file, err
	}
	if known := recent.add(v, file.file, file.Info); known != nil {
		file.shared, file.rep = known, &known.rep
	}
	return file, nil
}

func (f *Files) find(open opening, v Variant) (*File, error) {
	file, info, err := open(v.dir, v.path())
	if err != nil {
		return nil, err
	}
	return &File{Variant: v, files: f, Info: info, rep: &Representation{}, file: file}, nil
}

// Representation returns the file as HTTP sees it now.
func (s *File) Representation(now time.Time) *Representation {
	if s.rep.tag == "" {
		*s.rep = newRepresentation(s.Variant, s.Info.Size, s.Info.Modified, now)
	}
	return s.rep
}

// Opened returns the file for [session.Client.SendFile]; it stays this one's. It is nil while it is closed.
func (s *File) Opened() *reactor.File { return s.file }

// OpenNow opens the file again if it was closed, without waiting for a disk.
func (s *File) OpenNow() error { return s.reopen(reactor.OpenFileNow) }

// reopen opens the file again if it was closed.
func (s *File) reopen(open opening) error {
	if s.file != nil {
		return nil
	}
	file, info, err := open(s.dir, s.path())
	if err != nil {
		return err
	}
	if s.file = file; !info.Same(s.Info) {
		s.Close()
		return ErrChanged
	}
	return nil
}

// ReadAt reads a piece at an offset. It may wait for a disk.
func (s *File) ReadAt(p []byte, offset int64) (int, error) {
	if err := s.reopen(reactor.OpenFile); err != nil {
		return 0, err
	}
	return s.file.ReadAt(p, offset)
}

// ReadNow returns a piece at an offset of a file that is open, up to len(p), in p or elsewhere, or [reactor.ErrWouldWait].
func (s *File) ReadNow(p []byte, offset int64) ([]byte, error) {
	if s.shared != nil {
		return s.shared.readNow(p, offset)
	}
	n, err := s.file.ReadNow(p, offset)
	return p[:n], err
}

// Rest is called where it may be long until the next piece: the file stays open if few enough do.
func (s *File) Rest() {
	if s.kept || s.file == nil {
		return
	}
	select {
	case s.files.open <- struct{}{}:
		s.kept = true
	default: // those that are open may stay so for long
		s.Close()
	}
}

// Close closes the file.
func (s *File) Close() {
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

// IsTrouble reports such an error.
func IsTrouble(err error) bool {
	return slices.ContainsFunc(troubles, func(trouble error) bool { return errors.Is(err, trouble) })
}
