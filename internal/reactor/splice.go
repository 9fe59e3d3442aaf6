//go:build linux

package reactor

import (
	"errors"
	"io"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

const (
	maxPipes = 16        // that a loop has at most, in use and for later
	pipeSize = 256 << 10 // asked for; the kernel may grant less
)

// Pipe carries bytes from one plain end to another inside the kernel. What the second end has not taken stays in it.
type Pipe struct {
	r, w int
	held int
}

// SetPipes sets how many pipes each loop may have, in use and for later; 16 are the most, and the default.
func (g *Group) SetPipes(n int) { g.pipes.Store(int32(min(n, maxPipes))) }

// errNoPipe says that all pipes hold what some peer does not take.
var errNoPipe = errors.New("all pipes are in use")

// Pipe returns an empty pipe, from the loop's pool where there is one. Of all that there are, peers that take nothing may hold every one:
// then it fails, and bytes are to be copied.
func (l *Loop) Pipe() (*Pipe, error) {
	if n := len(l.pipes); n > 0 {
		p := l.pipes[n-1]
		l.pipes = l.pipes[:n-1]
		return p, nil
	}
	if l.pipesMade >= int(l.group.pipes.Load()) {
		return nil, errNoPipe
	}
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		return nil, os.NewSyscallError("pipe2", err)
	}
	l.pipesMade++
	unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize)
	return &Pipe{r: fds[0], w: fds[1]}, nil
}

// PutPipe gives p back. One that still holds bytes is closed with them.
func (l *Loop) PutPipe(p *Pipe) {
	if p.held > 0 {
		p.close()
		l.pipesMade--
		return
	}
	l.pipes = append(l.pipes, p)
}

// Held returns the number of bytes in the pipe.
func (p *Pipe) Held() int { return p.held }

// Fill moves at most n bytes from c into the pipe: none if none have come or the pipe is full, and io.EOF at the
// end of the stream.
func (p *Pipe) Fill(c *Conn, n int) (int, error) {
	if c.closed {
		return 0, net.ErrClosed
	}
	moved, err := splice(int(c.fd), p.w, n)
	if err != nil {
		return 0, err
	}
	if moved == 0 {
		return 0, io.EOF
	}
	if moved < 0 {
		return 0, nil
	}
	p.held += moved
	return moved, nil
}

// FillFile moves at most n bytes from a file, from its offset on, into the pipe; io.EOF at its end. It waits for the disk, and so is to be called on a
// goroutine, to which the pipe belongs meanwhile.
func (p *Pipe) FillFile(file *os.File, n int) (int, error) {
	moved, err := unix.Splice(int(file.Fd()), nil, p.w, nil, n, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
	switch {
	case err == unix.EINTR || err == unix.EAGAIN:
		return 0, nil
	case err != nil:
		return 0, os.NewSyscallError("splice", err)
	case moved == 0:
		return 0, io.EOF
	}
	p.held += int(moved)
	return int(moved), nil
}

// Drain moves what c takes out of the pipe.
func (p *Pipe) Drain(c *Conn) error {
	for p.held > 0 {
		if c.closed {
			return net.ErrClosed
		}
		moved, err := splice(p.r, int(c.fd), p.held)
		if err != nil {
			return err
		}
		if moved <= 0 {
			return nil
		}
		p.held -= moved
	}
	return nil
}

// splice returns -1 where it would block.
func splice(from, to, n int) (int, error) {
	for {
		moved, err := unix.Splice(from, nil, to, nil, n, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		switch err {
		case nil:
			return int(moved), nil
		case unix.EAGAIN:
			return -1, nil
		case unix.EINTR:
		default:
			return 0, os.NewSyscallError("splice", err)
		}
	}
}

func (p *Pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}
