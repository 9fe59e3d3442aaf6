package tunnel

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"wstunnel/internal/reactor"
	"wstunnel/internal/ws"
)

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
	// Ping is how long a side may be silent before it is sent a ping, whose pong the other side never sees. One that stays
	// silent for twice as long is dead, and the tunnel ends. A side that takes little of what it is sent has longer, since its ping
	// waits: it is dead when it has taken nothing for two periods, or, where the system does not tell what it has taken, when TCP
	// finds it so. Zero: no pings.
	Ping time.Duration
}

// Tunnel is one live connection. Its exported methods, but for Expired, are safe for concurrent use; all but the atomics belongs to its loop,
// from begin on.
type Tunnel struct {
	client, backend endpoint
	loop            *reactor.Loop
	timer           reactor.Timer
	limits          limits
	active          atomic.Int64 // when the last byte moved, on the loop's clock
	order           atomic.Pointer[closeOrder]
	result          *Result      // what ended the tunnel first; nil until then
	pings           *pings       // nil where none are sent
	held            *Held        // nil unless nothing moves
	done            func(Result) // nil once it is over
}

// Join makes a tunnel of two endpoints of one loop, on that loop, and starts it. It owns both; the client's has its [KeepAlive] already. The
// early bytes are what was read from each beyond the handshake. It moves bytes until both ends are done, then closes both and calls
// done, once, on the loop, which must not be kept; that may be before it returns.
func Join(client, backend reactor.Endpoint, clientEarly, backendEarly []byte, opts Options, done func(Result)) *Tunnel {
	t := &Tunnel{loop: client.Loop(), done: done}
	t.init(opts)
	client.Handle(&t.client)
	backend.Handle(&t.backend)
	t.client.conn, t.backend.conn = client, backend
	backend.SetKeepAlive(KeepAlive)
	client.Do(func() { t.begin(clientEarly, backendEarly) })
	return t
}

func (t *Tunnel) over() bool { return t.done == nil }

// Close starts a closing handshake with both ends: a Close frame at the next frame boundary of
// each direction, after which nothing more is passed on. The connections are closed when both ends have answered, or
// when timeout has passed. Only the first call of Close or of an idle timeout counts. It returns at once.
func (t *Tunnel) Close(code uint16, reason string, cause Cause, timeout time.Duration) {
	t.orderClosing(&closeOrder{code: code, reason: reason, cause: cause, timeout: timeout})
}

// Drain is a Close that begins with the client: its own Close frame is what the backend sees, as if it had left by itself. Of a client that has sent
// none when timeout has passed the backend is told by a frame of ours, and has [farewell] for its answer.
func (t *Tunnel) Drain(code uint16, reason string, timeout time.Duration) {
	t.orderClosing(&closeOrder{code: code, reason: reason, cause: CauseDrain, timeout: timeout, clientFirst: true})
}

// orderClosing has an order carried out, unless there was one before.
func (t *Tunnel) orderClosing(order *closeOrder) {
	if t.order.CompareAndSwap(nil, order) {
		t.loop.Post(func() { t.client.conn.Do(t.startClosing) })
	}
}

// Errors of [Tunnel.Inject].
var (
	ErrFrame   = errors.New("only text, binary, ping and pong frames can be put into a stream, and the latter two carry 125 bytes at most")
	ErrBacklog = fmt.Errorf("more than %d bytes would wait for a place in the stream", maxBacklog)
)

// Inject puts a frame into the stream to one side where RFC 6455 allows it: a ping or pong between two frames (section 5.5), a
// text or binary message between two messages (section 5.4). It is dropped where there will be no such place: behind a Close frame, in a
// stream that broke the rules, or when the tunnel ends first. It fails with [ErrFrame] or, where too much
// waits for a place already, [ErrBacklog]. It returns at once.
func (t *Tunnel) Inject(to Side, op ws.Opcode, payload []byte) error {
	switch op {
	case ws.OpText, ws.OpBinary:
	case ws.OpPing, ws.OpPong:
		if len(payload) > maxControlPayload {
			return ErrFrame
		}
	default:
		return ErrFrame
	}
	if !t.inject(to, op, newFrame(to, op, payload)) {
		return ErrBacklog
	}
	return nil
}

// inject reports false where too much waits already.
func (t *Tunnel) inject(to Side, op ws.Opcode, frame []byte) bool {
	from := &t.client
	if to == Client {
		from = &t.backend
	}
	if !from.reserve(frame) {
		return false
	}
	t.loop.Post(func() {
		from.conn.Do(func() {
			switch {
			case t.over() || from.ended:
				from.backlog.Add(-int32(len(frame)))
			case t.held != nil:
				from.backlog.Add(-int32(len(frame)))
				t.held.late.Frames = append(t.held.late.Frames, LateFrame{To: to, Op: op, Frame: frame})
			default:
				from.inject(op, frame)
				from.boundary()
			}
		})
	})
	return true
}

// maxControlPayload is that of RFC 6455, section 5.5.
const maxControlPayload = 125

// Stats returns what has gone through the tunnel so far. It waits for nobody.
func (t *Tunnel) Stats() Stats {
	return Stats{
		ToBackend: t.client.traffic(), ToClient: t.backend.traffic(),
		Idle: max(0, t.loop.Elapsed()-time.Duration(t.active.Load())),
	}
}
