package tunnel

import (
	"errors"
	"net"
	"time"

	"wstunnel/internal/reactor"
	"wstunnel/internal/ws"
)

// closeOrder asks both directions for a closing handshake.
type closeOrder struct {
	code        uint16
	reason      string
	cause       Cause
	timeout     time.Duration
	clientFirst bool          // the backend is not told before the client has answered, or has had its time
	deadline    time.Duration // on the loop's clock; 0 until the closing has begun
}

// farewell is how long the end of a drain waits for a backend.
const farewell = time.Second

// limits are the times of Options.
type limits struct{ idle, halfClose, close time.Duration }

func (t *Tunnel) init(opts Options) {
	t.limits = limits{opts.IdleTimeout, opts.HalfCloseTimeout, opts.CloseTimeout}
	t.client = endpoint{t: t, flow: newFlow(Client, opts.Extensions)}
	t.backend = endpoint{t: t, flow: newFlow(Backend, opts.Extensions)}
	t.timer.On = t
	if opts.Ping > 0 {
		t.pings = newPings(opts.Ping)
	}
}

// KeepAlive finds peers that are gone without a word, or that keep their window shut, after two and a half minutes.
var KeepAlive = reactor.KeepAlive{Idle: time.Minute, Interval: 15 * time.Second, Count: 6}

// begin passes on what came early and lets both ends read.
func (t *Tunnel) begin(clientEarly, backendEarly []byte) {
	t.touch()
	t.pings.begin(t.now())
	for _, s := range t.endpoints() {
		s.conn.Resume()
	}
	t.client.moved(clientEarly)
	t.backend.moved(backendEarly)
	if t.over() {
		return
	}
	t.schedule()
}

func (t *Tunnel) endpoints() [2]*endpoint { return [2]*endpoint{&t.client, &t.backend} }

func (t *Tunnel) now() time.Duration { return t.loop.Now() }

func (t *Tunnel) touch() { t.active.Store(int64(t.now())) }

// note keeps the first reason for the end of the tunnel.
func (t *Tunnel) note(r Result) {
	if t.result == nil {
		t.result = &r
	}
}

// startClosing starts the closing handshake that was ordered.
func (t *Tunnel) startClosing() {
	order := t.order.Load()
	if t.over() || order.deadline > 0 || t.held != nil {
		return
	}
	order.deadline = t.now() + max(order.timeout, 1)
	t.note(Result{By: Proxy, Cause: order.cause, Code: order.code})
	t.backend.orderClose(order) // in the stream from it, to the client
	if !order.clientFirst {
		t.client.orderClose(order)
	}
	t.settle()
}

// endClosing ends a closing handshake whose time is up. A backend that knows of none yet is told.
func (t *Tunnel) endClosing(order *closeOrder) {
	if !order.clientFirst || t.client.ended {
		t.finish()
		return
	}
	order.clientFirst = false
	order.deadline = t.now() + min(farewell, order.timeout/4)
	t.client.orderClose(order)
	if t.client.closeSent && !t.over() {
		t.client.end()
	}
	t.settle()
}

// settle ends the tunnel when both directions are done, and else sets the timer anew.
func (t *Tunnel) settle() {
	if t.over() {
		return
	}
	if t.client.done() && t.backend.done() {
		t.finish()
		return
	}
	t.schedule()
}

// schedule sets the timer for whatever is due first.
func (t *Tunnel) schedule() {
	const never = time.Duration(1<<63 - 1)
	due := never
	if order := t.order.Load(); order != nil && order.deadline > 0 {
		due = order.deadline
	} else {
		due = t.pings.due(t)
	}
	if limit := t.idleLimit(); limit > 0 {
		due = min(due, time.Duration(t.active.Load())+limit)
	}
	for _, s := range t.endpoints() {
		due = min(due, s.overdueAt(never))
	}
	if due < never {
		t.loop.Set(&t.timer, due-t.now())
	}
}

// idleLimit is the silence that ends the tunnel; 0 is none.
func (t *Tunnel) idleLimit() time.Duration {
	switch {
	case t.halfClosed() && t.limits.halfClose > 0:
		return t.limits.halfClose
	case t.order.Load() != nil:
		return 0
	}
	return t.limits.idle
}

// halfClosed reports whether one direction has ended, or both have carried a Close frame.
func (t *Tunnel) halfClosed() bool {
	return t.client.ended || t.backend.ended || t.client.closeSeen && t.backend.closeSeen
}

// Expired is told by the timer, which may be well before anything is due.
func (t *Tunnel) Expired() { t.client.conn.Do(t.expired) }

func (t *Tunnel) expired() {
	now := t.now()
	for _, s := range t.endpoints() {
		s.dropOverdue(now)
	}
	if order := t.order.Load(); order != nil && order.deadline > 0 && now >= order.deadline {
		t.endClosing(order)
		return
	}
	if limit := t.idleLimit(); limit > 0 && now-time.Duration(t.active.Load()) >= limit {
		if t.halfClosed() {
			t.note(Result{By: Proxy, Cause: CauseHalfClose, Code: ws.CloseAbnormal})
			t.finish()
			return
		}
		t.Close(ws.CloseGoingAway, "idle timeout", CauseIdle, t.limits.close)
		t.startClosing()
		return
	}
	t.pings.check(t)
	if !t.over() {
		t.schedule()
	}
}

// lost ends the whole tunnel because the connection of one side broke. The other side sees a
// reset too, so that it can't take what it has for everything there was.
func (t *Tunnel) lost(s *endpoint, err error) {
	if t.over() {
		return
	}
	by := s.name()
	if errors.Is(err, net.ErrClosed) {
		by = Proxy
	}
	t.note(Result{By: by, Cause: CauseReset, Code: ws.CloseAbnormal, Err: err})
	if t.held == nil { // else another process may go on with it
		s.other().conn.Reset()
	}
	t.finish()
}

// finish closes both ends and says how it ended.
func (t *Tunnel) finish() {
	if t.over() {
		return
	}
	done := t.done
	t.done = nil
	t.loop.Stop(&t.timer)
	if t.held != nil {
		t.held.late.drop(Closed)
	}
	for _, s := range t.endpoints() {
		s.discard()
		s.conn.Close()
		s.dropPipe()
		s.dropMessages(Closed)
		s.pending = nil
	}
	result := Result{By: Proxy, Cause: CauseReset, Code: ws.CloseAbnormal}
	if t.result != nil {
		result = *t.result
	}
	result.ToBackend, result.ToClient = t.client.traffic(), t.backend.traffic()
	done(result)
}
