package upstream

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"wstunnel/internal/reactor"
)

// sockaddrs hands the addresses of a pool's server to done, on the loop: at once for an IP address or a Unix socket. Names are resolved
// elsewhere meanwhile, until cancel is called.
func (p *Pool) sockaddrs(loop *reactor.Loop, timeout time.Duration, done func([]unix.Sockaddr, error)) (cancel context.CancelFunc) {
	if p.network == "unix" {
		done([]unix.Sockaddr{&unix.SockaddrUnix{Name: p.address}}, nil)
		return nil
	}
	if address, err := netip.ParseAddrPort(p.address); err == nil {
		done([]unix.Sockaddr{reactor.Sockaddr(address)}, nil)
		return nil
	}
	ctx, cancel := within(context.Background(), loop.Clock(), timeout)
	go func() {
		defer cancel()
		addresses, err := resolve(ctx, p.address)
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("resolving %s: %w", p.address, context.Cause(ctx))
		}
		loop.Post(func() { done(addresses, err) })
	}()
	return cancel
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

func resolve(ctx context.Context, address string) ([]unix.Sockaddr, error) {
	host, service, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	port, err := net.DefaultResolver.LookupPort(ctx, "tcp", service)
	if err != nil {
		return nil, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	addresses := make([]unix.Sockaddr, len(ips))
	for i, ip := range ips {
		addresses[i] = reactor.Sockaddr(netip.AddrPortFrom(ip, uint16(port)))
	}
	return addresses, nil
}
