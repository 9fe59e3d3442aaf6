//go:build linux && !portable

package tunnel

import (
	"errors"
	"net"
	"sync/atomic"
	"time"

	"wstunnel/internal/reactor"
	"wstunnel/internal/ws"
)

// looped is a tunnel on an event loop. All but the atomics belongs to the loop, from begin on.
type looped struct {
	client, backend side
	loop            atomic.Pointer[reactor.Loop] // nil until begin is posted
	timer           reactor.Timer
	limits          limits
	active          atomic.Int64 // when the last byte moved, on the loop's clock
	order           atomic.Pointer[loopOrder]
	result          *Result // what ended the tunnel first; nil until then
	pings           *pings  // nil where none are sent
	ends            *[2]End // until start
	loops           *Loops  // to start on; nil: the shared ones
	done            func(Result)
	over            bool
	shares          bool // holds the shared loops
}

// loopOrder is an order as a loop keeps it.
type loopOrder struct {
	closeOrder
	cause    Cause
	timeout  time.Duration
	deadline time.Duration // on the loop's clock; 0 until the loop obeys
}

// limits are the times of Options.
type limits struct{ idle, halfClose, close time.Duration }

func newLooped(client, backend End, opts Options) *looped {
	t := &looped{ends: &[2]End{client, backend}, loops: opts.Loops}
	t.init(opts)
	return t
}

func (t *looped) init(opts Options) {
	t.limits = limits{opts.IdleTimeout, opts.HalfCloseTimeout, opts.CloseTimeout}
	t.client = side{t: t, stream: newStream(Client, opts.Extensions)}
	t.backend = side{t: t, stream: newStream(Backend, opts.Extensions)}
	t.timer.On = t
	if opts.Ping > 0 {
		t.pings = newPings(opts.Ping)
	}
}

// Join makes a tunnel of two connections of one loop, on that loop, and starts it. It owns both connections; the client's has its
// [KeepAlive] already. The early bytes are what was read from each beyond the handshake. done is called as [Tunnel.Start] says.
func Join(client, backend *reactor.Conn, clientEarly, backendEarly []byte, opts Options, done func(Result)) *Tunnel {
	t := &looped{done: done}
	t.init(opts)
	t.loop.Store(client.Loop())
	client.Handle(&t.client)
	backend.Handle(&t.backend)
	t.client.conn, t.backend.conn = client, backend
	backend.SetKeepAlive(KeepAlive)
	client.Do(func() { t.begin(clientEarly, backendEarly) })
	return &Tunnel{t}
}

// start adopts both connections onto a loop.
func (t *looped) start(done func(Result)) {
	t.done = done
	ends := t.ends
	t.ends = nil
	client, backend, err := t.adopt(ends)
	if err != nil {
		go done(Result{By: Proxy, Cause: CauseReset, Code: ws.CloseAbnormal, Err: err})
		return
	}
	loops := t.loops
	t.loops = nil
	if loops == nil {
		if loops, err = shared.acquire(); err != nil {
			client.Close()
			backend.Close()
			go done(Result{By: Proxy, Cause: CauseReset, Code: ws.CloseAbnormal, Err: err})
			return
		}
		t.shares = true
	}
	loop := loops.Pick()
	t.client.conn, t.backend.conn = client, backend
	posted := loop.Post(func() {
		t.loop.Store(loop)
		if err := errors.Join(loop.Add(client, &t.client), loop.Add(backend, &t.backend)); err != nil {
			t.note(Result{By: Proxy, Cause: CauseReset, Code: ws.CloseAbnormal, Err: err})
			t.finish()
			return
		}
		client.SetKeepAlive(KeepAlive)
		backend.SetKeepAlive(KeepAlive)
		client.Do(func() { t.begin(ends[0].Early, ends[1].Early) })
	})
	if !posted {
		client.Close()
		backend.Close()
		t.release()
		go done(Result{By: Proxy, Cause: CauseReset, Code: ws.CloseAbnormal, Err: net.ErrClosed})
		return
	}
	t.loop.Store(loop) // whoever sees it posts behind begin
}

// adopt takes both connections over. If one can't be had, both are closed.
func (t *looped) adopt(ends *[2]End) (client, backend *reactor.Conn, err error) {
	if client, err = reactor.Adopt(ends[0].Conn); err != nil {
		ends[0].Conn.Close()
		ends[1].Conn.Close()
		return nil, nil, err
	}
	if backend, err = reactor.Adopt(ends[1].Conn); err != nil {
		client.Close()
		ends[1].Conn.Close()
		return nil, nil, err
	}
	return client, backend, nil
}

// KeepAlive finds peers that are gone without a word, or that keep their window shut, after two and a half minutes.
var KeepAlive = reactor.KeepAlive{Idle: time.Minute, Interval: 15 * time.Second, Count: 6}

// begin passes on what came early and lets both ends read.
func (t *looped) begin(clientEarly, backendEarly []byte) {
	t.touch()
	t.pings.begin(t.now())
	for _, s := range t.sides() {
		s.conn.Resume()
	}
	t.client.moved(clientEarly)
	t.backend.moved(backendEarly)
	if t.over {
		return
	}
	t.schedule()
	if t.order.Load() != nil {
		t.obey()
	}
}

func (t *looped) sides() [2]*side { return [2]*side{&t.client, &t.backend} }

func (t *looped) now() time.Duration { return t.loop.Load().Now() }

func (t *looped) touch() { t.active.Store(int64(t.now())) }

func (t *looped) close(code uint16, reason string, cause Cause, timeout time.Duration) {
	if !t.order.CompareAndSwap(nil, &loopOrder{closeOrder: closeOrder{code, reason}, cause: cause, timeout: timeout}) {
		return
	}
	if loop := t.loop.Load(); loop != nil {
		loop.Post(func() { t.client.conn.Do(t.obey) })
	}
}

func (t *looped) inject(to Side, op ws.Opcode, frame []byte) bool {
	loop := t.loop.Load()
	if loop == nil {
		return true // dropped
	}
	from := &t.client
	if to == Client {
		from = &t.backend
	}
	if !from.reserve(frame) {
		return false
	}
	loop.Post(func() {
		from.conn.Do(func() {
			if t.over || from.ended {
				from.backlog.Add(-int32(len(frame)))
				return
			}
			from.inject(op, frame)
			from.boundary()
		})
	})
	return true
}

func (t *looped) stats() Stats {
	stats := Stats{ToBackend: t.client.traffic(), ToClient: t.backend.traffic()}
	if loop := t.loop.Load(); loop != nil {
		stats.Idle = max(0, loop.Elapsed()-time.Duration(t.active.Load()))
	}
	return stats
}

// note keeps the first reason for the end of the tunnel.
func (t *looped) note(r Result) {
	if t.result == nil {
		t.result = &r
	}
}

// obey starts the closing handshake that was ordered.
func (t *looped) obey() {
	order := t.order.Load()
	if t.over || order.deadline > 0 {
		return
	}
	order.deadline = t.now() + max(order.timeout, 1)
	t.note(Result{By: Proxy, Cause: order.cause, Code: order.code})
	for _, s := range t.sides() {
		s.orderClose(order)
	}
	t.settle()
}

// settle ends the tunnel when both directions are done, and else sets the timer anew.
func (t *looped) settle() {
	if t.over {
		return
	}
	if t.client.done() && t.backend.done() {
		t.finish()
		return
	}
	t.schedule()
}

// schedule sets the timer for whatever is due first.
func (t *looped) schedule() {
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
	if due < never {
		t.loop.Load().Set(&t.timer, due-t.now())
	}
}

// idleLimit is the silence that ends the tunnel; 0 is none.
func (t *looped) idleLimit() time.Duration {
	switch {
	case t.halfClosed() && t.limits.halfClose > 0:
		return t.limits.halfClose
	case t.order.Load() != nil:
		return 0
	}
	return t.limits.idle
}

// halfClosed reports whether one direction has ended, or both have carried a Close frame.
func (t *looped) halfClosed() bool {
	return t.client.ended || t.backend.ended || t.client.closeSeen && t.backend.closeSeen
}

// Expired is told by the timer, which may be well before anything is due.
func (t *looped) Expired() { t.client.conn.Do(t.expired) }

func (t *looped) expired() {
	now := t.now()
	if order := t.order.Load(); order != nil && order.deadline > 0 && now >= order.deadline {
		t.finish()
		return
	}
	if limit := t.idleLimit(); limit > 0 && now-time.Duration(t.active.Load()) >= limit {
		if t.halfClosed() {
			t.note(Result{By: Proxy, Cause: CauseHalfClose, Code: ws.CloseAbnormal})
			t.finish()
			return
		}
		t.close(ws.CloseGoingAway, "idle timeout", CauseIdle, t.limits.close)
		t.obey()
		return
	}
	t.pings.check(t)
	if !t.over {
		t.schedule()
	}
}

// lost ends the whole tunnel because the connection of one side broke. The other side sees a
// reset too, so that it can't take what it has for everything there was.
func (t *looped) lost(s *side, err error) {
	if t.over {
		return
	}
	by := s.name()
	if errors.Is(err, net.ErrClosed) {
		by = Proxy
	}
	t.note(Result{By: by, Cause: CauseReset, Code: ws.CloseAbnormal, Err: err})
	s.other().conn.Reset()
	t.finish()
}

// finish closes both ends and says how it ended.
func (t *looped) finish() {
	if t.over {
		return
	}
	t.over = true
	t.loop.Load().Stop(&t.timer)
	for _, s := range t.sides() {
		s.conn.Close()
		s.dropPipe()
		s.extra = nil
	}
	result := Result{By: Proxy, Cause: CauseReset, Code: ws.CloseAbnormal}
	if t.result != nil {
		result = *t.result
	}
	result.ToBackend, result.ToClient = t.client.traffic(), t.backend.traffic()
	t.release()
	t.done(result)
}

func (t *looped) release() {
	if t.shares {
		shared.release()
	}
}
