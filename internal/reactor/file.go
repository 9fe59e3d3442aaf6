package reactor

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// ErrWouldWait says that a file can't be opened or read now without waiting for a disk, or that the system can't tell.
var ErrWouldWait = errors.New("the disk would have to be waited for")

// File is a regular file that is open. Whoever opened it closes it.
type File struct {
	fd   int
	file *os.File // whose descriptor fd is; nil where it was opened without the os package
}

// FileInfo says which file a name led to, and in which state it was. Where two are equal nothing has become of the file in between: not even a name
// or a right.
type FileInfo struct {
	Size     int64
	Modified time.Time
	Regular  bool // else nothing was opened
	Dir      bool
	id       fileID
}

// Same reports whether two are of the same file with the same content.
func (i FileInfo) Same(other FileInfo) bool {
	return i.id.same(other.id) && i.Size == other.Size && i.Modified.Equal(other.Modified)
}

// OpenFile opens the file of a name below a directory, with no way out of that: a link that leads outside is an error. The file is nil for what is not
// regular. It may wait for a disk.
func OpenFile(dir, name string) (*File, FileInfo, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, FileInfo{}, err
	}
	defer root.Close()
	stat, err := root.Stat(name)
	if err != nil || !stat.Mode().IsRegular() {
		return nil, infoOf(stat), err
	}
	file, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0) // it may be a named pipe by now, whose other end would be waited for
	if err != nil {
		return nil, FileInfo{}, err
	}
	if stat, err = file.Stat(); err != nil || !stat.Mode().IsRegular() {
		file.Close()
		return nil, infoOf(stat), err
	}
	return &File{fd: int(file.Fd()), file: file}, infoOf(stat), nil
}

// StatFile says what a name below a directory leads to, with no way out of that. Nobody needs the right to read it. It may wait for a disk.
func StatFile(dir, name string) (FileInfo, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return FileInfo{}, err
	}
	defer root.Close()
	stat, err := root.Stat(name)
	return infoOf(stat), err
}

// RealPath returns a path without the links in it. It may wait for a disk.
func RealPath(path string) (string, error) { return filepath.EvalSymlinks(path) }

// TempFile makes an empty file for reading and writing below a directory, where it has no name by the time that it is returned. It may wait for a disk.
func TempFile(dir string) (*File, error) {
	file, err := os.CreateTemp(dir, "wstunnel-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		file.Close()
		return nil, err
	}
	return &File{fd: int(file.Fd()), file: file}, nil
}

// WriteAt writes p at an offset of a file that [TempFile] made. It may wait for a disk.
func (f *File) WriteAt(p []byte, offset int64) error {
	_, err := f.file.WriteAt(p, offset)
	return err
}

func infoOf(stat os.FileInfo) FileInfo {
	if stat == nil {
		return FileInfo{}
	}
	return FileInfo{Size: stat.Size(), Modified: stat.ModTime(), Regular: stat.Mode().IsRegular(), Dir: stat.IsDir(), id: fileIDOf(stat)}
}
