// Package session makes streams of connections: of a client's connection over HTTP/1.x one request and its answer after the other, of a connection
// to a backend the same from the other end. It joins a connection of an event loop ([reactor.Conn]) and a codec ([http1]), and knows nothing of
// what requests are for.
//
// All of it belongs to the loop of its connection. A callback never blocks, and whatever it was told in slices is valid until it returns.
package session
