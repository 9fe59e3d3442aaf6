//go:build !linux || portable

package proxy

import (
	"io"
	"net/http"
	"strconv"

	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
)

// static answers from the location's directory through net/http.
func (x *exchange) static(w *responseWriter) {
	name, refused := x.fileName()
	if refused != nil {
		x.send(w, refused)
		return
	}
	file, err := x.findVariant(name, func(v variant) (*staticFile, error) { return x.server.files.find(reactor.OpenFile, v) })
	if err != nil {
		x.send(w, x.answerFileError(err))
		return
	}
	defer file.close()
	a, refused := x.answerFile(nil, file)
	if refused != nil {
		x.send(w, refused)
		return
	}
	h := w.Header()
	for _, f := range a.fields {
		h[f.Name] = []string{f.Value}
	}
	if a.length > 0 {
		h[head.ContentLength.String()] = []string{strconv.FormatInt(a.length, 10)}
	}
	w.WriteHeader(a.status)
	if x.in.request.Method == http.MethodHead {
		return
	}
	x.err = sendParts(w, file, a.parts)
	if x.err != nil {
		panic(http.ErrAbortHandler)
	}
}

// sendParts writes stretches of a file.
func sendParts(w io.Writer, file *staticFile, parts []filePart) error {
	piece := make([]byte, 64<<10)
	for _, part := range parts {
		if _, err := io.WriteString(w, part.before); err != nil {
			return err
		}
		for part.length > 0 {
			file.rest()
			n, err := file.readAt(piece[:min(part.length, int64(len(piece)))], part.offset)
			if err != nil {
				return err
			}
			if _, err := w.Write(piece[:n]); err != nil {
				return err
			}
			part.offset, part.length = part.offset+int64(n), part.length-int64(n)
		}
	}
	return nil
}
