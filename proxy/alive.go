package proxy

import (
	"context"
	"fmt"
)

// Alive returns when every event loop has come round once more, or with an error when ctx is done before. A server that has not begun to serve is alive.
func (s *Server) Alive(ctx context.Context) error {
	if s.gen.Load() == nil {
		return nil
	}
	loops := s.clients.loops.Loops
	turned := make(chan struct{}, len(loops))
	waiting := 0
	for _, loop := range loops {
		if loop.Post(func() { turned <- struct{}{} }) {
			waiting++
		}
	}
	for ; waiting > 0; waiting-- {
		select {
		case <-turned:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d event loops do not come round", waiting, len(loops))
		}
	}
	return nil
}
