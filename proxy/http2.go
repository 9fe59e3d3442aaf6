package proxy

import (
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"slices"
	"strings"

	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
	"wstunnel/internal/session"
	"wstunnel/internal/ws"
)

// uploadWindows is how many bytes the windows of all streams over HTTP/2 may grow by, while they carry uploads.
const uploadWindows = 64 << 20

// multiplexed is a client's connection over HTTP/2 on an event loop.
type multiplexed struct {
	served
	client *session.HTTP2
}

// openHTTP2 serves a connection over HTTP/2.
func (d *clients) openHTTP2(c *reactor.Conn, from clientInfo) {
	if d.closing.Load() {
		c.Close()
		from.leave()
		return
	}
	room := d.rooms[c.Loop()]
	conn := &multiplexed{served: served{clients: d, from: from}}
	room.note(conn)
	conn.client = session.ServeHTTP2(c, room.worker, conn, d.uploads)
}

// Requested begins an exchange.
func (m *multiplexed) Requested(stream session.Stream, r *head.Request) session.Exchange {
	extended := r.Method == http.MethodConnect && r.Protocol != ""
	if extended {
		r = upgradeOf(r)
	}
	x := m.server.newExchange(stream, r, m.from)
	x.extended = extended
	x.begin()
	return x
}

// upgradeOf returns an extended CONNECT (RFC 8441, section 4) as the request for an upgrade that a client over HTTP/1.1 would have sent, with a key of our
// own. Firefox may leave the version out.
func upgradeOf(connect *head.Request) *head.Request {
	r := *connect
	r.Method, r.Protocol, r.Length, r.Expect = http.MethodGet, strings.ToLower(r.Protocol), 0, false
	r.Fields = slices.DeleteFunc(slices.Clone(r.Fields), func(f head.Field) bool { return f.ID == head.SecWebSocketKey || f.ID == head.ContentLength })
	var key [16]byte
	rand.Read(key[:])
	r.Fields.Add(head.SecWebSocketKey, base64.StdEncoding.EncodeToString(key[:]))
	if !r.Fields.Has(head.SecWebSocketVersion) {
		r.Fields.Add(head.SecWebSocketVersion, ws.Version)
	}
	return &r
}

// Closed counts the connection out.
func (m *multiplexed) Closed(conn *reactor.Conn) {
	m.forget(conn.Loop(), m)
	m.from.leave()
}

// close lets the connection end behind the answers to what the client has asked for.
func (m *multiplexed) close() { m.client.Drain() }
