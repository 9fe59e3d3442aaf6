package ws

import (
	"errors"
	"slices"
)

// ScannerState is where a [Scanner] stands in its stream, so that another one can go on there, in another process too.
type ScannerState struct {
	Broken    uint8  // which rule of RFC 6455 the stream broke, counted from 1; 0 for none
	Left      uint64 // payload bytes of the current frame still to come
	Messages  uint64 // whole data messages that went by
	Head      []byte // the beginning of a header that came in pieces, 13 bytes at most
	PayloadAt uint8  // how many bytes of a Close frame's code came, 2 at most
	Mask      [2]byte
	Opcode    Opcode
	Role      Role
	Extended  bool // an extension was negotiated
	Final     bool // the current frame is its message's last
	InMessage bool // between the fragments of a message
	Closed    bool // a whole Close frame went by
	CloseCode uint16
}

// violations are the errors that stop a scanner. Their order is part of the state that processes hand to one another: what is new comes last.
var violations = []error{ErrReservedBits, ErrReservedOpcode, ErrMask, ErrControl, ErrLength, ErrFragment, ErrCloseLength, ErrAfterClose}

// State returns where the scanner stands.
func (s *Scanner) State() ScannerState {
	return ScannerState{
		Broken: uint8(slices.Index(violations, s.err) + 1), Left: s.left, Messages: s.messages, Head: slices.Clone(s.head[:s.headLen]),
		PayloadAt: s.payloadAt, Mask: s.mask, Opcode: s.opcode, Role: s.role, Extended: s.extended, Final: s.final,
		InMessage: s.inMessage, Closed: s.closed, CloseCode: s.closeCode,
	}
}

// ErrState says that a [ScannerState] is none that a scanner can be in.
var ErrState = errors.New("no scanner of frames can be in this state")

// ScannerAt returns a scanner that goes on where another one stood. It fails with [ErrState].
func ScannerAt(at ScannerState) (Scanner, error) {
	if !at.possible() {
		return Scanner{}, ErrState
	}
	s := Scanner{
		left: at.Left, messages: at.Messages, headLen: uint8(len(at.Head)), payloadAt: at.PayloadAt, mask: at.Mask, opcode: at.Opcode,
		role: at.Role, extended: at.Extended, final: at.Final, inMessage: at.InMessage, closed: at.Closed, closeCode: at.CloseCode,
	}
	copy(s.head[:], at.Head)
	if at.Broken > 0 {
		s.err = violations[at.Broken-1]
	}
	return s, nil
}

// possible reports whether a scanner can be in the state.
func (s *ScannerState) possible() bool {
	switch {
	case int(s.Broken) > len(violations), s.PayloadAt > 2, s.Opcode > 0x0F, s.Left>>63 != 0:
		return false
	case s.Broken > 0: // it stands wherever the violation was, for good
		return len(s.Head) == 0
	case len(s.Head) > 13, len(s.Head) > 0 && s.Left > 0, s.Opcode.control() && s.Left > maxControlPayload:
		return false
	case s.Opcode > OpBinary && s.Opcode < OpClose || s.Opcode > OpPong:
		return false
	}
	for n := range len(s.Head) { // a whole header would have been taken
		if headerSize(s.Head[:n+1]) == n+1 {
			return false
		}
	}
	return true
}
