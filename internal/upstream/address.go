package upstream

import (
	"context"
	"time"

	"golang.org/x/sys/unix"

	"wstunnel/internal/reactor"
)

// sockaddrs returns where the server is if that needs no look-up: an IP address or a Unix socket; nil for a name. It is the caller's: a connect writes to it.
func (p *Pool) sockaddrs() []unix.Sockaddr {
	switch {
	case p.network == "unix":
		return []unix.Sockaddr{&unix.SockaddrUnix{Name: p.address}}
	case p.static.IsValid():
		return []unix.Sockaddr{reactor.Sockaddr(p.static)}
	}
	return nil
}

// within returns a context that is cancelled when a time on the clock has passed.
func within(ctx context.Context, clock *reactor.Clock, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	alarm := clock.AfterFunc(d, func() { cancel(context.DeadlineExceeded) })
	return ctx, func() {
		alarm.Stop()
		cancel(nil)
	}
}
