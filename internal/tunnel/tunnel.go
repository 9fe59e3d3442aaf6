package tunnel

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"wstunnel/internal/reactor"
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
	// Ping is how long a side may be silent before it is sent a ping, whose pong the other side never sees. One that stays
	// silent for twice as long is dead, and the tunnel ends. A side that takes little of what it is sent has longer, since its ping
	// waits: it is dead when it has taken nothing for two periods, or, where the system does not tell what it has taken, when TCP
	// finds it so. Zero: no pings.
	Ping time.Duration
	// Loops are the event loops to run on. Nil: loops that tunnels without any share, which run as long as
	// there are such tunnels.
	Loops *Loops
}

// Tunnel is one live connection. Its exported methods, but for Expired, are safe for concurrent use; all but the atomics belongs to its loop,
// from begin on.
type Tunnel struct {
	client, backend side
	loop            atomic.Pointer[reactor.Loop] // nil until begin is posted
	timer           reactor.Timer
	limits          limits
	active          atomic.Int64 // when the last byte moved, on the loop's clock
	order           atomic.Pointer[closeOrder]
	result          *Result // what ended the tunnel first; nil until then
	pings           *pings  // nil where none are sent
	ends            *[2]End // until it starts
	loops           *Loops  // to start on; nil: the shared ones
	done            func(Result)
	over            bool
	shares          bool // holds the shared loops
}

// Loops are the event loops that tunnels run on.
type Loops = reactor.Group

// Join makes a tunnel of two endpoints of one loop, on that loop, and starts it. It owns both; the client's has its
// [KeepAlive] already. The early bytes are what was read from each beyond the handshake. done is called as [Tunnel.Start] says.
func Join(client, backend reactor.Endpoint, clientEarly, backendEarly []byte, opts Options, done func(Result)) *Tunnel {
	t := &Tunnel{done: done}
	t.init(opts)
	t.loop.Store(client.Loop())
	client.Handle(&t.client)
	backend.Handle(&t.backend)
	t.client.conn, t.backend.conn = client, backend
	backend.SetKeepAlive(KeepAlive)
	client.Do(func() { t.begin(clientEarly, backendEarly) })
	return t
}

// Close starts a closing handshake with both ends: a Close frame at the next frame boundary of
// each direction, after which nothing more is passed on. The connections are closed when both ends have answered, or
// when timeout has passed. Only the first call of Close or of an idle timeout counts. It returns at once.
func (t *Tunnel) Close(code uint16, reason string, cause Cause, timeout time.Duration) {
	if !t.order.CompareAndSwap(nil, &closeOrder{code: code, reason: reason, cause: cause, timeout: timeout}) {
		return
	}
	if loop := t.loop.Load(); loop != nil {
		loop.Post(func() { t.client.conn.Do(t.obey) })
	}
}

// Errors of [Tunnel.Inject].
var (
	ErrFrame   = errors.New("only text, binary, ping and pong frames can be put into a stream, and the latter two carry 125 bytes at most")
	ErrBacklog = fmt.Errorf("more than %d bytes would wait for a place in the stream", maxBacklog)
)

// Inject puts a frame into the stream to one side where RFC 6455 allows it: a ping or pong between two frames (section 5.5), a
// text or binary message between two messages (section 5.4). It is dropped where there will be no such place: behind a Close frame, in a
// stream that broke the rules, or when the tunnel has not started or ends first. It fails with [ErrFrame] or, where too much
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

// maxControlPayload is that of RFC 6455, section 5.5.
const maxControlPayload = 125

// Stats returns what has gone through the tunnel so far. It waits for nobody.
func (t *Tunnel) Stats() Stats {
	stats := Stats{ToBackend: t.client.traffic(), ToClient: t.backend.traffic()}
	if loop := t.loop.Load(); loop != nil {
		stats.Idle = max(0, loop.Elapsed()-time.Duration(t.active.Load()))
	}
	return stats
}
