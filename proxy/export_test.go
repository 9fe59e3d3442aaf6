package proxy

// SetCapacity makes the server do with fewer descriptors, from the next Apply on.
func (s *Server) SetCapacity(connections int64) { s.admission.capacity = connections }
