// Package tunnel joins the two ends of one live WebSocket connection and moves bytes between
// them, unchanged and in order, until both ends are done.
//
// A tunnel knows frame boundaries (through [wstunnel/internal/ws]) but not the HTTP that came
// before: whoever opened it hands over two connections, with whatever was read from them beyond
// the handshake.
//
// The engine here runs on two goroutines a tunnel, one for each direction. A direction's
// scanner, its buffer and its writes belong to that goroutine alone; others speak to it by leaving a
// close order and interrupting its read.
package tunnel
