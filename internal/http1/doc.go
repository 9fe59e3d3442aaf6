// Package http1 takes the bytes of HTTP/1.x apart (RFC 9112): bytes in, events out. It is pure.
//
// A decoder is fed with what has come, and tells what it is:
//
//	for {
//		n, event, err := d.Next(p)
//		p = p[n:]
//		...
//		if event == More {
//			break
//		}
//	}
//
// What two parsers could read in two ways is refused. Of responses the decoder forgives what hand-written backends are known for, where it
// can be read in one way only: lines that end in a bare LF, and folded lines.
package http1

// Event is what the bytes were.
type Event int

// The events. After an error there are no more.
const (
	More Event = iota // all is taken; the next event needs more bytes
	Head              // a head is whole: the decoder's Request or Response
	Data              // a piece of a body, the decoder's Data, which aliases what was fed
	End               // the message is whole, with the decoder's Trailers
)
