package http2

import "encoding/binary"

// Preface is what a client begins with (RFC 9113, section 3.4).
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// frameKind is a type of frames (RFC 9113, section 6).
type frameKind uint8

const (
	frameData frameKind = iota
	frameHeaders
	framePriority
	frameReset
	frameSettings
	framePushPromise
	framePing
	frameGoAway
	frameWindowUpdate
	frameContinuation
)

// Flags of frames. An acknowledgement has the bit of an end of stream.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// Settings (RFC 9113, section 6.5.2; RFC 8441, section 3).
const (
	settingHeaderTableSize        = 0x1
	settingEnablePush             = 0x2
	settingMaxStreams             = 0x3
	settingInitialWindow          = 0x4
	settingMaxFrame               = 0x5
	settingMaxHeaderList          = 0x6
	settingEnableConnect          = 0x8
	settingLen                    = 6
	maxWindow                     = 1<<31 - 1
	initialWindow                 = 65535 // before any SETTINGS
	frameHeaderLen                = 9
	maxFrame                      = 16384 // of a payload, in both directions; no client asks for less
	streamMask                    = 1<<31 - 1
	resetLen, updateLen           = 4, 4
	priorityLen, pingLen          = 5, 8
	goAwayLen                     = 8
	headerTable            uint32 = 4096
)

// frameHeader is the header of a frame.
type frameHeader struct {
	length int
	kind   frameKind
	flags  uint8
	stream uint32
}

func parseFrameHeader(p []byte) frameHeader {
	return frameHeader{
		length: int(p[0])<<16 | int(p[1])<<8 | int(p[2]), kind: frameKind(p[3]), flags: p[4],
		stream: binary.BigEndian.Uint32(p[5:]) & streamMask,
	}
}

func (h frameHeader) has(flag uint8) bool { return h.flags&flag != 0 }

func appendFrameHeader(dst []byte, length int, kind frameKind, flags uint8, stream uint32) []byte {
	dst = append(dst, byte(length>>16), byte(length>>8), byte(length), byte(kind), flags)
	return binary.BigEndian.AppendUint32(dst, stream)
}

func appendReset(dst []byte, stream uint32, code Code) []byte {
	dst = appendFrameHeader(dst, resetLen, frameReset, 0, stream)
	return binary.BigEndian.AppendUint32(dst, uint32(code))
}

func appendWindowUpdate(dst []byte, stream, n uint32) []byte {
	dst = appendFrameHeader(dst, updateLen, frameWindowUpdate, 0, stream)
	return binary.BigEndian.AppendUint32(dst, n)
}

func appendPing(dst []byte, ack bool, payload [pingLen]byte) []byte {
	var flags uint8
	if ack {
		flags = flagAck
	}
	return append(appendFrameHeader(dst, pingLen, framePing, flags, 0), payload[:]...)
}

func appendGoAway(dst []byte, last uint32, code Code, reason string) []byte {
	dst = appendFrameHeader(dst, goAwayLen+len(reason), frameGoAway, 0, 0)
	dst = binary.BigEndian.AppendUint32(dst, last)
	return append(binary.BigEndian.AppendUint32(dst, uint32(code)), reason...)
}

func appendSettings(dst []byte, settings ...[2]uint32) []byte {
	dst = appendFrameHeader(dst, settingLen*len(settings), frameSettings, 0, 0)
	for _, s := range settings {
		dst = binary.BigEndian.AppendUint16(dst, uint16(s[0]))
		dst = binary.BigEndian.AppendUint32(dst, s[1])
	}
	return dst
}

// unpad cuts the padding off a payload (RFC 9113, section 6.1).
func unpad(h frameHeader, p []byte) ([]byte, bool) {
	if !h.has(flagPadded) {
		return p, true
	}
	if len(p) == 0 || int(p[0]) >= len(p) {
		return nil, false
	}
	return p[1 : len(p)-int(p[0])], true
}
