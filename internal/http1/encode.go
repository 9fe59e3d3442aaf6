package http1

import (
	"net/http"
	"strconv"

	"wstunnel/internal/head"
)

// AppendRequest writes the head of a request to a backend: Host first, then the fields as they are. A request with a Protocol asks for an upgrade. How
// the body is framed follows from Length, and not from the fields.
func AppendRequest(dst []byte, r *head.Request) []byte {
	dst = append(dst, r.Method...)
	dst = append(append(dst, ' '), r.Target...)
	dst = append(append(dst, " HTTP/1.1\r\nHost: "...), r.Host...)
	dst = append(dst, "\r\n"...)
	switch {
	case r.Protocol != "":
		dst = append(append(append(dst, "Upgrade: "...), r.Protocol...), "\r\nConnection: Upgrade\r\n"...)
	case r.Close:
		dst = append(dst, "Connection: close\r\n"...)
	}
	dst = AppendFields(dst, r.Fields, true)
	if r.Length != 0 || BodyExpected(r.Method) {
		dst = AppendFraming(dst, r.Length)
	}
	return append(dst, "\r\n"...)
}

// BodyExpected reports whether servers read the body of such a request. One that does not takes the body for the next request.
func BodyExpected(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodDelete:
		return false
	}
	return true
}

// webSocket are the fields that are spelt as RFC 6455 does, since hand-written servers compare them byte by byte.
var webSocket = head.SetOf(head.SecWebSocketAccept, head.SecWebSocketExtensions, head.SecWebSocketKey, head.SecWebSocketProtocol,
	head.SecWebSocketVersion)

// AppendFields writes fields as they are; where the message is framed otherwise, without those that frame a body.
func AppendFields(dst []byte, fields head.Fields, framed bool) []byte {
	for i := range fields {
		f := &fields[i]
		if framed && (f.ID == head.ContentLength || f.ID == head.TransferEncoding) {
			continue
		}
		name := f.Name
		if webSocket.Has(f.ID) {
			name = f.ID.String()
		}
		dst = append(dst, name...)
		dst = append(dst, ": "...)
		dst = append(dst, f.Value...)
		dst = append(dst, "\r\n"...)
	}
	return dst
}

// AppendFraming says how the end of a body is found.
func AppendFraming(dst []byte, length int64) []byte {
	if length == head.Unknown {
		return append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, length, 10)
	return append(dst, "\r\n"...)
}

// AppendStatus writes a status line.
func AppendStatus(dst []byte, status int) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	return append(append(append(dst, ' '), http.StatusText(status)...), "\r\n"...)
}

// AppendChunkSize writes the line before a chunk of n bytes.
func AppendChunkSize(dst []byte, n int) []byte {
	return append(strconv.AppendUint(dst, uint64(n), 16), "\r\n"...)
}

// AppendChunk writes p as a chunk.
func AppendChunk(dst, p []byte) []byte {
	return append(append(AppendChunkSize(dst, len(p)), p...), "\r\n"...)
}

// AppendLastChunk writes the end of a chunked body.
func AppendLastChunk(dst []byte, trailers head.Fields) []byte {
	return append(AppendFields(append(dst, "0\r\n"...), trailers, false), "\r\n"...)
}
