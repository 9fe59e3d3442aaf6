// Package reactor runs connections on event loops: one loop per processor, each a goroutine that owns
// its connections outright. It knows descriptors, TLS and time, and nothing of what the bytes mean.
//
// A [Group] holds the loops. A [Conn] is one non-blocking descriptor; it belongs to one [Loop], and but for
// what is said to be safe elsewhere its methods are called on that loop only: from a [Handler], an
// [Expirer], or a function given to [Loop.Post]. So nothing on the data path takes a lock, and
// nothing there may block.
//
// An idle connection costs its Conn and a place in a table. It reads into its loop's buffer, keeps
// only what the peer would not take, and has its timers' links inside the caller's own structures.
//
// On Linux a loop learns of what happens from an epoll(7) descriptor. On other systems of the Unix family, and with the build
// tag portable, goroutines wait for it in Go's own poller, one or two for each connection, and tell the loop;
// nothing else differs, but that bytes are not spliced, that nothing is known of what a peer has
// acknowledged, and that the system decides whether the reset of a paused connection is told.
package reactor
