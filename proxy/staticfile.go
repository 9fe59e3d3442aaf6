package proxy

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"syscall"
)

// files opens static files within the descriptors that there are for them.
type files struct {
	opening chan struct{} // holds one for each opening under way, which takes two descriptors
	open    chan struct{} // and one for each file that stays open while a client takes it
}

// staticFile is a regular file that is being sent.
type staticFile struct {
	content io.ReadSeeker
	info    fs.FileInfo
	close   func()
}

// find looks a name up below a directory, and opens it if it is a regular file; else the staticFile has no content. The directory is
// opened anew for each request, so that a deployment may swap a link to it.
func (f *files) find(dir, name string) (*staticFile, error) {
	f.opening <- struct{}{}
	defer func() { <-f.opening }()
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	info, err := root.Stat(path.Join(".", name)) // before Open, which would wait for a named pipe's other end
	if err != nil || !info.Mode().IsRegular() {
		return &staticFile{info: info}, err
	}
	file, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	select {
	case f.open <- struct{}{}:
		return &staticFile{content: file, info: info, close: func() {
			file.Close()
			<-f.open
		}}, nil
	default: // those that are open may stay so for long
		file.Close()
		return &staticFile{content: &pieces{files: f, dir: dir, name: name, info: info}, info: info, close: func() {}}, nil
	}
}

// pieces reads a file that is open only while a piece is read.
type pieces struct {
	files     *files
	dir, name string
	info      fs.FileInfo
	at        int64
}

// errFileChanged ends a response of which the rest would be another file's.
var errFileChanged = errors.New("the file was changed while it was sent")

func (p *pieces) Read(b []byte) (int, error) {
	p.files.opening <- struct{}{}
	defer func() { <-p.files.opening }()
	root, err := os.OpenRoot(p.dir)
	if err != nil {
		return 0, err
	}
	defer root.Close()
	file, err := root.Open(p.name)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return 0, err
	}
	if !os.SameFile(info, p.info) || info.Size() != p.info.Size() || !info.ModTime().Equal(p.info.ModTime()) {
		return 0, errFileChanged
	}
	n, err := file.ReadAt(b, p.at)
	p.at += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

// Seek implements [io.Seeker].
func (p *pieces) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += p.at
	case io.SeekEnd:
		offset += p.info.Size()
	}
	if offset < 0 {
		return 0, fs.ErrInvalid
	}
	p.at = offset
	return offset, nil
}

// isTrouble reports an error that says nothing about the file: descriptors have run out, or the disk fails.
func isTrouble(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) || errors.Is(err, syscall.EIO)
}
