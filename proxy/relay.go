package proxy

import (
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
	"wstunnel/internal/relay"
	"wstunnel/internal/tunnel"
)

const (
	// relayStall is how long a peer may take nothing of what a relay sends it.
	relayStall = 30 * time.Second
	// relayPatience is how long a relay waits for memory.
	relayPatience = 5 * time.Second
)

// relay joins both ends message by message. answer are the fields of the 101 that the client is sent, and is what else is known of the tunnel. The exchange is the relay's until
// finished is called, on a goroutine: when it has become one of the live connections, or when the client could not be answered.
func (x *upgrade) relay(client, backend relay.Conn, answer head.Fields, is announcement, finished func()) {
	session := relay.New(client, backend, relay.Options{
		Memory: &x.server.relays, MaxMessage: uint64(x.location.MaxMessage),
		IdleTimeout: x.location.Timeouts.TunnelIdle, StallTimeout: relayStall, CloseTimeout: closeTimeout,
	})
	opened := func() (ended func(tunnel.Result)) {
		info := x.tunnelInfo(answer)
		info.place = x.way.Place()
		live := x.server.tunnels.announce(info, is)
		live.register(session, EventOpened)
		x.tunnelled = true
		finished()
		return live.ended
	}
	session.Start(x.in.Request.Fields, answer, opened, func(err error) {
		x.way.Slot.Free()
		x.err, x.clientGone = err, true
		x.holder().leave()
		finished()
	})
}

// relayClock is the clock as relays see it.
type relayClock struct{ *reactor.Clock }

// Alarm returns an alarm that is not set.
func (c relayClock) Alarm(f func()) relay.Alarm { return c.Clock.Alarm(f) }
