// Package http2 is the server's end of HTTP/2 (RFC 9113): bytes in, events out. It is pure.
//
// A [Conn] is fed with what has come, and tells what it is. What the protocol itself has to say to that (acknowledgements, windows, resets) it appends
// to Out, behind the frames that it is told to make; to send Out is the caller's:
//
//	for {
//		n, event, err := c.Next(p)
//		p = p[n:]
//		...
//		if event == More {
//			break
//		}
//	}
//
// Time is what the caller says it is, and whatever a peer can make this end do or hold is counted.
package http2

// Event is what the bytes were.
type Event int

// The events. They are about the Conn's Stream. After an error there are no more.
const (
	More      Event = iota // all is taken; the next event needs more bytes
	Request                // a request has begun: the stream's Request, or its Refusal
	Data                   // a piece of its body, the Conn's Data, which aliases what was fed
	End                    // the request is whole, with the Conn's Trailers
	Reset                  // the stream has ended before its time, for the Conn's Cause
	Window                 // more can be sent on the stream; on any, where Stream is nil
	PingAcked              // the client has seen all that was sent before the Conn's Ping
	Unserved               // a request, or trailers of one, has come that is not served; what there was to say to it is in Out
)
