package reactor

// outgoing is what a peer has not taken yet. It is kept in parts, so that more of it never has what is kept copied.
type outgoing struct {
	parts [][]byte
	sent  int // of the first
	bytes int // that are to be sent
}

// partSize is the size of all parts but the last.
const partSize = maxSpareSize

func (o *outgoing) add(l *Loop, p []byte) {
	o.bytes += len(p)
	for len(p) > 0 {
		last := len(o.parts) - 1
		if last < 0 || len(o.parts[last]) == partSize {
			o.parts = append(o.parts, l.spare())
			last++
		}
		n := min(len(p), partSize-len(o.parts[last]))
		o.parts[last] = append(o.parts[last], p[:n]...)
		p = p[n:]
	}
}

// leaveMost is about how much leaves in a turn.
const leaveMost = 1 << 20

// leave sends what the descriptor takes.
func (o *outgoing) leave(l *Loop, fd int32) error {
	for before := o.bytes; o.bytes > 0 && before-o.bytes < leaveMost; {
		first := o.parts[0]
		n, err := send(fd, first[o.sent:])
		if err != nil {
			return err
		}
		o.sent += n
		o.bytes -= n
		if o.sent < len(first) {
			return nil
		}
		l.putSpare(first)
		o.parts[0] = nil
		o.parts, o.sent = o.parts[1:], 0
	}
	return nil
}

// drop gives the room back.
func (o *outgoing) drop(l *Loop) {
	for _, part := range o.parts {
		l.putSpare(part)
	}
}
