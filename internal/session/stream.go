package session

import (
	"net/http"
	"strconv"

	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
)

// Stream is one request and its answer as an [Exchange] sees them, whatever protocol the client speaks. Once the connection has broken, or the client
// does not want the answer any more, writing does nothing.
type Stream interface {
	// Respond writes the head of an answer: any number of 1xx, and then one that counts.
	Respond(r *head.Response)
	// Write writes a piece of the answer's body. To a HEAD nothing is written.
	Write(p []byte)
	// Flush sends what was written.
	Flush()
	// End ends the answer.
	End(trailers head.Fields)
	// Abort ends the stream in the middle of an answer: a shortened one must not look whole.
	Abort()
	// Pending returns how many bytes the client has yet to take. Whoever writes is to stop while it is not zero, until Drained.
	Pending() int
	// Full reports whether no more is to be kept for a client that does not take what was written: so much waits, or too much for all clients.
	Full(most int) bool
	// Room returns how many bytes are worth being read for the stream at a time.
	Room() int
	// Responded reports whether the head that counts was written.
	Responded() bool
	// Pause stops the request's body; Resume lets it come.
	Pause()
	Resume()
	// SayContinue asks for the body of a request that waits for it (RFC 9110, section 10.1.1).
	SayContinue()
	// CloseAfterAnswer ends a connection over HTTP/1.x behind this answer.
	CloseAfterAnswer()
	// Conn returns the connection, whose loop the stream belongs to.
	Conn() *reactor.Conn
	// Worker returns that of the connection's loop.
	Worker() *Worker
}

// refuse answers a head that is refused.
func refuse(s Stream, bad *head.Error) {
	body := strconv.Itoa(bad.Status) + " " + http.StatusText(bad.Status) + ": " + bad.Reason + "\n"
	var fields head.Fields
	fields.Add(head.ContentType, "text/plain; charset=utf-8")
	fields = append(fields, head.Field{Name: "X-Content-Type-Options", Value: "nosniff"})
	s.Respond(&head.Response{Status: bad.Status, Fields: fields, Length: int64(len(body))})
	s.Write([]byte(body))
	s.End(nil)
}
