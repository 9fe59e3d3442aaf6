package tunnel

import (
	"errors"
	"fmt"
	"net"
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
	// Ping is how long a side may be silent before it is sent a ping, whose pong the other side never sees. One that stays
	// silent for twice as long is dead, and the tunnel ends. A side that takes little of what it is sent has longer, since its ping
	// waits: on a loop it is dead when it has taken nothing for two periods, on goroutines TCP's timeouts find it. Zero: no pings.
	Ping time.Duration
	// Loops are the event loops to run on. Nil: loops that tunnels without any share, which run as long as
	// there are such tunnels.
	Loops *Loops
	// Pipes bounds the pipes of splices on goroutines, which keep theirs while they wait: each puts one into the channel, and where that
	// is full bytes are copied. Nil: no bound. Loops bound their own.
	Pipes chan struct{}
}

// Payloads with at least spliceMin bytes to come move inside the kernel, spliceChunk at a time so that
// activity shows and others have their turn.
const (
	spliceMin   = 64 << 10
	spliceChunk = 1 << 20
)

// Tunnel is one live connection. Its methods are safe for concurrent use.
type Tunnel struct{ engine engine }

// engine moves a tunnel's bytes, on goroutines or on an event loop.
type engine interface {
	start(done func(Result))
	close(code uint16, reason string, cause Cause, timeout time.Duration)
	inject(to Side, op ws.Opcode, frame []byte) bool
	stats() Stats
}

// New makes a tunnel between two ends; [Tunnel.Start] sets it going. On Linux it runs on an event loop where both
// connections allow it: TCP connections, Unix sockets, and TLS connections over a [Transport]. All others
// run on goroutines.
func New(client, backend End, opts Options) *Tunnel {
	return &Tunnel{newEngine(client, backend, opts)}
}

// Start moves bytes until both ends are done, then closes both and calls done, once, on a goroutine of
// the tunnel's or on its loop, which must not be kept. It returns at once.
func (t *Tunnel) Start(done func(Result)) { t.engine.start(done) }

// Close starts a closing handshake with both ends: a Close frame at the next frame boundary of
// each direction, after which nothing more is passed on. The connections are closed when both ends have answered, or
// when timeout has passed. Only the first call of Close or of an idle timeout counts. It returns at once.
func (t *Tunnel) Close(code uint16, reason string, cause Cause, timeout time.Duration) {
	t.engine.close(code, reason, cause, timeout)
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
	if !t.engine.inject(to, op, newFrame(to, op, payload)) {
		return ErrBacklog
	}
	return nil
}

// maxControlPayload is that of RFC 6455, section 5.5.
const maxControlPayload = 125

// Stats returns what has gone through the tunnel so far. It waits for nobody.
func (t *Tunnel) Stats() Stats { return t.engine.stats() }

// closeOrder asks both directions for a closing handshake.
type closeOrder struct {
	code   uint16
	reason string
}
