// Package tunnel joins the two ends of one live WebSocket connection and moves bytes between
// them, unchanged and in order, until both ends are done.
//
// A tunnel knows frame boundaries (through [wstunnel/internal/ws]) but not the HTTP that came
// before: whoever opened it hands over two connections, with whatever was read from them beyond
// the handshake.
//
// A flow follows one direction's frames, puts frames of our own between them and takes the answers to them out. A tunnel lives on an
// event loop of [wstunnel/internal/reactor], which owns all of it: an idle one has no goroutine, buffer or timer of its own.
package tunnel
