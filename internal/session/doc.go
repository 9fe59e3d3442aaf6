// Package session makes streams of connections: of a client's over HTTP/1.x one request and its answer after the other, over HTTP/2 many side by side, of a
// connection to a backend the same from the other end. It joins a connection of an event loop ([reactor.Conn]) and a codec ([http1], [http2]), and knows nothing
// of what requests are for.
//
//	stream.go      a request and its answer, whatever protocol the client speaks
//	client.go      a client over HTTP/1.x: what it sends; clientanswer.go: what it is answered; clientend.go: how it ends
//	http2.go       a client over HTTP/2: what it sends; http2stream.go: one of its streams; http2out.go: what it is sent; http2time.go: how long it may take
//	switched.go    a stream over HTTP/2 that carries another protocol
//	backend.go     a connection to a backend, over HTTP/1.1 or FastCGI: dialect.go
//	splice.go      bodies that stay inside the kernel, and files: sendfile.go
//	bridge.go      a net.Conn over a connection of a loop, for code on goroutines
//	worker.go      what the sessions of one loop share, and memory.go all of them
//
// All of it but the bridge's ends belongs to the loop of its connection. A callback never blocks, and whatever it was told in slices is valid until it returns.
package session
