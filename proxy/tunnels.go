package proxy

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/logs"
	"wstunnel/internal/tags"
	"wstunnel/internal/tunnel"
	"wstunnel/internal/upstream"
	"wstunnel/internal/ws"
)

// tunnelInfo says what a tunnel is.
type tunnelInfo struct {
	Site, Location string
	Host, Path     string
	Named          netip.Addr // the client, if a trusted proxy names it; else it is the one who connected
	Upstream       string     // by its name; empty where the target names the server itself
	Backend        string
	Subprotocol    string
	Mode           config.Mode

	access *logs.Log     // nil for none
	line   *logs.Request // in its format Combined, for the end; else nil

	holder
	place  upstream.Place // at the server; left at its end
	counts *siteCounts
}

// holder is what counts as the client's end of a tunnel.
type holder struct {
	listener *listener
	remote   netip.AddrPort
	secure   bool // over TLS
	counted  bool // as its client's
	// shared: the tunnel is one stream of a connection, which counts for itself.
	shared bool
}

// leave counts the tunnel out.
func (h *holder) leave() {
	if h.shared {
		h.listener.server.admission.tidier.note()
	} else {
		h.listener.server.admission.leave(h.remote.Addr(), h.counted)
	}
}

// liveTunnel is one live WebSocket connection.
type liveTunnel struct {
	tunnelInfo
	id      uint64
	since   time.Time
	conn    closer // nil while it is being opened
	tunnels *tunnels
	who     *who   // nil where nobody has said whose it is
	secret  uint32 // see key
	tried   bool   // to be handed over
	moving  bool   // to another process, which has been told whose it is
	// unpushable is why no message is put into it.
	unpushable uint8
	told       [2]tunnel.Traffic // what its site's counts know of, to the backend and to the client; guarded by the tunnels' mu
}

// closer is a live WebSocket connection, of either mode.
type closer interface {
	// Close starts a closing handshake with both ends, which timeout bounds, and returns at once.
	Close(code uint16, reason string, cause tunnel.Cause, timeout time.Duration)
	// Drain is a Close since the server goes, or sheds tunnels: the client is told first.
	Drain(code uint16, reason string, timeout time.Duration)
	// Stats returns what has gone through so far. It waits for nobody.
	Stats() tunnel.Stats
}

// tunnels are the live WebSocket connections of the process. No reload touches them.
type tunnels struct {
	lastID atomic.Uint64

	mu   sync.Mutex
	live map[uint64]*liveTunnel
	// users and groups lead to the tunnels of each.
	users, groups roll
	// opening are the handshakes that may become one of them.
	opening int
	events  events
	changed chan struct{} // closed at the next change; nil while nobody waits for one
	// draining: new ones are closed as soon as they are open.
	draining bool
}

// start announces a tunnel, lets open set it going, and keeps it until it says that it is done.
func (ts *tunnels) start(info tunnelInfo, is announcement, open func(done func(tunnel.Result)) *tunnel.Tunnel) {
	t := ts.announce(info, is)
	t.register(open(t.ended), EventOpened)
}

// known is what is announcement of a tunnel beside what it is: its key, and whose it is.
type announcement struct {
	id         uint64
	secret     uint32
	unpushable uint8
	tags.Tags
}

// announce logs a connection that is about to open.
func (ts *tunnels) announce(info tunnelInfo, is announcement) *liveTunnel {
	t := &liveTunnel{tunnelInfo: info, id: is.id, secret: is.secret, unpushable: is.unpushable, since: time.Now(), tunnels: ts}
	if t.access != nil {
		t.access.Logger().LogAttrs(context.Background(), slog.LevelInfo, "tunnel opened", append(t.attrs(), slog.String("path", t.Path),
			slog.String("location", t.Location), slog.String("backend", t.Backend),
			slog.String("subprotocol", t.Subprotocol), slog.String("mode", t.Mode.String()),
			slog.Bool("tls", t.secure))...)
	}
	t.counts.opened.Add(1)
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.live == nil {
		ts.live = map[uint64]*liveTunnel{}
	}
	ts.live[t.id] = t
	ts.enrol(t, is.Tags)
	return t
}

// register keeps an open connection, unless it has ended already, and tells how it has come to be here. Where it is being stopped, it is closed like all others.
func (t *liveTunnel) register(c closer, how EventKind) {
	ts := t.tunnels
	ts.mu.Lock()
	t.conn = c
	_, live := ts.live[t.id]
	if live && ts.events.wanted() {
		t.tell(Event{Kind: how})
	}
	draining := ts.draining
	ts.mu.Unlock()
	if live && draining {
		c.Drain(ws.CloseGoingAway, drainReason, closeTimeout)
	}
}

// ended logs and counts the end of a connection and forgets it. One that goes on in another process has its end there.
func (t *liveTunnel) ended(r tunnel.Result) {
	if r.Cause != tunnel.CauseMoved {
		if t.access != nil {
			t.logEnd(r)
		}
		t.counts.tunnelEnded(&r)
	}
	t.forget(&r)
}

// forget counts a connection out, with what went through it.
func (t *liveTunnel) forget(r *tunnel.Result) {
	t.leave()
	t.place.Leave()
	ts := t.tunnels
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t.counts.gather(&t.told, r.ToBackend, r.ToClient)
	if ts.events.wanted() {
		t.tellEnd(r)
	}
	ts.strike(t)
	delete(ts.live, t.id)
	ts.change()
}

func (t *liveTunnel) logEnd(r tunnel.Result) {
	if t.line != nil {
		t.line.At, t.line.Bytes = time.Now(), int64(r.ToClient.Bytes)
		t.access.Request(t.line)
		return
	}
	attrs := append(t.attrs(),
		milliseconds("duration_ms", time.Since(t.since)),
		slog.Uint64("bytes_to_backend", r.ToBackend.Bytes), slog.Uint64("bytes_to_client", r.ToClient.Bytes),
		slog.Uint64("messages_to_backend", r.ToBackend.Messages), slog.Uint64("messages_to_client", r.ToClient.Messages),
		slog.Int("close_code", int(r.Code)), slog.String("closed_by", string(r.By)), slog.String("cause", string(r.Cause)))
	if r.ToBackend.Opaque || r.ToClient.Opaque {
		attrs = append(attrs, slog.Bool("opaque", true))
	}
	if r.Err != nil {
		attrs = append(attrs, slog.String("error", r.Err.Error()))
	}
	t.access.Logger().LogAttrs(context.Background(), slog.LevelInfo, "tunnel closed", attrs...)
}

// hold makes await wait for a handshake, until it is released.
func (ts *tunnels) hold() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.opening++
}

// count returns how many there are, open or opening.
func (ts *tunnels) count() int {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return len(ts.live) + ts.opening
}

// handshakes returns how many handshakes may become tunnels.
func (ts *tunnels) handshakes() int {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	return ts.opening
}

// release ends a hold; by now the tunnel is announced, or will never be.
func (ts *tunnels) release() {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.opening--
	ts.change()
}

// change wakes those who await something. It is called with mu held.
func (ts *tunnels) change() {
	if ts.changed != nil {
		close(ts.changed)
		ts.changed = nil
	}
}

// client is who is connected: address and port, or the address that a trusted proxy names.
func (t *liveTunnel) client() string {
	if t.Named.IsValid() {
		return t.Named.String()
	}
	return t.remote.String()
}

// attrs are what both lines of the log begin with.
func (t *liveTunnel) attrs() []slog.Attr {
	return append(make([]slog.Attr, 0, 16),
		slog.Uint64("tunnel", t.id), slog.String("client", t.client()), slog.String("host", t.Host), slog.String("site", t.Site))
}

// await waits until no tunnel is left nor being opened, or until ctx is done.
func (ts *tunnels) await(ctx context.Context) error {
	return ts.awaitThat(ctx, func() bool { return len(ts.live)+ts.opening == 0 })
}

// awaitThat waits until a condition, which is looked at with mu held, is true after some tunnel's change.
func (ts *tunnels) awaitThat(ctx context.Context, holds func() bool) error {
	for {
		ts.mu.Lock()
		if holds() {
			ts.mu.Unlock()
			return nil
		}
		if ts.changed == nil {
			ts.changed = make(chan struct{})
		}
		changed := ts.changed
		ts.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
