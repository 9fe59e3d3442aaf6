package probe

import (
	"context"
	"encoding/binary"
	"time"

	"wstunnel/internal/ws"
)

// close ends the WebSocket in good order. Whatever the server makes of it, it was open.
func (p *probe) close(ctx context.Context, s *Step) *failure {
	deadline, _ := ctx.Deadline()
	p.conn.SetDeadline(deadline)
	begin := time.Now()
	code := binary.BigEndian.AppendUint16(nil, ws.CloseNormal)
	if err := p.socket.send(ws.OpClose, code); err != nil {
		s.Result = "the connection broke: " + plainly(err)
		p.note("the server did not wait for a Close frame")
		return nil
	}
	for {
		f, err := p.socket.next()
		s.Took = Milliseconds(time.Since(begin))
		switch {
		case err != nil:
			s.Result = "1000, not answered: " + plainly(err)
			p.note("the server does not answer a Close frame with its own (RFC 6455, section 5.5.1): browsers tell the page of 1006, an unclean end")
			return nil
		case f.opcode == ws.OpClose:
			s.Result = "1000, answered with " + closing(f.payload)
			return nil
		}
	}
}
