package tunnel

import "time"

// Side is one of the parties that can end a tunnel.
type Side string

// The sides.
const (
	Client  Side = "client"
	Backend Side = "backend"
	Proxy   Side = "proxy"
)

// Cause is why a tunnel ended.
type Cause string

// The causes.
const (
	CauseClose     Cause = "close frame"        // a side sent a Close frame
	CauseEOF       Cause = "end of stream"      // a side ended its stream without a Close frame
	CauseReset     Cause = "connection lost"    // reading from or writing to a side failed
	CauseIdle      Cause = "idle timeout"       // no byte moved for too long
	CauseHalfClose Cause = "half-close timeout" // one direction ended and the other fell silent
	CauseTooBig    Cause = "message too big"    // a relayed message is longer than it may be
	CauseMemory    Cause = "no memory left"     // the messages of all relays together are too long
	CauseStall     Cause = "write stalled"      // a relayed side took nothing for too long
	CausePing      Cause = "ping timeout"       // a side did not answer a ping
	CauseProtocol  Cause = "protocol error"     // a relayed side broke RFC 6455 or RFC 7692
	CauseOrder     Cause = "closed by order"    // somebody who runs the front end asked for it
	CauseDrain     Cause = "drain"              // the front end is stopping
)

// Traffic is what went through one direction.
type Traffic struct {
	Bytes    uint64
	Messages uint64 // whole data messages, as long as the stream kept to RFC 6455
	Opaque   bool   // the stream broke RFC 6455 and was passed on uncounted from there
}

// Stats is a tunnel's traffic so far.
type Stats struct {
	ToBackend, ToClient Traffic
	Idle                time.Duration // since the last byte in either direction
}

// Result is how a tunnel ended.
type Result struct {
	By    Side
	Cause Cause
	// Code is the Close code: the first one seen, 1005 for a Close frame without a code, 1006 where there was
	// no Close frame at all.
	Code                uint16
	Err                 error // what failed, for CauseReset, CauseTooBig, CauseMemory and CauseProtocol
	ToBackend, ToClient Traffic
}
