// Package handover is what two processes of the server say to one another while the younger one takes over: over a pair of connected sockets, of which the younger
// has inherited one end, so that nobody else can open it.
//
// The older one offers its listeners. When the younger says that it is ready, tunnels follow, each in a transaction: the older one holds it and sends its state with both
// descriptors; the younger adopts it, in which nothing moves yet, and says so; the older one closes its descriptors and says that
// this is done, and only then the younger one goes on. A tunnel that is refused, or whose adoption is not heard of in time, is withdrawn and goes on
// where it was. A younger one that hears no more because the older one is gone goes on with all that it has adopted; an older one goes on with
// all whose adoption it has not heard of when the younger one is gone. So no tunnel ever has two owners, and only the end of both loses one.
//
//	link.go      messages with descriptors
//	coder.go     how values are written and read, each within its bounds
//	messages.go  what is said
//	record.go    a tunnel
//	giver.go     the older process's end
//	taker.go     the younger one's
package handover
