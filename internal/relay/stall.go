package relay

import (
	"time"

	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

const (
	// stallPiece is what a peer is to take some of within the StallTimeout.
	stallPiece = 64 << 10
	// stallCheck is how soon a stalled write is looked at, and how often.
	stallCheck = time.Second
)

// push writes p in pieces, and has the time that each takes looked after.
func (c *endpoint) push(p []byte) error {
	c.moved.Store(int64(c.session.clock.Elapsed()))
	c.stall.Set(stallCheck)
	defer func() {
		c.stall.Stop()
		c.moved.Store(0)
	}()
	for len(p) > 0 {
		n, err := c.Conn.Write(p[:min(len(p), stallPiece)])
		if err != nil {
			return err
		}
		p = p[n:]
		c.moved.Store(int64(c.session.clock.Elapsed()))
	}
	return nil
}

// checkStall ends the session of a write that gets nowhere, for good or because its client is gone: nobody would notice, since the
// client is not read from meanwhile.
func (c *endpoint) checkStall() {
	moved := time.Duration(c.moved.Load())
	stalled := c.session.clock.Elapsed() - moved
	switch {
	case moved == 0 || c.closeSent.Load():
		return
	case stalled < stallCheck:
	case stalled >= c.session.options.StallTimeout:
		c.session.note(tunnel.Result{By: c.side, Cause: tunnel.CauseStall, Code: ws.CloseAbnormal})
		c.session.closeBoth()
		return
	case c.session.client.HungUp():
		c.session.note(tunnel.Result{By: tunnel.Client, Cause: tunnel.CauseEOF, Code: ws.CloseAbnormal})
		c.session.closeBoth()
		return
	}
	c.stall.Set(stallCheck)
}
