package session

import "sync/atomic"

// Memory counts what is kept for clients that are slow to send or to take, in all. It is safe for concurrent use.
type Memory struct {
	used atomic.Int64
	// Limit returns how many bytes there may be.
	Limit func() int64
}

// Full reports whether no more is to be kept.
func (m *Memory) Full() bool { return m.used.Load() >= m.Limit() }

// Used returns how many bytes are kept.
func (m *Memory) Used() int64 { return m.used.Load() }

// Share is what one client has of a [Memory]. It belongs to the client's loop.
type Share struct{ bytes int64 }

// Set makes the share n bytes.
func (s *Share) Set(m *Memory, n int) {
	if d := int64(n) - s.bytes; d != 0 {
		m.used.Add(d)
		s.bytes = int64(n)
	}
}
