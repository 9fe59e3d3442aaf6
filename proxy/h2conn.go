//go:build !linux || portable

package proxy

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"
)

// h2Conn is a client's HTTP/2 connection, decrypted, with its frame headers watched in both directions.
type h2Conn struct {
	*clientConn
	guard   h2Guard
	in, out h2Follower
	logged  atomic.Bool
}

func (c *h2Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	for n == 0 && errors.Is(err, os.ErrDeadlineExceeded) && !c.idleForLong() {
		n, err = c.Conn.Read(p)
	}
	if n == 0 && errors.Is(err, os.ErrDeadlineExceeded) {
		c.clientConn.Write(c.guard.goAway())
		return 0, io.EOF
	}
	if bad := c.in.follow(p[:n], time.Now(), c.guard.received); bad != nil {
		c.cut(bad)
		return 0, bad
	}
	return n, err
}

// Write sends frames of the server's.
func (c *h2Conn) Write(p []byte) (int, error) {
	if bad := c.out.follow(p, time.Now(), c.guard.answered); bad != nil {
		c.cut(bad)
		return 0, bad
	}
	return c.clientConn.Write(p)
}

// cut logs why the connection ends.
func (c *h2Conn) cut(bad error) {
	if !c.logged.Swap(true) {
		c.listener.server.logRefused(c.origin, badHead("%v", bad))
	}
}

// begun notes that a stream's request has come: the connection is no longer idle.
func (c *h2Conn) begun() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open++; c.open == 1 {
		c.Conn.SetReadDeadline(time.Time{})
	}
}

// answered notes that a stream's response has ended. With the last one, the time that keepalive allows begins.
func (c *h2Conn) answered() {
	c.clientConn.answered()
	c.idleForLong()
}

// idleForLong reports whether the connection has had no stream for as long as keepalive allows; it sets the deadline for when that
// will be.
func (c *h2Conn) idleForLong() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open > 0 {
		c.Conn.SetReadDeadline(time.Time{})
		return false
	}
	until := c.idleSince.Add(c.listener.server.gen.Load().cfg.Timeouts.KeepAlive)
	c.Conn.SetReadDeadline(until)
	return past(until)
}
