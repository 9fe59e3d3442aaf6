// Package proxy is everything between the accept and the close of an HTTP exchange or a tunnel.
//
// A connection's journey, in the order of the files:
//
//	server.go      Server: apply a configuration, stop
//	listener.go    one address
//	clients.go     accept, on event loops, within the limits of admission.go
//	arrival.go     a TLS handshake, and which protocol follows
//	connection.go  a client's connection over HTTP/1.x
//	http2.go       a client's connection over HTTP/2
//	introduction.go  the PROXY header before either, and what a backend is sent of it
//	exchange.go    one request, from its head to its line in the log
//	decide.go      request to site, location and what serves it: pure, by the sites of table.go; routing.go finds the location
//	guard.go       who may have it: addresses, passwords, and by inquiry.go another server
//	identity.go    what the TLS handshake has to do with it: 421, certificates of clients
//	rules.go       what the configuration says of heads, which become by internal/rewrite what the backend is sent and the client is answered
//	answer.go      answers of this front end's own, and page.go the pages that some become
//	compress.go    an answer that is made shorter on its way
//	reply.go       a server, and its answer to the client; backlog.go has what a slow client has yet to take
//	balance.go     what of a request decides which server it goes to, and the cookie that keeps it there, by the key of stickykey.go
//	forward.go     a request for a server, by delivery.go; upload.go has its body
//	script.go      what a path means on a location with PHP; php.go has a script run, with the parameters of params.go; namedfile.go: a file that it names
//	upgrade.go     a request for a WebSocket; its tunnel is of internal/tunnel, or by relay.go of internal/relay
//	static.go      a file below a directory on its way to a client; search.go finds it, listing.go lists the directory
//	tunnels.go     the live tunnels, and control.go what can be done with them
//	drain.go       tunnels that are closed in good order, by scope, spread out; ondown.go: those of a server that goes down
//	handover.go    listeners and plain tunnels that another process is given, or gives; winddown.go: the rest of such a process; keeper.go: of one that ends
//	explain.go     what would be decided, told by those who decide: explainroute.go, explaindisk.go, explainserver.go, explainhead.go, explainanswer.go
//	tidy.go        memory given back after a burst
//	accesslog.go   what is logged of an exchange; accesslogs.go: where to
//	counts.go      what is counted of requests and tunnels; metrics.go and backendmetrics.go tell it, lag.go measures how long loops let things wait
//	hints.go       what the operator is told once an hour; causes.go and httpshint.go have the cases
//
// There are three lifetimes:
//
//   - the process: [Server], listeners, live tunnels and the pools of connections to backends;
//   - a generation: the routing table compiled from one configuration. It is immutable and swapped
//     as one pointer;
//   - an exchange: one request or one tunnel. It loads the table once and keeps what it was given, so
//     that a reload never changes its mind half way, and a tunnel outlives every reload.
package proxy
