package ws

import (
	"encoding/binary"
	"errors"
)

// Role says which end of a connection a stream of frames comes from: frames from a client are
// masked, frames from a server are not (RFC 6455, section 5.1).
type Role bool

// The two roles.
const (
	FromServer Role = false
	FromClient Role = true
)

// Errors that stop a [Scanner]: the stream breaks RFC 6455, section 5.
var (
	ErrReservedBits   = errors.New("reserved bit set without an extension")
	ErrReservedOpcode = errors.New("reserved opcode")
	ErrMask           = errors.New("frame masked by a server or not masked by a client")
	ErrControl        = errors.New("control frame fragmented or longer than 125 bytes")
	ErrLength         = errors.New("payload length not in its shortest form or above 2^63-1")
	ErrFragment       = errors.New("continuation without a message, or a new message inside one")
	ErrCloseLength    = errors.New("close frame with a payload of one byte")
	ErrAfterClose     = errors.New("frame after a close frame")
)

// Scanner follows the frame boundaries of one direction of a WebSocket connection. It is given
// the stream's bytes in pieces of any size, reads headers and skips payloads, and changes nothing.
// A violation of the protocol stops it for good: [Scanner.Err] says which, and nothing is
// counted from there on.
//
// A Scanner allocates nothing and is about 60 bytes, so that an idle connection stays cheap. It is not safe for
// concurrent use.
type Scanner struct {
	err       error
	left      uint64 // payload bytes of the current frame still to come
	messages  uint64
	head      [14]byte // the bytes of a header that came in pieces
	headLen   uint8
	payloadAt uint8 // position in the current Close frame's payload
	mask      [2]byte
	opcode    Opcode
	role      Role
	extended  bool // an extension was negotiated: reserved bits are its business
	final     bool
	inMessage bool // between the fragments of a message
	closed    bool
	closeCode uint16
}

// NewScanner returns a scanner for the frames that role sends. With extensions negotiated in the
// handshake the reserved bits of a frame are not looked at.
func NewScanner(role Role, extensions bool) Scanner {
	return Scanner{role: role, extended: extensions}
}

// Scan takes the next bytes of the stream. It returns the number of bytes of p up to the end of
// the last frame that ends in p, so that another frame could be put there: 0 if p began at a
// boundary and no frame ended in it, and -1 if there is no boundary in p or the scanner has stopped.
func (s *Scanner) Scan(p []byte) int {
	end := -1
	if s.AtBoundary() {
		end = 0
	}
	for i := 0; i < len(p) && s.err == nil; {
		n, whole := s.ScanFrame(p[i:])
		i += n
		if whole {
			end = i
		}
	}
	if s.err != nil {
		return -1
	}
	return end
}

// ScanFrame takes the next bytes of the stream up to the end of the first frame that ends in p. It returns how many
// they are and whether a frame ended there. When the scanner has stopped it takes all of p.
func (s *Scanner) ScanFrame(p []byte) (n int, whole bool) {
	for s.err == nil {
		if s.left > 0 {
			part := int(min(s.left, uint64(len(p)-n)))
			if s.opcode == OpClose {
				s.readCloseCode(p[n : n+part])
			}
			s.left -= uint64(part)
			n += part
			if s.left > 0 {
				return n, false
			}
			s.endFrame()
			return n, true
		}
		if n == len(p) {
			return n, false
		}
		size, complete := s.readHeader(p[n:])
		n += size
		if complete && s.left == 0 && s.err == nil {
			s.endFrame()
			return n, true
		}
	}
	return len(p), false
}

// Skip tells the scanner that n bytes of the current payload went by elsewhere, through a
// splice in the kernel for instance. n must not exceed [Scanner.Payload].
func (s *Scanner) Skip(n uint64) {
	s.left -= n
	if s.left == 0 {
		s.endFrame()
	}
}

// Payload returns how many bytes of the current data frame's payload are still to come; 0
// between frames, in control frames and after a violation.
func (s *Scanner) Payload() uint64 {
	if s.err != nil || s.opcode.control() {
		return 0
	}
	return s.left
}

// AtBoundary reports whether the stream stands between two frames, where a control frame may be
// put in. It is false for good after a violation and after a Close frame.
func (s *Scanner) AtBoundary() bool {
	return s.err == nil && s.left == 0 && s.headLen == 0 && !s.closed
}

// AtMessageBoundary reports whether the stream stands between two messages, where a data frame
// may be put in.
func (s *Scanner) AtMessageBoundary() bool { return s.AtBoundary() && !s.inMessage }

// Messages returns how many whole data messages have gone by.
func (s *Scanner) Messages() uint64 { return s.messages }

// Close reports whether a whole Close frame has gone by, and its code: [CloseNoStatus] if it had none.
func (s *Scanner) Close() (code uint16, ok bool) { return s.closeCode, s.closed }

// Err returns the violation that stopped the scanner, or nil.
func (s *Scanner) Err() error { return s.err }

func (s *Scanner) endFrame() {
	switch {
	case s.opcode == OpClose:
		s.closed = true
	case !s.opcode.control():
		s.inMessage = !s.final
		if s.final {
			s.messages++
		}
	}
}

// readHeader takes header bytes from p and reports how many, and whether the header is whole.
func (s *Scanner) readHeader(p []byte) (n int, complete bool) {
	if s.headLen == 0 {
		if size := headerSize(p); size > 0 && size <= len(p) {
			s.parseHeader(p[:size])
			return size, true
		}
	}
	for n < len(p) {
		s.head[s.headLen] = p[n]
		s.headLen++
		n++
		if size := headerSize(s.head[:s.headLen]); size == int(s.headLen) {
			s.headLen = 0
			s.parseHeader(s.head[:size])
			return n, true
		}
	}
	return n, false
}

// headerSize returns the length of the header that begins p, or 0 while that can't be known.
func headerSize(p []byte) int {
	if len(p) < 2 {
		return 0
	}
	size := 2
	switch p[1] & 0x7F {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if p[1]&0x80 != 0 {
		size += 4
	}
	return size
}

func (s *Scanner) parseHeader(h []byte) {
	s.opcode = Opcode(h[0] & 0x0F)
	s.final = h[0]&0x80 != 0
	masked := h[1]&0x80 != 0
	ext := h[2:]
	length, minimal := uint64(h[1]&0x7F), true
	switch length {
	case 126:
		length = uint64(binary.BigEndian.Uint16(ext))
		minimal, ext = length > maxControlPayload, ext[2:]
	case 127:
		length = binary.BigEndian.Uint64(ext)
		minimal, ext = length > 0xFFFF && length>>63 == 0, ext[8:]
	}
	if s.err = s.violation(h[0], masked, length, minimal); s.err != nil {
		return
	}
	s.left = length
	if s.opcode == OpClose {
		s.closeCode, s.payloadAt, s.mask = CloseNoStatus, 0, [2]byte{}
		if masked {
			copy(s.mask[:], ext)
		}
	}
}

// violation names the rule of RFC 6455 that a frame header breaks, in the order of section 5.2.
func (s *Scanner) violation(first byte, masked bool, length uint64, minimal bool) error {
	op := s.opcode
	switch {
	case s.closed:
		return ErrAfterClose
	case first&0x70 != 0 && !s.extended:
		return ErrReservedBits
	case op > OpBinary && op < OpClose || op > OpPong:
		return ErrReservedOpcode
	case masked != bool(s.role):
		return ErrMask
	case !minimal:
		return ErrLength
	case op.control() && (!s.final || length > maxControlPayload):
		return ErrControl
	case op == OpClose && length == 1:
		return ErrCloseLength
	case !op.control() && (op == OpContinuation) != s.inMessage:
		return ErrFragment
	}
	return nil
}

func (s *Scanner) readCloseCode(p []byte) {
	for _, b := range p {
		if s.payloadAt == 2 {
			return
		}
		b ^= s.mask[s.payloadAt]
		if s.payloadAt == 0 {
			s.closeCode = uint16(b) << 8
		} else {
			s.closeCode |= uint16(b)
		}
		s.payloadAt++
	}
}
