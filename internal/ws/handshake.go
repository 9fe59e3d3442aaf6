package ws

import (
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"net/textproto"
	"strings"
)

// Version is the only protocol version there is (RFC 6455, section 4.1).
const Version = "13"

// acceptGUID is appended to the key before hashing (RFC 6455, section 1.3).
const acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// Accept returns the Sec-WebSocket-Accept value that answers key (RFC 6455, section 4.2.2).
func Accept(key string) string {
	sum := sha1.Sum([]byte(key + acceptGUID))
	return base64.StdEncoding.EncodeToString(sum[:])
}

// Switching are the fields of a 101 that say what was switched to.
type Switching struct{ Upgrade, Connection, Accept []string }

// Check checks that the 101 answers a handshake with the given Sec-WebSocket-Key headers
// (RFC 6455, section 4.1): nothing answers any other number of them than one.
func (s Switching) Check(keys []string) error {
	switch {
	case len(keys) != 1:
		return fmt.Errorf("the 101 answers a request with %d Sec-WebSocket-Key headers; a tunnel needs one", len(keys))
	case !HasToken(s.Upgrade, "websocket"):
		return fmt.Errorf("the 101 has Upgrade %s, not websocket", quoteList(s.Upgrade))
	case !HasToken(s.Connection, "upgrade"):
		return fmt.Errorf("the 101 has Connection %s, not Upgrade", quoteList(s.Connection))
	case len(s.Accept) != 1 || strings.TrimSpace(s.Accept[0]) != Accept(keys[0]):
		return fmt.Errorf("the 101 has Sec-WebSocket-Accept %s; the key asks for %q", quoteList(s.Accept), Accept(keys[0]))
	}
	return nil
}

// HasToken reports whether a comma-separated header, which may stand on several lines, holds
// the token in any case.
func HasToken(values []string, token string) bool {
	for _, v := range values {
		for part := range strings.SplitSeq(v, ",") {
			if strings.EqualFold(textproto.TrimString(part), token) {
				return true
			}
		}
	}
	return false
}

// quoteList shows a header's values in a message, without letting a peer flood the log.
func quoteList(values []string) string {
	if len(values) == 0 {
		return "missing"
	}
	s := strings.Join(values, ", ")
	if len(s) > 80 {
		s = s[:80] + "..."
	}
	return fmt.Sprintf("%q", s)
}
