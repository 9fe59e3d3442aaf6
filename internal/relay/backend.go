package relay

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"net/http"

	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/ws"
)

// backendEnd is the backend's end: it answers websocketproxy's handshake itself, and puts together the fragments that
// a long message is written in.
type backendEnd struct {
	*endpoint
	subprotocol string // that it chose, or nothing
	answer      []byte // to websocketproxy's handshake, to be read first
	answered    bool

	message []byte // the fragments so far, masked, after room for a frame header
	opcode  ws.Opcode
	key     [4]byte
}

func (c *backendEnd) Write(p []byte) (int, error) {
	if !c.answered {
		c.answered = true
		return len(p), c.handshake(p)
	}
	select {
	case <-c.over: // nobody wants the rest of a long message
		return 0, errEnded
	default:
	}
	if whole := c.assemble(p); whole != nil {
		if _, err := c.endpoint.Write(whole); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// handshake answers an upgrade request of websocketproxy's.
func (c *backendEnd) handshake(request []byte) error {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(request)))
	if err != nil {
		return err
	}
	var fields head.Fields
	fields.Add(head.SecWebSocketAccept, ws.Accept(r.Header.Get("Sec-Websocket-Key")))
	if c.subprotocol != "" {
		fields.Add(head.SecWebSocketProtocol, c.subprotocol)
	}
	answer := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	c.answer = append(http1.AppendFields([]byte(answer), fields, false), "\r\n"...)
	return nil
}

func (c *backendEnd) Read(p []byte) (int, error) {
	if len(c.answer) > 0 {
		n := copy(p, c.answer)
		c.answer = c.answer[n:]
		return n, nil
	}
	return c.endpoint.Read(p)
}

// maxFrameHead is the length of the longest frame header.
const maxFrameHead = 14

// assemble takes one frame, as websocketproxy writes them, and returns what is to be written of it now: frames that stand
// for themselves as they are, a fragmented message as one frame when it is complete.
func (c *backendEnd) assemble(frame []byte) []byte {
	op, final := ws.Opcode(frame[0]&0x0F), frame[0]&finBit != 0
	if final && op != ws.OpContinuation {
		return frame
	}
	if op != ws.OpContinuation {
		size := int(c.session.client.frames.size) // of the message that is being passed on
		c.message, c.opcode, c.key = make([]byte, maxFrameHead, maxFrameHead+size), op, *c.mask()
	}
	begin := 2 + restOfHead(frame[1])
	at := len(c.message)
	c.message = append(c.message, frame[begin:]...)
	ws.Mask(c.message[at:], c.keyFrom([4]byte(frame[begin-4:begin]), at-maxFrameHead))
	if !final {
		return nil
	}
	whole := c.message
	c.message = nil
	return putFrameHead(whole, c.opcode, c.key)
}

// keyFrom returns what makes a payload that is masked with key a part of the message, from a place in that on.
func (c *backendEnd) keyFrom(key [4]byte, from int) [4]byte {
	for i := range key {
		key[i] ^= c.key[(from+i)&3]
	}
	return key
}

// putFrameHead puts the header of a masked frame before a payload that has room for it.
func putFrameHead(frame []byte, op ws.Opcode, key [4]byte) []byte {
	head := append(make([]byte, 0, maxFrameHead), finBit|byte(op))
	switch n := len(frame) - maxFrameHead; {
	case n <= 125:
		head = append(head, maskBit|byte(n))
	case n <= 0xFFFF:
		head = binary.BigEndian.AppendUint16(append(head, maskBit|126), uint16(n))
	default:
		head = binary.BigEndian.AppendUint64(append(head, maskBit|127), uint64(n))
	}
	head = append(head, key[:]...)
	frame = frame[maxFrameHead-len(head):]
	copy(frame, head)
	return frame
}
