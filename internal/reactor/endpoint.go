package reactor

import "net"

// Endpoint is what a [Handler] reads from and writes to: a [Conn], or what behaves as one, a stream of a connection that others share. It is
// used on its loop.
type Endpoint interface {
	Loop() *Loop
	Do(f func())
	Handle(h Handler)
	Addresses() (local, remote net.Addr)
	// Plain reports whether it is a *Conn whose bytes are the descriptor's, as a splice needs it.
	Plain() bool
	SetKeepAlive(k KeepAlive)
	HungUp() bool
	Truncated() bool

	Reading() bool
	Pause()
	Resume()
	Read() ([]byte, error)
	ReadUpTo(n int) ([]byte, error)

	Write(p []byte) error
	Pending() int
	Taken() (taken, onTheWay uint64, known bool)
	WaitWritable()
	CloseWrite()
	Close() error
	Reset()
}

var _ Endpoint = (*Conn)(nil)
