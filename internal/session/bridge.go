package session

import (
	"bytes"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"wstunnel/internal/reactor"
)

// Of what comes over a bridge, maxAhead waits to be read at most; the loop reads on when half of that is left. What is written
// goes to the loop a bridgePiece at a time.
const bridgePiece = 64 << 10

// Bridge is a net.Conn over an endpoint on a loop, for code that reads and writes on goroutines of its own. A Write returns when
// the system has taken all of p; of one that runs out of time a bridgePiece at most is still on its way.
type Bridge struct {
	conn          reactor.Endpoint // belongs to the loop
	local, remote net.Addr

	reading, writing sync.Mutex // held by who does
	readBy, writeBy  deadline
	arrived          chan struct{} // has room for one: something came, or the end
	taken            chan struct{} // has room for one: what was offered has left, or never will
	closed           chan struct{}
	closing          sync.Once

	mu      sync.Mutex   // guards what follows
	came    bytes.Buffer // and is yet to be read
	paused  bool         // as much as may wait has come
	end     error        // behind what came; nil while more may come
	offered []byte       // to the loop, by who writes
	leaving bool         // what was offered last has yet to leave
	broken  error        // why nothing can be written any more
	ended   bool         // the stream to the peer
}

// NewBridge takes over a connection, on its loop, with what was read of it already.
func NewBridge(conn reactor.Endpoint, early []byte) *Bridge {
	clock := conn.Loop().Clock()
	b := &Bridge{
		conn: conn, readBy: newDeadline(clock), writeBy: newDeadline(clock),
		arrived: make(chan struct{}, 1), taken: make(chan struct{}, 1), closed: make(chan struct{}),
	}
	b.local, b.remote = conn.Addresses()
	b.came.Write(early)
	conn.Handle(b)
	if b.paused = len(early) > maxAhead/2; !b.paused {
		conn.Resume()
	}
	return b
}

// Read reads what has come.
func (b *Bridge) Read(p []byte) (int, error) {
	b.reading.Lock()
	defer b.reading.Unlock()
	for {
		late := b.readBy.passed()
		if err := b.outOfUse(late); err != nil {
			return 0, err
		}
		if n, err := b.take(p); n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		select {
		case <-b.arrived:
		case <-late:
		case <-b.closed:
		}
	}
}

// outOfUse returns why nothing can be done: the bridge was closed, or it is late.
func (b *Bridge) outOfUse(late <-chan struct{}) error {
	select {
	case <-b.closed:
		return net.ErrClosed
	default:
	}
	select {
	case <-late:
		return os.ErrDeadlineExceeded
	default:
		return nil
	}
}

// take takes what has come, and lets more come.
func (b *Bridge) take(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.came.Len() == 0 {
		return 0, b.end
	}
	n, _ := b.came.Read(p)
	if b.came.Len() == 0 && b.came.Cap() > bytes.MinRead {
		b.came = bytes.Buffer{} // an idle one keeps no more
	}
	if b.paused && b.came.Len() <= maxAhead/2 {
		b.paused = false
		b.post(b.conn.Resume)
	}
	return n, nil
}

// post runs f on the loop; it reports false where that has ended.
func (b *Bridge) post(f func()) bool {
	return b.conn.Loop().Post(func() { b.conn.Do(f) })
}

// Readable keeps what came for whoever reads.
func (b *Bridge) Readable(*reactor.Conn) {
	b.mu.Lock()
	room := maxAhead - b.came.Len()
	b.mu.Unlock()
	p, err := b.conn.ReadUpTo(room)
	switch {
	case err == io.EOF && b.conn.Truncated():
		err = io.ErrUnexpectedEOF
	case err == nil && len(p) == 0:
		return
	}
	b.receive(p, err)
}

// receive takes a piece of the peer's stream, or its end.
func (b *Bridge) receive(p []byte, end error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.came.Write(p)
	b.end = end
	b.paused = end == nil && b.came.Len() > maxAhead/2
	if b.paused || end != nil {
		b.conn.Pause()
	}
	signal(b.arrived)
}

// Write writes p.
func (b *Bridge) Write(p []byte) (n int, err error) {
	b.writing.Lock()
	defer b.writing.Unlock()
	for err = b.awaitTaken(); err == nil && n < len(p); {
		piece := p[n:min(n+bridgePiece, len(p))]
		if err = b.offer(piece); err != nil {
			return n, err
		}
		err = b.awaitTaken()
		n += len(piece) - b.withdraw()
	}
	return n, err
}

// offer lets the loop have p.
func (b *Bridge) offer(p []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.offered = p
	if b.ended || !b.post(b.flush) {
		b.offered = nil
		return net.ErrClosed
	}
	return nil
}

// awaitTaken waits until the peer's system has all that was offered.
func (b *Bridge) awaitTaken() error {
	for {
		late := b.writeBy.passed()
		if err := b.outOfUse(late); err != nil {
			return err
		}
		if taken, err := b.isTaken(); taken || err != nil {
			return err
		}
		select {
		case <-b.taken:
		case <-late:
		case <-b.closed:
		}
	}
}

func (b *Bridge) isTaken() (bool, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.offered == nil && !b.leaving, b.broken
}

// withdraw takes back what the loop has not looked at, and returns how much that is.
func (b *Bridge) withdraw() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.offered)
	b.offered = nil
	return n
}

// flush writes what was offered, on the loop.
func (b *Bridge) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.offered == nil {
		return
	}
	err := b.conn.Write(b.offered)
	b.offered, b.leaving = nil, true
	if err != nil || b.conn.Pending() == 0 {
		b.left(err)
	}
}

// left says that what was offered has left, or why it can't. It is called with mu held.
func (b *Bridge) left(err error) {
	b.leaving = false
	if b.broken == nil {
		b.broken = err
	}
	signal(b.taken)
}

// Drained says that the peer's system has taken all that was written.
func (b *Bridge) Drained(*reactor.Conn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left(nil)
}

// Failed ends the connection.
func (b *Bridge) Failed(_ *reactor.Conn, err error) {
	b.conn.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.end == nil {
		b.end = err
	}
	signal(b.arrived)
	b.left(err)
}

// signal wakes who waits for c, or will.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// HungUp reports whether the peer has ended its stream, be it behind bytes that are yet to be read.
func (b *Bridge) HungUp() bool {
	answer := make(chan bool, 1)
	return !b.post(func() { answer <- b.conn.HungUp() }) || <-answer
}

// CloseWrite ends the stream to the peer behind what was written.
func (b *Bridge) CloseWrite() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	b.post(b.conn.CloseWrite)
	return nil
}

// Close closes the connection. Whoever reads or writes is told.
func (b *Bridge) Close() error {
	err := net.ErrClosed
	b.closing.Do(func() {
		close(b.closed)
		b.post(func() { b.conn.Close() })
		err = nil
	})
	return err
}

// LocalAddr returns the address of this end.
func (b *Bridge) LocalAddr() net.Addr { return b.local }

// RemoteAddr returns the address of the peer.
func (b *Bridge) RemoteAddr() net.Addr { return b.remote }

// SetDeadline bounds reads and writes, those under way included, by a time on the loop's clock.
func (b *Bridge) SetDeadline(t time.Time) error {
	b.readBy.set(t)
	b.writeBy.set(t)
	return nil
}

// SetReadDeadline bounds reads.
func (b *Bridge) SetReadDeadline(t time.Time) error {
	b.readBy.set(t)
	return nil
}

// SetWriteDeadline bounds writes.
func (b *Bridge) SetWriteDeadline(t time.Time) error {
	b.writeBy.set(t)
	return nil
}

// deadline is a time that can be moved.
type deadline struct {
	mu    sync.Mutex
	clock *reactor.Clock
	timer *reactor.Alarm // nil where none runs
	past  chan struct{}  // closed once the time has come
}

func newDeadline(clock *reactor.Clock) deadline {
	return deadline{clock: clock, past: make(chan struct{})}
}

// passed returns what is closed when the time has come.
func (d *deadline) passed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.past
}

func (d *deadline) set(t time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
	select {
	case <-d.past:
		d.past = make(chan struct{})
	default:
	}
	if t.IsZero() {
		return
	}
	wait := t.Sub(d.clock.Now())
	if wait <= 0 {
		close(d.past)
		return
	}
	var timer *reactor.Alarm
	timer = d.clock.AfterFunc(wait, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.timer == timer {
			d.timer = nil
			close(d.past)
		}
	})
	d.timer = timer
}
