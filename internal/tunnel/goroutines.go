package tunnel

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"wstunnel/internal/ws"
)

// pumped is a tunnel on two goroutines, one for each direction.
type pumped struct {
	opts                Options
	toBackend, toClient direction

	order      atomic.Pointer[closeOrder]
	lastActive atomic.Int64 // nanoseconds of process time
	idleTimer  *time.Timer
	stopTimer  atomic.Pointer[time.Timer] // ends the closing handshake of an order
	prober     *prober                    // nil where no pings are sent

	mu     sync.Mutex
	result Result // what ended the tunnel first; guarded by mu
	known  bool   // result is set
	ended  int    // directions that are done; guarded by mu
	done   func(Result)
}

func newPumped(client, backend End, opts Options) *pumped {
	t := &pumped{opts: opts}
	t.toBackend = direction{
		tunnel: t, from: Client, src: client.Conn, dst: backend.Conn, early: client.Early,
		stream: newStream(Client, opts.Extensions),
	}
	t.toClient = direction{
		tunnel: t, from: Backend, src: backend.Conn, dst: client.Conn, early: backend.Early,
		stream: newStream(Backend, opts.Extensions),
	}
	t.idleTimer = time.AfterFunc(math.MaxInt64, t.checkIdle)
	return t
}

func (t *pumped) start(done func(Result)) {
	t.done = done
	t.touch()
	t.toBackend.begin()
	t.toClient.begin()
	if t.opts.IdleTimeout > 0 {
		t.idleTimer.Reset(t.opts.IdleTimeout)
	}
	if t.opts.Ping > 0 {
		t.prober = startProber(t)
	}
	go t.pumpToBackend()
	go t.pumpToClient()
}

func (t *pumped) close(code uint16, reason string, cause Cause, timeout time.Duration) {
	if !t.order.CompareAndSwap(nil, &closeOrder{code: code, reason: reason}) {
		return
	}
	t.note(Result{By: Proxy, Cause: cause, Code: code})
	timer := time.AfterFunc(timeout, t.closeBoth)
	t.stopTimer.Store(timer)
	t.toBackend.interrupt()
	t.toClient.interrupt()
	if t.finished() {
		timer.Stop()
	}
}

func (t *pumped) inject(to Side, op ws.Opcode, frame []byte) bool {
	d := &t.toBackend
	if to == Client {
		d = &t.toClient
	}
	if !d.reserve(frame) {
		return false
	}
	if d.leave(injection{op: op, frame: frame}) {
		d.interrupt()
	}
	return true
}

func (t *pumped) stats() Stats {
	return Stats{
		ToBackend: t.toBackend.traffic(),
		ToClient:  t.toClient.traffic(),
		Idle:      time.Duration(monotonic() - t.lastActive.Load()),
	}
}

// note keeps the first reason for the end of the tunnel.
func (t *pumped) note(r Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.known {
		t.result, t.known = r, true
	}
}

func (t *pumped) touch() { t.lastActive.Store(monotonic()) }

func monotonic() int64 { return int64(time.Since(processStart)) }

// processStart only fixes the zero of monotonic; it is never changed.
var processStart = time.Now()

// checkIdle runs when the idle timer fires, which may be well before the tunnel is idle long enough.
func (t *pumped) checkIdle() {
	limit := t.idleLimit()
	if limit == 0 {
		return
	}
	if rest := limit - time.Duration(monotonic()-t.lastActive.Load()); rest > 0 {
		t.idleTimer.Reset(rest)
		return
	}
	if t.halfClosed() {
		t.note(Result{By: Proxy, Cause: CauseHalfClose, Code: ws.CloseAbnormal})
		t.closeBoth()
		return
	}
	t.close(ws.CloseGoingAway, "idle timeout", CauseIdle, t.opts.CloseTimeout)
}

func (t *pumped) idleLimit() time.Duration {
	if t.halfClosed() && t.opts.HalfCloseTimeout > 0 {
		return t.opts.HalfCloseTimeout
	}
	return t.opts.IdleTimeout
}

// halfClosed reports whether one direction has ended, or both have carried a Close frame.
func (t *pumped) halfClosed() bool {
	if t.toBackend.closeSeen.Load() && t.toClient.closeSeen.Load() {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended > 0
}

// hurry makes the idle timer look again now that a shorter limit may hold.
func (t *pumped) hurry() {
	if t.opts.HalfCloseTimeout == 0 || !t.halfClosed() || t.finished() {
		return
	}
	t.idleTimer.Reset(t.opts.HalfCloseTimeout)
}

func (t *pumped) finished() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended == 2
}

func (t *pumped) closeBoth() {
	t.toBackend.src.Close()
	t.toBackend.dst.Close()
}

// end is called once by each direction when it moves nothing any more; the second call finishes the tunnel.
func (t *pumped) end() {
	t.mu.Lock()
	t.ended++
	last := t.ended == 2
	t.mu.Unlock()
	if !last {
		t.hurry()
		return
	}
	t.idleTimer.Stop()
	t.prober.stop()
	if timer := t.stopTimer.Load(); timer != nil {
		timer.Stop()
	}
	t.closeBoth()
	t.mu.Lock()
	r := t.result
	t.mu.Unlock()
	r.ToBackend, r.ToClient = t.toBackend.traffic(), t.toClient.traffic()
	t.done(r)
}
