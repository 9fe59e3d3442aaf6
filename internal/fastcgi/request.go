package fastcgi

import (
	"encoding/binary"

	"wstunnel/internal/head"
)

// AppendRequest writes the beginning of a request for a responder, whose parameters are the fields of r. The application closes the connection behind its answer
// if r.Close says so. The body is still to come, be it empty.
func AppendRequest(dst []byte, r *head.Request) []byte {
	keep := byte(flagKeep)
	if r.Close {
		keep = 0
	}
	dst = append(appendHeader(dst, typeBegin, 8), 0, roleResponder, keep, 0, 0, 0, 0, 0)
	start := len(dst)
	dst = appendHeader(dst, typeParams, 0)
	for i := range r.Fields {
		f := &r.Fields[i]
		dst = appendLength(appendLength(dst, len(f.Name)), len(f.Value))
		dst = append(append(dst, f.Name...), f.Value...)
	}
	switch n := len(dst) - start - headerSize; {
	case n > maxContent:
		params := append([]byte(nil), dst[start+headerSize:]...)
		dst = appendStream(dst[:start], typeParams, params)
	case n > 0:
		binary.BigEndian.PutUint16(dst[start+4:], uint16(n))
	default:
		return dst
	}
	return appendHeader(dst, typeParams, 0)
}

// AppendBody writes a piece of the request's body.
func AppendBody(dst, p []byte) []byte { return appendStream(dst, typeStdin, p) }

// AppendEnd ends the request's body.
func AppendEnd(dst []byte) []byte { return appendHeader(dst, typeStdin, 0) }

// appendStream writes a piece of a stream in as many records as it takes. An empty piece, which would end the stream, is none.
func appendStream(dst []byte, kind byte, p []byte) []byte {
	for len(p) > 0 {
		n := min(len(p), maxContent)
		dst = append(appendHeader(dst, kind, n), p[:n]...)
		p = p[n:]
	}
	return dst
}

func appendHeader(dst []byte, kind byte, content int) []byte {
	return append(dst, version, kind, 0, requestID, byte(content>>8), byte(content), 0, 0)
}

// appendLength writes the length of a name or a value: in one byte below 128, else in four.
func appendLength(dst []byte, n int) []byte {
	if n < 0x80 {
		return append(dst, byte(n))
	}
	return binary.BigEndian.AppendUint32(dst, uint32(n)|1<<31)
}
