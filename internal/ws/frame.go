package ws

import (
	"encoding/binary"
	"unicode/utf8"
)

// Opcode is a frame's opcode (RFC 6455, section 5.2).
type Opcode byte

// The opcodes that RFC 6455 defines.
const (
	OpContinuation Opcode = 0x0
	OpText         Opcode = 0x1
	OpBinary       Opcode = 0x2
	OpClose        Opcode = 0x8
	OpPing         Opcode = 0x9
	OpPong         Opcode = 0xA
)

func (op Opcode) control() bool { return op&0x8 != 0 }

// Close codes (RFC 6455, section 7.4.1). NoStatus and Abnormal never stand in a frame; they are
// what is reported of a Close without a code and of a connection that ended without a Close.
const (
	CloseNormal         = 1000
	CloseGoingAway      = 1001
	CloseProtocolError  = 1002
	CloseNoStatus       = 1005
	CloseAbnormal       = 1006
	CloseInvalidData    = 1007
	CloseTooBig         = 1009
	CloseServiceRestart = 1012 // registered with IANA, as the next one is
	CloseTryAgain       = 1013
)

// maxControlPayload is the largest payload of a control frame (RFC 6455, section 5.5).
const maxControlPayload = 125

// AppendFrame appends one unfragmented, uncompressed frame to dst: masked with mask, as every
// frame to a server is, or unmasked where mask is nil. A control frame's payload is at most 125
// bytes; the caller keeps to that.
func AppendFrame(dst []byte, op Opcode, payload []byte, mask *[4]byte) []byte {
	var maskBit byte
	if mask != nil {
		maskBit = 0x80
	}
	dst = append(dst, 0x80|byte(op))
	switch n := len(payload); {
	case n <= maxControlPayload:
		dst = append(dst, maskBit|byte(n))
	case n <= 0xFFFF:
		dst = append(dst, maskBit|126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(n))
	default:
		dst = append(dst, maskBit|127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(n))
	}
	if mask == nil {
		return append(dst, payload...)
	}
	dst = append(append(dst, mask[:]...), payload...)
	Mask(dst[len(dst)-len(payload):], *mask)
	return dst
}

// Mask puts a mask on a payload, or takes it off (RFC 6455, section 5.3).
func Mask(payload []byte, mask [4]byte) {
	const both = 1<<32 + 1 // what makes eight bytes of four
	word := both * uint64(binary.LittleEndian.Uint32(mask[:]))
	for len(payload) >= 8 {
		binary.LittleEndian.PutUint64(payload, binary.LittleEndian.Uint64(payload)^word)
		payload = payload[8:]
	}
	for i := range payload {
		payload[i] ^= mask[i&3]
	}
}

// AppendClose appends a Close frame with a code and a reason (RFC 6455, section 5.5.1). A reason
// that does not fit is cut at a rune boundary.
func AppendClose(dst []byte, code uint16, reason string, mask *[4]byte) []byte {
	if len(reason) > maxControlPayload-2 {
		reason = reason[:maxControlPayload-2]
		for !utf8.ValidString(reason) && len(reason) > 0 {
			reason = reason[:len(reason)-1]
		}
	}
	payload := append(binary.BigEndian.AppendUint16(make([]byte, 0, maxControlPayload), code), reason...)
	return AppendFrame(dst, OpClose, payload, mask)
}
