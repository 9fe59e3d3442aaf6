package proxy

import "time"

// WatchLoops has f told how long each event held its loop.
func (s *Server) WatchLoops(f func(held time.Duration)) { s.doors.loops.Watch(f) }

// Skip sets the loops' clocks forward.
func (s *Server) Skip(d time.Duration) { s.doors.loops.Skip(d) }
