//go:build !unix

package proxy

import "net"

// nothingToRead cannot look into a connection here; a retry finds out.
func nothingToRead(net.Conn) bool { return true }
