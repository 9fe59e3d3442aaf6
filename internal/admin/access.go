package admin

import (
	"fmt"
	"os"
	"sync/atomic"
)

// Access says who may ask, besides root and the user of this process, who may everything. It is not changed: a reload puts another one in its place.
type Access struct {
	// Users are the grants of users, by their numbers.
	Users map[uint32]*Grant
}

// gate knows what who asks may do.
type gate struct{ access atomic.Pointer[Access] }

// grant returns what a peer may do; nil for nothing.
func (g *gate) grant(p peer) *Grant {
	switch {
	case p.err != nil:
		return nil
	case p.uid == 0 || p.uid == uint32(os.Geteuid()):
		return &Grant{Who: fmt.Sprintf("user %d", p.uid), Verbs: All}
	}
	if a := g.access.Load(); a != nil {
		return a.Users[p.uid]
	}
	return nil
}

// Admit says who may ask from now on.
func (s *Server) Admit(a *Access) { s.sorter.door.gate.access.Store(a) }
