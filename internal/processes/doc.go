// Package processes makes the tunnels of all processes of one server those of one desk. After an upgrade, tunnels that can't be handed over stay in the older
// process until they end, perhaps for days; who lists, counts, watches, closes or speaks into tunnels is to find them all the same.
//
//	everywhere.go  the tunnels of all processes
//	watch.go       and what happens to them
//	call.go        what is asked of another process, and what it answers
//	older.go       the tunnels of one, for the process that asks
//	answer.go      and the process that is asked
//
// A tunnel goes from an older process to the one that serves only. That one is asked first, so that no tunnel gets a message twice, and, for what is not of many, once more behind
// the others, so that one is found that has come over meanwhile.
package processes
