package access

import "net/netip"

// Allowed reports whether a client is let in by lists of networks: the longest that holds it decides, and deny between equal ones. Where none does, it is let in
// if nobody is allowed by name.
func Allowed(client netip.Addr, allow, deny []netip.Prefix) bool {
	yes, no := longest(client, allow), longest(client, deny)
	if yes < 0 && no < 0 {
		return len(allow) == 0
	}
	return yes > no
}

// longest returns the length of the longest network that holds an address, or -1.
func longest(client netip.Addr, networks []netip.Prefix) int {
	length := -1
	for _, n := range networks {
		if n.Contains(client) {
			length = max(length, n.Bits())
		}
	}
	return length
}
