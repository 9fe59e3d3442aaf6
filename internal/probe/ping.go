package probe

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
	"unicode/utf8"

	"wstunnel/internal/ws"
)

// ping sends a ping and waits for its pong (RFC 6455, section 5.5.2).
func (p *probe) ping(ctx context.Context, s *Step) *failure {
	deadline, _ := ctx.Deadline()
	p.conn.SetDeadline(deadline)
	p.socket = newSocket(p.conn, p.early, p.extended)
	payload := []byte(rand.Text()[:8])
	begin := time.Now()
	if err := p.socket.send(ws.OpPing, payload); err != nil {
		s.Result = "the ping could not be sent: " + plainly(err)
		return p.withoutPong(err)
	}
	for {
		f, err := p.socket.next()
		s.Took = Milliseconds(time.Since(begin))
		switch {
		case err != nil:
			s.Result = "no pong: " + plainly(err)
			return p.withoutPong(err)
		case f.opcode == ws.OpClose:
			s.Result = "no pong: the server closed with " + closing(f.payload)
			return closedEarly(f.payload)
		case f.opcode == ws.OpPong && bytes.Equal(f.payload, payload):
			s.Result = "answered"
			if n := p.socket.messages; n > 0 {
				s.Details = append(s.Details, count(n, "message")+" of the server's came first")
			}
			return nil
		}
	}
}

// withoutPong says why there is no pong.
func (p *probe) withoutPong(err error) *failure {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fail(Unanswered, fmt.Sprintf("The WebSocket opened, but the server did not answer a ping within %v.", p.Timeout),
			"a server has to (RFC 6455, section 5.5.2); hand-written ones may not, and work until a proxy or browser asks whether they are there",
			"where `ping:` is set in wstunnel, such a tunnel is ended as dead",
			"see whether the server hangs, or a proxy on the way lets the 101 pass and no frames")
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fail(Unanswered, "The WebSocket opened, and the server ended the connection without a Close frame.",
			"see the server's log: it may have failed behind the handshake", "see whether a proxy on the way ends connections it takes for idle")
	}
	if violation, ok := errors.AsType[*violationError](err); ok {
		return fail(Broken, "The WebSocket opened, but the server's frames break RFC 6455: "+violation.Error()+"; browsers fail the connection.",
			"see which library the server has; one that is kept up does not do this")
	}
	return fail(Unanswered, "The WebSocket opened, and its connection broke: "+plainly(err)+".", "see the server's log, and that of each proxy on the way")
}

// closedEarly says why a server closed at once.
func closedEarly(payload []byte) *failure {
	cause := "The WebSocket opened, and the server closed it at once with " + closing(payload) + "."
	if len(payload) < 2 {
		return fail(Unanswered, cause, "see the server's log")
	}
	switch binary.BigEndian.Uint16(payload) {
	case 1008, 3000, 4401, 4403:
		return fail(Unanswered, cause, "the server may want to know who asks: -H 'Cookie: ...', -H 'Authorization: ...', or a token in the URL", "see the server's log")
	case ws.CloseGoingAway, ws.CloseTryAgain, 1012:
		return fail(Unanswered, cause, "the server is stopping, or has too much to do: try again")
	}
	return fail(Unanswered, cause, "see the server's log")
}

// closing shows the payload of a Close frame.
func closing(payload []byte) string {
	if len(payload) < 2 {
		return "no code"
	}
	code, reason := binary.BigEndian.Uint16(payload), string(payload[2:])
	if reason == "" || !utf8.ValidString(reason) {
		return fmt.Sprint(code)
	}
	return fmt.Sprintf("%d %q", code, reason)
}

// frame is one of the server's.
type frame struct {
	opcode  ws.Opcode
	payload []byte // of a control frame
}

// socket is the client's end of a WebSocket.
type socket struct {
	conn     net.Conn
	br       *bufio.Reader // what comes, past the scanner
	scanner  ws.Scanner
	messages int // of the server's
}

// newSocket is a socket on a connection of which something came early.
func newSocket(conn net.Conn, early []byte, extended bool) *socket {
	s := &socket{conn: conn, scanner: ws.NewScanner(ws.FromServer, extended)}
	s.br = bufio.NewReader(io.MultiReader(bytes.NewReader(early), conn))
	return s
}

// violationError is a stream that breaks RFC 6455.
type violationError struct{ error }

// send sends a frame.
func (s *socket) send(op ws.Opcode, payload []byte) error {
	var mask [4]byte
	rand.Read(mask[:])
	_, err := s.conn.Write(ws.AppendFrame(nil, op, payload, &mask))
	return err
}

// next reads up to the end of the next control frame, answers it if it is a ping, and counts the messages before it.
func (s *socket) next() (f frame, err error) {
	for {
		if f, err = s.read(); err != nil {
			return f, err
		}
		s.messages = int(s.scanner.Messages())
		switch f.opcode {
		case ws.OpPing:
			if err := s.send(ws.OpPong, f.payload); err != nil {
				return f, err
			}
		case ws.OpClose, ws.OpPong:
			return f, nil
		}
	}
}

// read reads one frame.
func (s *socket) read() (f frame, err error) {
	head, err := s.take(2)
	if err != nil {
		return f, err
	}
	f.opcode = ws.Opcode(head[0] & 0x0F)
	size, masked := uint64(head[1]&0x7F), head[1]&0x80 != 0
	switch size {
	case 126:
		if head, err = s.take(2); err == nil {
			size = uint64(binary.BigEndian.Uint16(head))
		}
	case 127:
		if head, err = s.take(8); err == nil {
			size = binary.BigEndian.Uint64(head)
		}
	}
	if err == nil && masked {
		_, err = s.take(4) // which the scanner does not let pass
	}
	control := f.opcode >= ws.OpClose
	for err == nil && size > 0 {
		var piece []byte
		piece, err = s.take(int(min(size, 4<<10)))
		size -= uint64(len(piece))
		if control {
			f.payload = append(f.payload, piece...)
		}
	}
	return f, err
}

// take takes the next n bytes past the scanner.
func (s *socket) take(n int) ([]byte, error) {
	p := make([]byte, n)
	if _, err := io.ReadFull(s.br, p); err != nil {
		return nil, err
	}
	s.scanner.Scan(p)
	if err := s.scanner.Err(); err != nil {
		return nil, &violationError{err}
	}
	return p, nil
}
