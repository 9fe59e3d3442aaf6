//go:build linux && !portable

package proxy

import (
	"errors"
	"io"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
	"wstunnel/internal/session"
)

// connection is a client's connection over HTTP/1.x on an event loop.
type connection struct {
	*doors
	from   origin
	client *session.Client
}

// Requested begins an exchange. What no loop serves is handed to net/http.
func (c *connection) Requested(stream session.Stream, r *head.Request) session.Exchange {
	c.client = stream.(*session.Client)
	x := &loopExchange{exchange: c.server.newExchange(c.server.ctx, r, c.from), conn: c, client: stream}
	if !x.begin() {
		c.handOver()
		return nil
	}
	return x
}

// begin decides what becomes of the request and begins with it. It reports false where no loop can do it.
func (x *loopExchange) begin() bool {
	if a := x.answerForChallenge(); a != nil {
		x.give(a)
		return true
	}
	d := x.decide()
	switch {
	case d.action == forwardHTTP:
		x.tell(d)
		x.forward(x.location.http, "")
	case d.action == openTunnel && x.location.Mode == config.ModeTunnel:
		x.tell(d)
		x.forward(x.location.websocket, x.in.request.Protocol)
	case d.action == serveStatic:
		x.tell(d)
		x.sendFile()
	case d.action == openTunnel:
		return false
	default:
		x.tell(d)
		x.give(x.answerFor(d))
	}
	return true
}

// handOver gives the connection to net/http, with what was read from it.
func (c *connection) handOver() {
	read := []byte(c.client.HeadText())
	conn, ahead := c.client.Take()
	c.forget(conn.Loop(), c)
	released, err := conn.Release()
	if err != nil {
		c.server.admission.refuse("handing over: "+err.Error(), c.from.remote.Addr())
		conn.Close()
		c.from.leave()
		return
	}
	client := newClientConn(released, c.from)
	client.ahead = append(read, ahead...)
	there := c.server.tunnels.holdHandover()
	go func() {
		defer there()
		c.server.web.http1.give(client)
	}()
}

// Refused logs a head that was refused.
func (c *connection) Refused(err *head.Error) {
	c.server.logRefused(c.from, &headError{err.Status, err.Reason})
}

// Timeouts are those of the configuration that holds now.
func (c *connection) Timeouts() (requestHead, keepAlive time.Duration) {
	t := &c.server.gen.Load().cfg.Timeouts
	return t.RequestHead, t.KeepAlive
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
