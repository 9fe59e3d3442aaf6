package proxy

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

// tunnelInfo says what a tunnel is.
type tunnelInfo struct {
	ID             uint64
	Site, Location string
	Host, Path     string
	Client         string // address and port, or the address that a trusted proxy names
	Backend        string
	Subprotocol    string
	Mode           string // tunnel or relay
	Secure         bool
	Since          time.Time
}

// closer is a live WebSocket connection, of either mode.
type closer interface {
	// Close starts a closing handshake with both ends, which timeout bounds, and returns at once.
	Close(code uint16, reason string, cause tunnel.Cause, timeout time.Duration)
}

// tunnels are the live WebSocket connections of the process. No reload touches them.
type tunnels struct {
	log *slog.Logger

	mu     sync.Mutex
	lastID uint64
	live   map[uint64]closer
	idle   chan struct{} // closed when no tunnel is left; nil while nobody waits for that
	// draining: new ones are closed as soon as they are open.
	draining bool
}

// start registers a tunnel, logs it and sets it going.
func (ts *tunnels) start(info tunnelInfo, t *tunnel.Tunnel) {
	info = ts.add(info, t)
	t.Start(func(r tunnel.Result) { ts.remove(info, r) })
}

// add registers and logs a live connection. Where a drain has begun, it is closed like all others.
func (ts *tunnels) add(info tunnelInfo, c closer) tunnelInfo {
	ts.mu.Lock()
	ts.lastID++
	info.ID, info.Since = ts.lastID, time.Now()
	if ts.live == nil {
		ts.live = map[uint64]closer{}
	}
	ts.live[info.ID] = c
	draining := ts.draining
	ts.mu.Unlock()
	ts.log.Info("tunnel opened", append(info.attrs(), slog.String("path", info.Path),
		slog.String("location", info.Location), slog.String("backend", info.Backend),
		slog.String("subprotocol", info.Subprotocol), slog.String("mode", info.Mode),
		slog.Bool("tls", info.Secure))...)
	if draining {
		c.Close(ws.CloseGoingAway, drainReason, tunnel.CauseDrain, closeTimeout)
	}
	return info
}

// remove logs the end of a connection and forgets it.
func (ts *tunnels) remove(info tunnelInfo, r tunnel.Result) {
	attrs := append(info.attrs(),
		milliseconds("duration_ms", time.Since(info.Since)),
		slog.Uint64("bytes_to_backend", r.ToBackend.Bytes), slog.Uint64("bytes_to_client", r.ToClient.Bytes),
		slog.Uint64("messages_to_backend", r.ToBackend.Messages), slog.Uint64("messages_to_client", r.ToClient.Messages),
		slog.Int("close_code", int(r.Code)), slog.String("closed_by", string(r.By)), slog.String("cause", string(r.Cause)))
	if r.ToBackend.Opaque || r.ToClient.Opaque {
		attrs = append(attrs, slog.Bool("opaque", true))
	}
	if r.Err != nil {
		attrs = append(attrs, slog.String("error", r.Err.Error()))
	}
	ts.log.Info("tunnel closed", attrs...)
	ts.mu.Lock()
	defer ts.mu.Unlock()
	delete(ts.live, info.ID)
	if ts.idle != nil && len(ts.live) == 0 {
		close(ts.idle)
		ts.idle = nil
	}
}

func (i tunnelInfo) attrs() []any {
	return []any{
		slog.Uint64("tunnel", i.ID), slog.String("client", i.Client),
		slog.String("host", i.Host), slog.String("site", i.Site),
	}
}

// drainReason is the text of the Close frames of a drain.
const drainReason = "server is going away"

// drainPace is the shortest time between two Close frames of a drain, so that thousands of clients do not come back in
// the same instant.
const drainPace = time.Millisecond

// drain asks all tunnels for a closing handshake with 1001, and from now on every new one too. Tunnels that
// do not answer are closed without an answer after a while.
func (ts *tunnels) drain(ctx context.Context) {
	ts.mu.Lock()
	ts.draining = true
	all := slices.Collect(maps.Values(ts.live))
	ts.mu.Unlock()
	timeout, pace := closeTimeout, drainPace
	if deadline, ok := ctx.Deadline(); ok {
		rest := time.Until(deadline)
		timeout = min(timeout, rest/2)
		pace = min(pace, rest/4/time.Duration(max(1, len(all))))
	}
	for i, c := range all {
		c.Close(ws.CloseGoingAway, drainReason, tunnel.CauseDrain, timeout)
		if i%10 == 9 && ctx.Err() == nil {
			time.Sleep(10 * pace)
		}
	}
}

// await waits until no tunnel is left, or until ctx is done.
func (ts *tunnels) await(ctx context.Context) error {
	ts.mu.Lock()
	if len(ts.live) == 0 {
		ts.mu.Unlock()
		return nil
	}
	if ts.idle == nil {
		ts.idle = make(chan struct{})
	}
	idle := ts.idle
	ts.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// count returns the number of live tunnels.
func (ts *tunnels) count() int {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return len(ts.live)
}
