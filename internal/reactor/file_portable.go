//go:build !linux || portable

package reactor

import "os"

type fileID struct{ stat os.FileInfo }

func (id fileID) same(other fileID) bool { return os.SameFile(id.stat, other.stat) }

func fileIDOf(stat os.FileInfo) fileID { return fileID{stat} }

// OpenFileNow is [OpenFile] for a loop. No other system than Linux can tell whether it would wait.
func OpenFileNow(string, string) (*File, FileInfo, error) { return nil, FileInfo{}, ErrWouldWait }

// StatFileNow is [StatFile] for a loop.
func StatFileNow(string, string) (FileInfo, error) { return FileInfo{}, ErrWouldWait }

// RealPathNow is [RealPath] for a loop.
func RealPathNow(string) (string, error) { return "", ErrWouldWait }

// Stat returns the state that the file is in now.
func (f *File) Stat() (FileInfo, error) {
	stat, err := f.file.Stat()
	return infoOf(stat), err
}

// ReadAt reads what there is at an offset, up to len(p); io.EOF at the file's end. It may wait for a disk.
func (f *File) ReadAt(p []byte, offset int64) (int, error) {
	n, err := f.file.ReadAt(p, offset)
	if n > 0 {
		err = nil
	}
	return n, err
}

// ReadNow is [File.ReadAt] of what is in the system's cache.
func (f *File) ReadNow([]byte, int64) (int, error) { return 0, ErrWouldWait }

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// sendFile and writeMore are not called, since nothing is known to be in the system's cache.
func sendFile(int32, *File, int64, int) (int, error) { return 0, ErrWouldWait }

func writeMore(int32, []byte) (int, error) { return 0, nil }
