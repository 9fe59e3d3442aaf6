package tunnel

import (
	"log/slog"
	"sync"

	"wstunnel/internal/reactor"
)

// sharedLoops are those of tunnels that name none. They start with the first such tunnel and end with the last.
type sharedLoops struct {
	mu    sync.Mutex
	users int
	group *reactor.Group
}

var shared sharedLoops

func (s *sharedLoops) acquire() (*reactor.Group, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users == 0 {
		group, err := reactor.NewGroup(slog.Default())
		if err != nil {
			return nil, err
		}
		s.group = group
	}
	s.users++
	return s.group, nil
}

func (s *sharedLoops) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users--; s.users == 0 {
		s.group.Close()
		s.group = nil
	}
}
