package relay

import (
	"net"
	"sync"
	"time"

	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

// What a message takes while it is passed on: its bytes a few times over, since they are read piece by piece, put together and
// framed anew. Measured; what the collector has yet to find is not in it.
const (
	plainCopies      = 3
	compressedCopies = 2
	deflaterMemory   = 1200 << 10 // for a message to a client that has permessage-deflate, whatever its size
	// granted is the size of a message that costs nothing, since a relay's buffers hold it anyway.
	granted = 4 << 10
	// shareStep is what is asked for at once.
	shareStep = 64 << 10
)

const (
	// farewellTimeout bounds the closing handshake of a relay that is to give its memory back.
	farewellTimeout = 250 * time.Millisecond
)

// Memory is what the messages under way in all relays may take together. It belongs to the process.
type Memory struct {
	// Clock is what the sessions go by.
	Clock Clock
	// Limit returns how many bytes that is now.
	Limit func() int64
	// Patience is how long a relay waits for memory. Half of that another may keep its own while one waits.
	Patience time.Duration

	mu      sync.Mutex
	used    int64
	leaving int64 // of used, what belongs to relays that were told to end
	shares  map[*share]struct{}
	changed chan struct{} // closed when something was given back; nil while nobody waits
}

// Used returns how many bytes that are now. It is safe for concurrent use.
func (m *Memory) Used() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.used
}

// share is what one direction of a relay has of the memory.
type share struct {
	memory *Memory
	end    func()          // ends the relay
	over   <-chan struct{} // closed when its connection is
	asked  int64           // belongs to whoever reads

	// These are guarded by the memory's mu.
	held  int64
	since time.Duration // when it began to hold something
	ended bool          // it was told to
	gone  bool          // it has
}

// grow makes the share as large as it must be. While there is no room it waits, and has others end that have kept theirs too long.
func (s *share) grow(to int64) error {
	if to <= s.asked {
		return nil
	}
	to = (to + shareStep - 1) / shareStep * shareStep
	m := s.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	more := to - s.held
	var deadline time.Duration
	for !s.gone && m.used+more > m.Limit() {
		now := m.Clock.Elapsed()
		if deadline == 0 {
			deadline = now + m.Patience
		}
		if s.ended || now >= deadline {
			return &frameError{ws.CloseTryAgain, tunnel.CauseMemory, memoryReason}
		}
		m.makeRoom(more, now)
		if !m.wait(s) {
			return net.ErrClosed
		}
	}
	if s.gone {
		return net.ErrClosed
	}
	if s.held == 0 {
		s.since = m.Clock.Elapsed()
		if m.shares == nil {
			m.shares = map[*share]struct{}{}
		}
		m.shares[s] = struct{}{}
	}
	m.used += more
	s.held, s.asked = to, to
	return nil
}

// memoryReason is what the peers of a relay are told for which there is no memory.
const memoryReason = "too many long messages at once"

// wait waits until something was given back, or for a moment; it reports false where the connection is over. It is called with mu held.
func (m *Memory) wait(s *share) bool {
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	changed := m.changed
	m.mu.Unlock()
	defer m.mu.Lock()
	over := make(chan struct{})
	moment := m.Clock.Alarm(func() { close(over) })
	moment.Set(m.Patience / 20)
	defer moment.Stop()
	select {
	case <-changed:
	case <-over:
	case <-s.over:
		return false
	}
	return true
}

// makeRoom has the relay end that has kept its share the longest, if that is too long and others that are about to end do not make
// room enough. It is called with mu held.
func (m *Memory) makeRoom(more int64, now time.Duration) {
	if m.used-m.leaving+more <= m.Limit() {
		return
	}
	var oldest *share
	for s := range m.shares {
		if !s.ended && (oldest == nil || s.since < oldest.since) {
			oldest = s
		}
	}
	if oldest != nil && now-oldest.since >= m.Patience/2 {
		oldest.ended = true
		m.leaving += oldest.held
		go oldest.end()
	}
}

// release gives the whole share back, for the next message.
func (s *share) release() {
	if s.asked > 0 {
		s.asked = 0
		s.giveBack(false)
	}
}

// leave gives the share back for good. It is safe on any goroutine.
func (s *share) leave() { s.giveBack(true) }

func (s *share) giveBack(forGood bool) {
	m := s.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	m.used -= s.held
	if s.ended {
		m.leaving -= s.held
	}
	s.held, s.gone = 0, s.gone || forGood
	delete(m.shares, s)
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}
