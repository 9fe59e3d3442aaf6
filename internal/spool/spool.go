// Package spool keeps, in temporary files that have no name, what one end of an exchange has sent and the other does not take yet. Nothing of it waits for a
// disk on an event loop.
package spool

import (
	"bytes"
	"errors"
	"fmt"
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
	// MaxFiles is how many there may be at a time.
	MaxFiles int64
	// Complain is told why nothing can be written, once a minute at most.
	Complain func(err error)

	used, files atomic.Int64
	complained  atomic.Int64 // when, on the loops' clock; 0 for never
}

// Used returns how many bytes the files hold, and how many there are.
func (p *Place) Used() (bytes, files int64) { return p.used.Load(), p.files.Load() }

var errTooManyFiles = errors.New("too many temporary files are open")

func (p *Place) open() (*reactor.File, error) {
	if p.files.Add(1) > p.MaxFiles {
		p.files.Add(-1)
		return nil, errTooManyFiles
	}
	file, err := reactor.TempFile(p.Dir)
	if err != nil {
		p.files.Add(-1)
	}
	return file, err
}

func (p *Place) complain(now time.Duration, err error) {
	last := p.complained.Load()
	if (last == 0 || now-time.Duration(last) >= time.Minute) && p.complained.CompareAndSwap(last, max(1, int64(now))) {
		p.Complain(err)
	}
}

// Of what is to be written, so much is collected first; twice as much waits at most before its sender is to stop.
const pieceSize = 64 << 10

// Spool is what is kept of one body. It belongs to its connection's loop.
type Spool struct {
	place  *Place
	conn   *reactor.Conn
	memory *session.Memory
	most   int64
	moved  func()

	file       *reactor.File // nil before something was written
	read, next int64         // offsets in file: of what is to be taken next, and of what is to be written
	in         []byte        // that was added, and not yet given to a goroutine
	out        []byte        // that a goroutine writes, or could not write
	piece      []byte        // that a goroutine has read, or nil
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
	return &Spool{place: place, conn: conn, memory: memory, most: most, moved: moved}
}

// Add keeps a copy of p behind what was added before.
func (s *Spool) Add(p []byte) {
	s.in = append(s.in, p...)
	s.write()
	s.count()
}

// Full reports whether nothing is to be added now. It is over when moved is called, or when something was taken.
func (s *Spool) Full() bool { return len(s.in) >= 2*pieceSize || s.Stuck() && len(s.in) > 0 }

// Stuck reports whether no more goes to the file.
func (s *Spool) Stuck() bool { return s.failed || s.next+int64(len(s.out)) >= s.most }

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
		return p, nil
	case s.reading:
		return nil, nil
	case s.read < s.next:
		n, err := s.file.ReadNow(p[:min(int64(len(p)), s.next-s.read)], s.read)
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
	s.in, s.piece = nil, nil
	if !s.writing && !s.reading {
		s.release()
	}
	s.count()
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
	if s.writing || s.closed || len(s.in) < pieceSize || s.Stuck() {
		return
	}
	n := min(int64(len(s.in)), s.most-s.next)
	if s.place.used.Add(n) > s.place.Limit() {
		s.place.used.Add(-n)
		s.fail(fmt.Errorf("temporary files hold all that limits.spool_space allows (%d bytes)", s.place.Limit()))
		return
	}
	s.out, s.in, s.writing = s.in[:n], bytes.Clone(s.in[n:]), true
	file, err := s.file, error(nil)
	s.conn.Loop().Offload(func() {
		if file == nil {
			file, err = s.place.open()
		}
		if err == nil {
			err = file.WriteAt(s.out, s.next)
		}
	}, func() {
		s.writing, s.file = false, file
		if err != nil {
			s.place.used.Add(-n)
			s.fail(fmt.Errorf("writing a temporary file: %w", err))
		} else {
			s.next += n
			s.out = nil
		}
		s.went()
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
	s.conn.Loop().Offload(func() {
		n, err = s.file.ReadAt(p, s.read)
	}, func() {
		s.reading, s.err = false, err
		if err == nil {
			s.piece = p[:n]
		}
		s.went()
	})
}

// went goes on behind the work of a goroutine.
func (s *Spool) went() {
	switch {
	case !s.closed:
		s.write()
		s.count()
		s.conn.Do(s.moved)
	case !s.writing && !s.reading:
		s.release()
	}
}

// release gives the file back, on a goroutine: of a large one it takes a while.
func (s *Spool) release() {
	s.out = nil
	if file, place := s.file, s.place; file != nil {
		place.used.Add(-s.next)
		s.file = nil
		s.conn.Loop().Offload(func() {
			file.Close()
			place.files.Add(-1)
		}, func() {})
	}
}
