// Package logs writes the lines of the server's log and of its access logs, and keeps a slow reader or a full disk from
// holding anybody up.
//
//	log.go      a place with a format: lines of the server's own, and of requests
//	request.go  what is told of a request, in each format
//	output.go   where lines are collected on their way to a file or a terminal
//	bounded.go  how long a peer may make a line
package logs
