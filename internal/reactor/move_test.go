package reactor

import (
	"crypto/tls"
	"testing"
)

// TestMovedConnIsToldOfOnItsNewLoopOnly: over TLS a loop may have been about to read it again.
func TestMovedConnIsToldOfOnItsNewLoopOnly(t *testing.T) {
	g, _ := startGroup(t)
	if len(g.Loops) < 2 {
		t.Skip("one loop")
	}
	for range 20 {
		c, peer, _ := securePair(t, g, true, tls.VersionTLS13)
		from, to := c.loop, g.Loops[0]
		if from == to {
			to = g.Loops[1]
		}
		read := make(chan string, 10)
		start(t, c, &script{readable: func(c *Conn) {
			p, err := c.Read()
			if err != nil {
				c.Close()
			} else if len(p) > 0 {
				read <- string(p)
			}
		}})
		moved := make(chan bool)
		on(t, from, func() {
			c.Pause()
			c.Resume() // it is to be read again in this turn
			c.Pause()
			c.Move(to, func() {
				c.Resume()
				close(moved)
			})
		})
		await(t, moved)
		peer.Write([]byte("hello"))
		if got := await(t, read); got != "hello" {
			t.Errorf("got %q", got)
		}
		g.clock.Skip(0) // and nobody else is told
		peer.Close()
	}
}
