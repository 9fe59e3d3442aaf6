// Package fastcgi knows the bytes of FastCGI 1.0 at the web server's end: the records of one request at a time on a connection, its parameters, and the head of
// the answer (RFC 3875, section 6). It is pure, and shaped as [http1] is.
package fastcgi

// Types of records.
const (
	typeBegin  = 1
	typeEnd    = 3
	typeParams = 4
	typeStdin  = 5
	typeStdout = 6
	typeStderr = 7
)

const (
	version       = 1
	requestID     = 1 // of the one request that there is at a time
	roleResponder = 1
	flagKeep      = 1
	headerSize    = 8
	endSize       = 8
	maxContent    = 0xFFFF
)
