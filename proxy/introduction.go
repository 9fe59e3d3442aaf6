package proxy

import (
	"errors"
	"io"

	"wstunnel/internal/proxyproto"
	"wstunnel/internal/reactor"
)

// introduction is a connection of a trusted proxy until its PROXY header has come, which says who the client is.
type introduction struct {
	*clients
	place
	conn  *reactor.Conn
	from  clientInfo
	timer reactor.Timer
	read  []byte
}

// awaitIntroduction awaits the PROXY header of a connection.
func (d *clients) awaitIntroduction(c *reactor.Conn, from clientInfo) {
	i := &introduction{clients: d, conn: c, from: from}
	i.timer.On = i
	c.Handle(i)
	d.rooms[c.Loop()].note(i)
	c.Loop().Set(&i.timer, d.server.gen.Load().cfg.Timeouts.RequestHead)
	c.Resume()
}

// Readable reads the header, and no byte behind it.
func (i *introduction) Readable(c *reactor.Conn) {
	for {
		h, need, err := proxyproto.Parse(i.read)
		switch {
		case err != nil:
			i.refuse(err)
			return
		case need == 0:
			i.introduce(h)
			return
		}
		p, err := c.ReadUpTo(need)
		switch {
		case errors.Is(err, io.EOF) && len(i.read) == 0: // whoever looks whether the port is open
			i.close()
			return
		case err != nil:
			i.refuse(err)
			return
		case len(p) == 0:
			return
		}
		i.read = append(i.read, p...)
	}
}

// introduce goes on with the connection as its client's.
func (i *introduction) introduce(h proxyproto.Header) {
	i.leave()
	if !i.server.admission.introduce(&i.from, h) {
		i.conn.Reset()
		return
	}
	i.open(i.conn, i.from, i.from.secure)
}

// leave ends the waiting for a header.
func (i *introduction) leave() {
	i.conn.Loop().Stop(&i.timer)
	i.forget(i.conn.Loop(), i)
}

// refuse ends a connection that does not say whose it is.
func (i *introduction) refuse(err error) {
	i.server.admission.refuse("proxy_protocol: "+err.Error(), i.from.remote.Addr())
	i.leave()
	i.conn.Reset()
	i.from.leave()
}

// Drained is of no interest.
func (i *introduction) Drained(*reactor.Conn) {}

// Failed ends the connection.
func (i *introduction) Failed(*reactor.Conn, error) { i.close() }

// Expired ends a wait.
func (i *introduction) Expired() { i.refuse(errors.New("the PROXY header has not come in time")) }

// close ends the connection.
func (i *introduction) close() {
	i.leave()
	i.conn.Close()
	i.from.leave()
}
