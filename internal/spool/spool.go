// Package spool keeps, in temporary files that have no name, what one end of an exchange has sent and the other does not take yet. Nothing of it waits for a
// disk on an event loop.
package spool

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"wstunnel/internal/reactor"
	"wstunnel/internal/session"
)

// Place is where the files of a process are. It is safe for concurrent use.
type Place struct {
	Dir string
	// Limit returns how many bytes all files may hold together.
	Limit func() int64
	// TooMany reports whether so many files are too many.
	TooMany func(files int64) bool
	// Complain is told why nothing can be written, once a minute at most.
	Complain func(err error)

	used, files atomic.Int64
	complained  atomic.Int64 // when, on the loops' clock; 0 for never
}

// Used returns how many bytes the files hold, and how many there are.
func (p *Place) Used() (bytes, files int64) { return p.used.Load(), p.files.Load() }

func (p *Place) complain(now time.Duration, err error) {
	last := p.complained.Load()
	if (last == 0 || now-time.Duration(last) >= time.Minute) && p.complained.CompareAndSwap(last, max(1, int64(now))) {
		p.Complain(err)
	}
}

// temporary is a file of a place. Its spool and each goroutine that works on it let go of it; the last one closes it.
type temporary struct {
	place *Place
	file  *reactor.File // nil before something was written
	size  atomic.Int64  // what of it is counted in its place
	users atomic.Int32
}

var errTooManyFiles = errors.New("too many temporary files are open")

// write writes behind what was written before. It may wait for a disk.
func (t *temporary) write(p []byte) (err error) {
	if t.file == nil {
		if t.place.TooMany(t.place.files.Add(1)) {
			err = errTooManyFiles
		} else {
			t.file, err = reactor.TempFile(t.place.Dir)
		}
		if err != nil {
			t.place.files.Add(-1)
		}
	}
	if err == nil {
		err = t.file.WriteAt(p, t.size.Load())
	}
	if err != nil {
		t.place.used.Add(-int64(len(p)))
		return fmt.Errorf("writing a temporary file: %w", err)
	}
	t.size.Add(int64(len(p)))
	return nil
}

// leave lets go of the file. Closing one that is large takes a while.
func (t *temporary) leave() {
	if t.users.Add(-1) == 0 && t.file != nil {
		t.file.Close()
		t.place.used.Add(-t.size.Load())
		t.place.files.Add(-1)
	}
}

// Of what is to be written, so much is collected first, unless memory is scarce; twice as much waits at most before its sender is to stop.
const pieceSize = 64 << 10

// rooms are for what is to be written, where that comes in large pieces: a loop that made garbage of each would have to help collect it.
var rooms = sync.Pool{New: func() any { return new([2 * pieceSize]byte) }}

func giveBack(p []byte) {
	if cap(p) == 2*pieceSize {
		rooms.Put((*[2 * pieceSize]byte)(p[:cap(p)]))
	}
}

// Spool is what is kept of one body. It belongs to its connection's loop.
type Spool struct {
	place  *Place
	conn   *reactor.Conn
	memory *session.Memory
	most   int64
	moved  func()

	temporary  *temporary
	read, next int64  // offsets in the file: of what is to be taken next, and of what is to be written
	in         []byte // that was added, and not yet given to a goroutine
	out        []byte // that a goroutine writes, or could not write
	piece      []byte // that a goroutine has read, or nil
	share      session.Share
	writing    bool
	reading    bool
	failed     bool // what is added stays in memory from now on
	closed     bool
	err        error // of reading
}

// New returns a spool for a body of which a file may hold so many bytes. When something has been written or read, moved is called on the loop of conn: there may
// be more to take, and room to add.
func New(place *Place, conn *reactor.Conn, memory *session.Memory, most int64, moved func()) *Spool {
	s := &Spool{place: place, conn: conn, memory: memory, most: most, moved: moved, temporary: &temporary{place: place}}
	s.temporary.users.Store(1)
	return s
}

// Add keeps a copy of p behind what was added before.
func (s *Spool) Add(p []byte) {
	if s.in == nil && len(p) >= pieceSize/2 {
		s.in = rooms.Get().(*[2 * pieceSize]byte)[:0]
	}
	s.in = append(s.in, p...)
	s.count()
	s.write()
}

// Full reports whether nothing is to be added now. It is over when moved is called, or when something was taken.
func (s *Spool) Full() bool {
	return len(s.in) >= 2*pieceSize || s.Stuck() && len(s.in) > 0 || s.writing && s.memory.Full()
}

// Stuck reports whether no more goes to the file.
func (s *Spool) Stuck() bool { return s.failed || s.next+int64(len(s.out)) >= s.most }

// Failed reports whether that is for another reason than that the body is too long.
func (s *Spool) Failed() bool { return s.failed }

// Empty reports whether all that was added is taken.
func (s *Spool) Empty() bool { return s.read == s.next && len(s.out) == 0 && len(s.in) == 0 }

// Take returns the next piece, which may be in p; it stays the caller's until the next call. Nothing: moved will be called. An error says that the file can't be
// read: what was added is lost.
func (s *Spool) Take(p []byte) ([]byte, error) {
	switch {
	case s.err != nil:
		return nil, s.err
	case s.piece != nil:
		p, s.piece = s.piece, nil
		s.read += int64(len(p))
		s.count()
		return p, nil
	case s.reading:
		return nil, nil
	case s.read < s.next:
		n, err := s.temporary.file.ReadNow(p[:min(int64(len(p)), s.next-s.read)], s.read)
		if errors.Is(err, reactor.ErrWouldWait) {
			s.fetch()
			return nil, nil
		}
		s.err = err
		s.read += int64(n)
		return p[:n], err
	case s.writing:
		return nil, nil
	}
	p = s.out
	s.out = nil
	if len(p) == 0 {
		p, s.in = s.in, nil
	}
	s.count()
	return p, nil
}

// Close lets go of the file and of what is kept.
func (s *Spool) Close() {
	s.closed = true
	s.count()
	if s.writing || s.temporary.file != nil {
		s.conn.Loop().Offload(s.temporary.leave, func() {})
	}
}

// count counts what is in memory.
func (s *Spool) count() {
	n := len(s.in) + len(s.out) + len(s.piece)
	if s.closed {
		n = 0
	}
	s.share.Set(s.memory, n)
}

// write has what was added written, when that is enough to be worth it.
func (s *Spool) write() {
	if s.writing || s.Stuck() || len(s.in) < pieceSize && (len(s.in) == 0 || !s.memory.Full()) {
		return
	}
	n := min(int64(len(s.in)), s.most-s.next)
	if s.place.used.Add(n) > s.place.Limit() {
		s.place.used.Add(-n)
		s.fail(fmt.Errorf("temporary files hold all that limits.spool_space allows (%d bytes)", s.place.Limit()))
		return
	}
	s.out, s.in, s.writing = s.in[:n], append([]byte(nil), s.in[n:]...), true
	p, err := s.out, error(nil)
	s.offload(func() { err = s.temporary.write(p) }, func() {
		s.writing = false
		if err != nil {
			s.fail(err)
		} else {
			s.next += n
			giveBack(s.out)
			s.out = nil
		}
		s.write()
	})
}

// fail keeps what is added in memory from now on, of which there will soon be enough.
func (s *Spool) fail(err error) {
	s.failed = true
	s.place.complain(s.conn.Loop().Now(), err)
}

// fetch reads the next piece on a goroutine.
func (s *Spool) fetch() {
	s.reading = true
	p, n, err := make([]byte, min(pieceSize, s.next-s.read)), 0, error(nil)
	file, at := s.temporary.file, s.read
	s.offload(func() { n, err = file.ReadAt(p, at) }, func() {
		s.reading, s.err = false, err
		if err == nil {
			s.piece = p[:n]
		}
	})
}

// offload does work on a goroutine, and goes on behind it on the loop, unless the spool was closed meanwhile.
func (s *Spool) offload(work, then func()) {
	t := s.temporary
	t.users.Add(1)
	s.conn.Loop().Offload(func() {
		defer t.leave()
		work()
	}, func() {
		if !s.closed {
			then()
			s.count()
			s.conn.Do(s.moved)
		}
	})
}
