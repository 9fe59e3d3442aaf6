package reactor

import (
	"errors"
	"io"
	"net"

	"golang.org/x/sys/unix"
)

const maxPipes = 16 // that a loop has at most, in use and for later

// Pipe carries bytes from one plain end to another inside the kernel. What the second end has not taken stays in it.
type Pipe struct {
	r, w int
	held int
}

// SetPipes sets how many pipes each loop may have, in use and for later; 16 are the most, and the default.
func (g *Group) SetPipes(n int) { g.pipes.Store(int32(min(n, maxPipes))) }

// errNoPipe says that all pipes hold what some peer does not take, or that the system has none that sockets can be spliced with.
var errNoPipe = errors.New("no pipe is to be had")

// Pipe returns an empty pipe, from the loop's pool where there is one. Of all that there are, peers that take nothing may hold every one:
// then it fails, as it does on systems without splice(2), and bytes are to be copied.
func (l *Loop) Pipe() (*Pipe, error) {
	if n := len(l.pipes); n > 0 {
		p := l.pipes[n-1]
		l.pipes = l.pipes[:n-1]
		return p, nil
	}
	if l.pipesMade >= int(l.group.pipes.Load()) {
		return nil, errNoPipe
	}
	p, err := newPipe()
	if err != nil {
		return nil, err
	}
	l.pipesMade++
	return p, nil
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

// Spill moves what is in the pipe to what c's peer has yet to take.
func (p *Pipe) Spill(c *Conn) error {
	if c.closed {
		return net.ErrClosed
	}
	held := make([]byte, p.held)
	for taken := 0; taken < len(held); {
		n, err := read(int32(p.r), held[taken:])
		if err != nil {
			return err
		}
		taken += n
		p.held -= n
	}
	return c.send(held)
}

func (p *Pipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}
