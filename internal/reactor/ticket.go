package reactor

import "encoding/binary"

// A server of crypto/tls sends the ticket for another session behind its part of the handshake. Here it leaves with what is sent next: a client that asks and closes at
// once, as WordPress does to have its cron run, never reads it, and the reset that its system sends for that would take with it what has come and is not read yet.

// What of a TLS record is not encrypted (RFC 8446, section 5.1), and how long the other messages at the end of a server's part are: that of a Finished with SHA-384.
const (
	recordHeader    = 5
	applicationData = 23
	longestFinished = recordHeader + 4 + 48 + 1 + 16
)

// cutTicket cuts whole records of a handshake where the ticket begins that they end in, if they do.
func cutTicket(records []byte) (before, ticket []byte) {
	for rest := records; len(rest) >= recordHeader; {
		n := recordHeader + int(binary.BigEndian.Uint16(rest[3:]))
		switch {
		case n < len(rest):
			rest = rest[n:]
		case n == len(rest) && rest[0] == applicationData && n > longestFinished:
			return records[:len(records)-n], rest
		default:
			return records, nil
		}
	}
	return records, nil
}
