package upstream

import (
	"context"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"wstunnel/internal/reactor"
)

// staticAddress returns where a server is whose address needs no look-up: an IP address or a Unix socket; nil for a name.
func staticAddress(network, address string) []unix.Sockaddr {
	if network == "unix" {
		return []unix.Sockaddr{&unix.SockaddrUnix{Name: address}}
	}
	if ip, err := netip.ParseAddrPort(address); err == nil {
		return []unix.Sockaddr{reactor.Sockaddr(ip)}
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
