//go:build !portable

package reactor

import (
	"io"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

type fileID struct {
	device, inode uint64
	changed       int64 // when anything of it was changed, names and rights included; in nanoseconds
}

func (id fileID) same(other fileID) bool { return id.device == other.device && id.inode == other.inode }

func fileIDOf(stat os.FileInfo) fileID {
	sys := stat.Sys().(*syscall.Stat_t)
	return fileID{device: uint64(sys.Dev), inode: sys.Ino}
}

// resolveCached fails where a name is not in the kernel's cache of names (Linux 5.12).
const resolveCached = 0x20

// local are file systems of which opening a file that is in the kernel's cache asks nobody else.
var local = map[uint32]bool{
	unix.EXT4_SUPER_MAGIC: true, unix.XFS_SUPER_MAGIC: true, unix.BTRFS_SUPER_MAGIC: true, unix.F2FS_SUPER_MAGIC: true,
	unix.TMPFS_MAGIC: true, unix.RAMFS_MAGIC: true, unix.OVERLAYFS_SUPER_MAGIC: true, unix.SQUASHFS_MAGIC: true,
	unix.EROFS_SUPER_MAGIC_V1: true, zfsMagic: true, bcachefsMagic: true,
}

const (
	zfsMagic      = 0x2fc12fc1
	bcachefsMagic = 0xca451a4e
)

// OpenFileNow is [OpenFile] for a loop: what would have to wait, or goes wrong but for a name that does not exist, is ErrWouldWait, and OpenFile finds
// out about it.
func OpenFileNow(dir, name string) (*File, FileInfo, error) {
	fd, err := openBelow(dir, name, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, FileInfo{}, err
	}
	file := &File{fd: fd}
	info, err := file.Stat()
	if err != nil {
		file.Close()
		return nil, FileInfo{}, ErrWouldWait
	}
	if !info.Regular {
		file.Close()
		return nil, info, nil
	}
	return file, info, nil
}

// StatFileNow is [StatFile] for a loop, as OpenFileNow is OpenFile.
func StatFileNow(dir, name string) (FileInfo, error) {
	fd, err := openBelow(dir, name, unix.O_PATH)
	if err != nil {
		return FileInfo{}, err
	}
	defer unix.Close(fd)
	info, err := (&File{fd: fd}).Stat()
	if err != nil {
		return FileInfo{}, ErrWouldWait
	}
	return info, nil
}

// openBelow opens a name below a directory, if that needs no disk.
func openBelow(dir, name string, flags uint64) (fd int, err error) {
	root, err := unix.Openat2(unix.AT_FDCWD, dir, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: resolveCached,
	})
	if err != nil {
		return -1, ErrWouldWait
	}
	defer unix.Close(root)
	var system unix.Statfs_t
	if err := unix.Fstatfs(root, &system); err != nil || !local[uint32(system.Type)] {
		return -1, ErrWouldWait
	}
	fd, err = unix.Openat2(root, name, &unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC,
		Resolve: resolveCached | unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS | unix.RESOLVE_NO_XDEV,
	})
	switch err {
	case nil, unix.ENOENT, unix.ENOTDIR:
		return fd, err
	}
	return -1, ErrWouldWait
}

// RealPathNow is [RealPath] for a loop: ErrWouldWait where a disk would have to be waited for, or something is wrong.
func RealPathNow(path string) (string, error) {
	fd, err := unix.Openat2(unix.AT_FDCWD, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolveCached})
	if err != nil {
		return "", ErrWouldWait
	}
	defer unix.Close(fd)
	name := make([]byte, unix.PathMax)
	n, err := unix.Readlink("/proc/self/fd/"+strconv.Itoa(fd), name)
	if err != nil || n == len(name) {
		return "", ErrWouldWait
	}
	return string(name[:n]), nil
}

// Stat returns the state that the file is in now. Of a file that [OpenFileNow] has opened it does not wait.
func (f *File) Stat() (FileInfo, error) {
	var stat unix.Stat_t
	if err := unix.Fstat(f.fd, &stat); err != nil {
		return FileInfo{}, os.NewSyscallError("fstat", err)
	}
	kind := stat.Mode & unix.S_IFMT
	return FileInfo{
		Size: stat.Size, Modified: time.Unix(stat.Mtim.Unix()), Regular: kind == unix.S_IFREG, Dir: kind == unix.S_IFDIR,
		id: fileID{uint64(stat.Dev), stat.Ino, stat.Ctim.Nano()},
	}, nil
}

// ReadAt reads what there is at an offset, up to len(p); io.EOF at the file's end. It may wait for a disk.
func (f *File) ReadAt(p []byte, offset int64) (int, error) {
	for {
		n, err := unix.Pread(f.fd, p, offset)
		if err != unix.EINTR {
			return ended(n, err)
		}
	}
}

// ReadNow is [File.ReadAt] of what is in the kernel's cache: ErrWouldWait if there is nothing.
func (f *File) ReadNow(p []byte, offset int64) (int, error) {
	n, err := unix.Preadv2(f.fd, [][]byte{p}, offset, unix.RWF_NOWAIT)
	switch err {
	case unix.EAGAIN, unix.EINTR, unix.EOPNOTSUPP, unix.ENOSYS, unix.EPERM:
		return 0, ErrWouldWait
	}
	return ended(n, err)
}

// ended makes an error of a file's end, as the io package has it.
func ended(n int, err error) (int, error) {
	switch {
	case err != nil:
		return 0, os.NewSyscallError("read", err)
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// Close closes the file.
func (f *File) Close() error {
	if f.file != nil {
		return f.file.Close()
	}
	return unix.Close(f.fd)
}

// sendFile sends what a socket takes of a part of a file.
func sendFile(to int32, f *File, offset int64, n int) (int, error) {
	return unix.Sendfile(int(to), f.fd, &offset, n)
}

// writeMore writes what a socket takes of p, which is followed at once by more.
func writeMore(fd int32, p []byte) (int, error) {
	n, err := unix.SendmsgN(int(fd), p, nil, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL)
	if err == unix.EAGAIN || err == unix.EINTR {
		return 0, nil
	}
	return n, err
}
