package proxy

import (
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/static"
)

// SetCapacity makes the server do with fewer descriptors, from the next Apply on.
func (s *Server) SetCapacity(connections int64) { s.admission.capacity = connections }

// KeepNoFilesOpen makes the server read static files piece by piece, as if as many were open as may be.
func (s *Server) KeepNoFilesOpen() {
	s.files = static.NewFiles(0)
	s.gen.Store(s.gen.Load()) // which every exchange loads, and so sees what was set before
}

// AnswerFileError returns what a request is answered whose file could not be opened, for how long its client is to wait, and what the log tells.
func AnswerFileError(err error) (status int, retryAfter string, logged error) {
	x := &exchange{}
	a := x.answerFileError(err)
	return a.status, a.fields.Get(head.RetryAfter), x.err
}

// Counts are what the server keeps count of.
type Counts struct {
	Clients, ByClient, Backends, Idle, Opening, Live int
	Kept                                             int64 // bytes in memory, for slow clients
	Spooled, SpoolFiles                              int64 // bytes in temporary files, and how many there are
}

// Counts returns what is open now. Of the connections to backends some are idle.
func (s *Server) Counts() (c Counts) {
	s.tunnels.mu.Lock()
	c.Opening, c.Live = s.tunnels.opening, len(s.tunnels.live)
	s.tunnels.mu.Unlock()
	s.admission.mu.Lock()
	c.ByClient = len(s.admission.byClient)
	s.admission.mu.Unlock()
	c.Clients, c.Backends = int(s.admission.total.Load()), int(s.upstreams.Open())
	c.Idle = s.upstreams.Idle()
	c.Kept = s.slow.Used()
	c.Spooled, c.SpoolFiles = s.spools.Used()
	return c
}

// WatchLoops has f told how long each event held its loop.
func (s *Server) WatchLoops(f func(held time.Duration)) { s.clients.loops.Watch(f) }

// Skip turns the clock forward, and has all that was to happen by then begin.
func (s *Server) Skip(d time.Duration) { s.clock.Skip(d) }

// Names returns how many users and groups have tunnels.
func (s *Server) Names() (users, groups int) {
	s.tunnels.mu.Lock()
	defer s.tunnels.mu.Unlock()
	return len(s.tunnels.users), len(s.tunnels.groups)
}
