package proxy

import (
	"errors"
	"io"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
	"wstunnel/internal/session"
)

// served is a client's connection over either protocol, as far as they are alike.
type served struct {
	*clients
	place
	from clientInfo
}

// Refused logs a head that was refused, or why the connection was cut.
func (s *served) Refused(err *head.Error) { s.server.logRefused(s.from, err) }

// Timeouts are those of the configuration that holds now.
func (s *served) Timeouts() (requestHead, keepAlive time.Duration) {
	t := &s.server.gen.Load().cfg.Timeouts
	return t.RequestHead, t.KeepAlive
}

// connection is a client's connection over HTTP/1.x on an event loop.
type connection struct {
	served
	client *session.Client
}

// Requested begins an exchange.
func (c *connection) Requested(stream session.Stream, r *head.Request) session.Exchange {
	c.client = stream.(*session.Client)
	if c.windingDown.Load() {
		c.client.CloseAfterAnswer()
	}
	x := c.server.newExchange(stream, r, c.from)
	x.conn = c
	x.begin()
	return x
}

// Closed counts the connection out.
func (c *connection) Closed(conn *reactor.Conn) {
	c.forget(conn.Loop(), c)
	c.from.leave()
}

// close ends the connection, behind the answer that is given now if there is one.
func (c *connection) close() { c.client.CloseAfterAnswer() }

// isGone reports an error that says just that the client has left.
func isGone(err error) bool { return errors.Is(err, io.EOF) }
