package proxy

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"wstunnel/internal/ws"
)

// inflater reads a client's frames and inflates compressed messages (RFC 7692, without context takeover) into plain ones,
// so that no message grows beyond maxRelayMessage: websocketproxy would inflate without a bound.
type inflater struct {
	src io.Reader

	out        bytes.Buffer // whole frames to be read
	left       uint64       // payload bytes of a plain frame that pass through after out
	compressed []byte       // the unmasked payload of the compressed message so far
	opcode     ws.Opcode    // of that message; OpContinuation while there is none
}

// Bits of the first two bytes of a frame header (RFC 6455, section 5.2).
const (
	finBit  = 0x80
	rsv1Bit = 0x40
	maskBit = 0x80
)

func (f *inflater) Read(p []byte) (int, error) {
	for {
		if f.out.Len() > 0 {
			return f.out.Read(p)
		}
		if f.left > 0 {
			n, err := f.src.Read(p[:min(uint64(len(p)), f.left)])
			f.left -= uint64(n)
			return n, err
		}
		if err := f.nextFrame(); err != nil {
			return 0, err
		}
	}
}

// nextFrame reads a frame header. Frames of plain messages and control frames pass as they are.
func (f *inflater) nextFrame() error {
	head := make([]byte, 2, 14)
	if _, err := io.ReadFull(f.src, head); err != nil {
		return err
	}
	size, extra := uint64(head[1]&0x7F), 0
	switch size {
	case 126:
		extra = 2
	case 127:
		extra = 8
	}
	if head[1]&maskBit != 0 {
		extra += 4
	}
	head = head[:2+extra]
	if _, err := io.ReadFull(f.src, head[2:]); err != nil {
		return err
	}
	switch size {
	case 126:
		size = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		size = binary.BigEndian.Uint64(head[2:])
	}
	op := ws.Opcode(head[0] & 0x0F)
	begins := op != ws.OpContinuation && op < ws.OpClose && head[0]&rsv1Bit != 0
	if !begins && (op != ws.OpContinuation || f.opcode == ws.OpContinuation) || head[1]&maskBit == 0 {
		f.out.Write(head)
		f.left = size
		return nil
	}
	if begins {
		f.opcode = op
	}
	return f.collect(size, head[len(head)-4:], head[0]&finBit != 0)
}

// collect takes a frame of a compressed message and, at its end, puts out the message as one plain frame.
func (f *inflater) collect(size uint64, mask []byte, final bool) error {
	start := len(f.compressed)
	if size > maxRelayMessage || start+int(size) > maxRelayMessage {
		return errRelayMessage
	}
	payload := bytes.NewBuffer(f.compressed)
	if _, err := io.CopyN(payload, f.src, int64(size)); err != nil {
		return err
	}
	f.compressed = payload.Bytes()
	for i := range f.compressed[start:] {
		f.compressed[start+i] ^= mask[i&3]
	}
	if !final {
		return nil
	}
	message, err := inflate(f.compressed)
	if err != nil {
		return err
	}
	f.out.Write(ws.AppendFrame(nil, f.opcode, message, new([4]byte)))
	f.compressed, f.opcode = nil, ws.OpContinuation
	return nil
}

// deflateTail is what a sender removes from the end of each message, and an empty final block (RFC 7692, section 7.2.2).
const deflateTail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

func inflate(compressed []byte) ([]byte, error) {
	r := flate.NewReader(io.MultiReader(bytes.NewReader(compressed), bytes.NewReader([]byte(deflateTail))))
	message, err := io.ReadAll(io.LimitReader(r, maxRelayMessage+1))
	switch {
	case err != nil && !errors.Is(err, io.ErrUnexpectedEOF):
		return nil, fmt.Errorf("inflating a message: %w", err)
	case len(message) > maxRelayMessage:
		return nil, errRelayMessage
	}
	return message, nil
}
