//go:build !portable

package session

import (
	"net"
	"testing"
)

func TestBridgeTellsThatThePeerHungUpBehindUnreadBytes(t *testing.T) {
	eachBridge(t, "", func(t *testing.T, b *Bridge, peer net.Conn) {
		for range 3 { // less than the system takes, and more than the bridge does
			peer.Write(make([]byte, maxAhead/2))
		}
		if b.HungUp() {
			t.Error("hung up before its time")
		}
		peer.Close()
		eventually(t, "hung up", b.HungUp)
	})
}
