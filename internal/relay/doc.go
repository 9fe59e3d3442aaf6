// Package relay carries a WebSocket connection message by message, for `mode: relay`: fragments are put together, and the client is
// offered permessage-deflate (RFC 7692) whether the backend knows it or not.
//
// websocketproxy moves the messages, between two ends that let it see only what it can be trusted with. Both handshakes are over or checked when
// a [Session] starts: the backend has answered, and websocketproxy repeats its handshake against backend.go, which answers from memory.
//
//	session.go    both ends, and why they ended
//	handshake.go  what websocketproxy is started with; the client's 101
//	endpoint.go   one end: messages for websocketproxy, and the closing handshake
//	frames.go     what a peer sends: RFC 6455 kept to, messages bounded and inflated
//	memory.go     what the messages of all relays may take together
//	stall.go      writes that get nowhere
//	backend.go    one frame a message to the backend
package relay
