// Package reactor runs connections on event loops: one loop per processor, each a goroutine with an
// epoll(7) descriptor that owns its connections outright. It knows descriptors, TLS and time, and
// nothing of what the bytes mean. It is for Linux; elsewhere the package is empty.
//
// A [Group] holds the loops. A [Conn] is one non-blocking descriptor; it belongs to one [Loop], and but for
// what is said to be safe elsewhere its methods are called on that loop only: from a [Handler], an
// [Expirer], or a function given to [Loop.Post]. So nothing on the data path takes a lock, and
// nothing there may block.
//
// An idle connection costs its Conn and a place in a table. It reads into its loop's buffer, keeps
// only what the peer would not take, and has its timers' links inside the caller's own structures.
package reactor
