// Package proxy is everything between the accept and the close of an HTTP exchange or a tunnel.
//
// A connection's journey, in the order of the files:
//
//	server.go      Server: apply a configuration, stop
//	listener.go    one address: TLS handshake, ALPN
//	doors_*.go     accept, on event loops where there are any; within the limits of admission.go
//	door_linux.go  a request head and a tunnel's handshake on a loop, or a hand-over to net/http
//	webservers.go  the net/http servers that connections are handed to
//	clientconn.go  the bytes an HTTP/1.1 client sends, watched by framing.go and head.go
//	h2conn.go      the frames an HTTP/2 client sends, watched for floods
//	handler.go     an exchange in net/http's hands, with responsewriter.go
//	decide.go      request to site, location and what serves it: pure
//	route.go       which location answers: pure, with path.go
//	identity.go    what the TLS handshake has to do with it: challenges, 421, certificates of clients
//	rewrite.go     what the backend is sent and the client is answered: pure
//	upstream.go    connections to backends
//	forward.go     an HTTP exchange with a backend, with upload.go and response.go
//	websocket.go   a handshake with a backend and the tunnel that follows
//	relay.go       WebSocket message by message, for `mode: relay`, with relayconn.go and inflate.go
//	static.go      a directory, with contenttype.go and sources.go, which says what it keeps back
//	tunnels.go     the live tunnels, and control.go what can be done with them
//	tidy.go        memory given back after a burst
//	accesslog.go   what is logged of an exchange and of a tunnel
//	hints.go       what the operator is told once an hour; httpshint.go is such a case
//
// There are three lifetimes:
//
//   - the process: [Server], listeners, live tunnels and the pools of backend connections;
//   - a generation: the routing table compiled from one configuration. It is immutable and swapped
//     as one pointer;
//   - an exchange: one request or one tunnel. It loads the table once and keeps what it was given, so
//     that a reload never changes its mind half way, and a tunnel outlives every reload.
package proxy
