package tunnel

import (
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"wstunnel/internal/ws"
)

// End is one end of a tunnel. The tunnel owns Conn from [New] on and closes it.
type End struct {
	Conn net.Conn
	// Early is what was read from Conn beyond the handshake: the first bytes the other end receives.
	Early []byte
}

// Options of a tunnel.
type Options struct {
	// Extensions says that the handshake negotiated extensions, so that a frame's reserved bits mean something.
	Extensions bool
	// IdleTimeout ends a tunnel in which no byte moved for so long. Zero: never.
	IdleTimeout time.Duration
	// HalfCloseTimeout ends a tunnel of which one direction has ended (by FIN, or by Close
	// frames both ways) and whose other direction is idle for so long. Zero: never.
	HalfCloseTimeout time.Duration
	// CloseTimeout bounds the closing handshake that the tunnel itself starts when it is idle. Zero: at once.
	CloseTimeout time.Duration
}

// Tunnel is one live connection. Its methods are safe for concurrent use.
type Tunnel struct {
	opts                Options
	toBackend, toClient direction

	order      atomic.Pointer[closeOrder]
	lastActive atomic.Int64 // nanoseconds of process time
	idleTimer  *time.Timer
	stopTimer  atomic.Pointer[time.Timer] // ends the closing handshake of an order

	mu     sync.Mutex
	result Result // what ended the tunnel first; guarded by mu
	known  bool   // result is set
	ended  int    // directions that are done; guarded by mu
	done   func(Result)
}

// closeOrder asks both directions for a closing handshake.
type closeOrder struct {
	code   uint16
	reason string
}

// New makes a tunnel between two ends; [Tunnel.Start] sets it going.
func New(client, backend End, opts Options) *Tunnel {
	t := &Tunnel{opts: opts}
	t.toBackend = direction{
		from: Client, src: client.Conn, dst: backend.Conn, early: client.Early,
		scan: ws.NewScanner(ws.FromClient, opts.Extensions),
	}
	t.toClient = direction{
		from: Backend, src: backend.Conn, dst: client.Conn, early: backend.Early,
		scan: ws.NewScanner(ws.FromServer, opts.Extensions),
	}
	t.idleTimer = time.AfterFunc(math.MaxInt64, t.checkIdle)
	return t
}

// Start moves bytes until both ends are done, then closes both and calls done, once, from a goroutine of
// the tunnel's. It returns at once.
func (t *Tunnel) Start(done func(Result)) {
	t.done = done
	t.touch()
	if t.opts.IdleTimeout > 0 {
		t.idleTimer.Reset(t.opts.IdleTimeout)
	}
	go t.pumpToBackend()
	go t.pumpToClient()
}

// Close starts a closing handshake with both ends: a Close frame at the next frame boundary of
// each direction, after which nothing more is passed on. The connections are closed when both ends have answered, or
// when timeout has passed. Only the first call of Close or of an idle timeout counts. It returns at once.
func (t *Tunnel) Close(code uint16, reason string, cause Cause, timeout time.Duration) {
	if !t.order.CompareAndSwap(nil, &closeOrder{code, reason}) {
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

// Stats returns what has gone through the tunnel so far.
func (t *Tunnel) Stats() Stats {
	return Stats{
		ToBackend: t.toBackend.traffic(),
		ToClient:  t.toClient.traffic(),
		Idle:      time.Duration(monotonic() - t.lastActive.Load()),
	}
}

// note keeps the first reason for the end of the tunnel.
func (t *Tunnel) note(r Result) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.known {
		t.result, t.known = r, true
	}
}

func (t *Tunnel) touch() { t.lastActive.Store(monotonic()) }

func monotonic() int64 { return int64(time.Since(processStart)) }

// processStart only fixes the zero of monotonic; it is never changed.
var processStart = time.Now()

// checkIdle runs when the idle timer fires, which may be well before the tunnel is idle long enough.
func (t *Tunnel) checkIdle() {
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
	t.Close(ws.CloseGoingAway, "idle timeout", CauseIdle, t.opts.CloseTimeout)
}

func (t *Tunnel) idleLimit() time.Duration {
	if t.halfClosed() && t.opts.HalfCloseTimeout > 0 {
		return t.opts.HalfCloseTimeout
	}
	return t.opts.IdleTimeout
}

// halfClosed reports whether one direction has ended, or both have carried a Close frame.
func (t *Tunnel) halfClosed() bool {
	if t.toBackend.closeSeen.Load() && t.toClient.closeSeen.Load() {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended > 0
}

// hurry makes the idle timer look again now that a shorter limit may hold.
func (t *Tunnel) hurry() {
	if t.opts.HalfCloseTimeout == 0 || !t.halfClosed() || t.finished() {
		return
	}
	t.idleTimer.Reset(t.opts.HalfCloseTimeout)
}

func (t *Tunnel) finished() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.ended == 2
}

func (t *Tunnel) closeBoth() {
	t.toBackend.src.Close()
	t.toBackend.dst.Close()
}

// end is called once by each direction when it moves nothing any more; the second call finishes the tunnel.
func (t *Tunnel) end() {
	t.mu.Lock()
	t.ended++
	last := t.ended == 2
	t.mu.Unlock()
	if !last {
		t.hurry()
		return
	}
	t.idleTimer.Stop()
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
