package proxy

import (
	"context"
)

// keeper is who takes the plain tunnels of a process that ends.
type keeper struct {
	to     giver
	finish func()
}

// ShutdownKeeping is a Shutdown that gives the plain tunnels to somebody who keeps them, when all others have ended: their peers see nothing of it. finish is called when
// each has been seen to; what is still here when it returns is closed.
func (s *Server) ShutdownKeeping(ctx context.Context, to giver, finish func()) error {
	return s.shutdown(ctx, &keeper{to, finish})
}

// take gives the tunnels away, when there are no others or ctx is done.
func (k *keeper) take(ctx context.Context, s *Server) {
	ts := &s.tunnels
	ts.awaitThat(ctx, func() bool {
		for _, t := range ts.live {
			if !isMovable(t.conn) {
				return false
			}
		}
		return ts.opening == 0
	})
	s.HandOver(k.to)
	k.finish()
	for _, c := range ts.where(func(*tunnelInfo) bool { return true }) {
		c.Drain(s.closing(1).code, drainReason, closeTimeout)
	}
}
