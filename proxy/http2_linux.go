//go:build linux && !portable

package proxy

import (
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
	"wstunnel/internal/session"
)

// uploadWindows is how many bytes the windows of all streams over HTTP/2 may grow by, while they carry uploads.
const uploadWindows = 64 << 20

// multiplexed is a client's connection over HTTP/2 on an event loop.
type multiplexed struct {
	*doors
	from   origin
	client *session.HTTP2
}

// openHTTP2 serves a connection over HTTP/2.
func (d *doors) openHTTP2(c *reactor.Conn, from origin) {
	if d.closing.Load() {
		c.Close()
		from.leave()
		return
	}
	room := d.rooms[c.Loop()]
	conn := &multiplexed{doors: d, from: from}
	room.conns[conn] = struct{}{}
	conn.client = session.ServeHTTP2(c, room.worker, conn, d.uploads)
}

// Requested begins an exchange.
func (m *multiplexed) Requested(stream session.Stream, r *head.Request) session.Exchange {
	x := &loopExchange{exchange: m.server.newExchange(m.server.ctx, r, m.from), client: stream}
	x.begin()
	return x
}

// Refused logs a head that was refused, or why the connection was cut.
func (m *multiplexed) Refused(err *head.Error) {
	m.server.logRefused(m.from, err)
}

// Timeouts are those of the configuration that holds now.
func (m *multiplexed) Timeouts() (requestHead, keepAlive time.Duration) {
	t := &m.server.gen.Load().cfg.Timeouts
	return t.RequestHead, t.KeepAlive
}

// Closed counts the connection out.
func (m *multiplexed) Closed(conn *reactor.Conn) {
	m.forget(conn.Loop(), m)
	m.from.leave()
}

// close lets the connection end behind the answers to what the client has asked for.
func (m *multiplexed) close() { m.client.Drain() }
