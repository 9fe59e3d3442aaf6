// Package head is what all protocols speak: the head of a request, the head of a response, and the fields that both are made of. Fields keep
// their order and their spelling as they came. It is pure.
package head

import (
	"fmt"
	"net/http"
	"strconv"
)

// Request is the head of a request. It is not modified once it is whole; its strings share one copy of what came.
type Request struct {
	Method string
	// Target is the request target as it was sent (RFC 9112, section 3.2); of HTTP/2 it is :path.
	Target string
	// Scheme is the :scheme of HTTP/2; empty for HTTP/1.x.
	Scheme string
	// Host is the authority that is asked for, with its port if it has one; empty only for HTTP/1.0.
	Host string
	// Protocol is the :protocol of an extended CONNECT (RFC 8441), "websocket" also for an upgrade request of HTTP/1.1; otherwise empty.
	Protocol string
	Major    int
	Minor    int
	Fields   Fields
	// Length is the number of bytes of the body, 0 for none and [Unknown] where only its end tells.
	Length int64
	// Close says that the connection is to end after the answer.
	Close bool
	// Expect says that the client waits for a 100 before it sends its body (RFC 9110, section 10.1.1).
	Expect bool
}

// Unknown is the length of a body that only its end tells.
const Unknown = -1

// AtLeast11 reports whether the sender speaks HTTP/1.1 or later.
func (r *Request) AtLeast11() bool { return r.Major > 1 || r.Minor >= 1 }

// Proto returns the version of the protocol as logs have it.
func (r *Request) Proto() string {
	switch {
	case r.Major == 2:
		return "HTTP/2.0"
	case r.Minor == 0:
		return "HTTP/1.0"
	}
	return "HTTP/1.1"
}

// HasBody reports whether a body follows.
func (r *Request) HasBody() bool { return r.Length != 0 }

// Response is the head of a response.
type Response struct {
	Status int
	Minor  int // of HTTP/1.x
	Fields Fields
	// Length is the number of bytes of the body, 0 for none and [Unknown] where only its end tells.
	Length int64
	// Chunked says that the body comes in chunks.
	Chunked bool
	// Close says that the connection ends with the response.
	Close bool
}

// Error is a head that is refused, with the status that says so.
type Error struct {
	Status int
	Reason string
}

func (e *Error) Error() string { return e.Reason }

// Bad is a head that is refused with 400.
func Bad(format string, args ...any) *Error {
	return &Error{http.StatusBadRequest, fmt.Sprintf(format, args...)}
}

// Quoted shows a peer's words in a message without letting them flood the log.
func Quoted(s string) string {
	if len(s) > 60 {
		s = s[:60] + "..."
	}
	return strconv.Quote(s)
}
