//go:build !linux || portable

package proxy

import (
	"io"
	"maps"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"wstunnel/internal/head"
)

// responseWriter notes what was answered, for the log, and bounds how long the client may take over it.
type responseWriter struct {
	http.ResponseWriter
	rc      *http.ResponseController
	client  *clientConn // of HTTP/1.x; nil otherwise
	status  int
	written int64
	body    *watchedBody // nil if the request has none
	// stall cuts an HTTP/2 stream whose client does not take what it is sent; an HTTP/1.x connection sees to that itself.
	stall   *time.Timer
	watched bool // an HTTP/1.x request with a body
}

// newResponseWriter wraps the writer of a request, and its body. It lets a response begin before the request's body has ended.
// Of an HTTP/1.x connection such a response is the last: net/http would go on with whatever is left of the body as if
// it were the next request.
func newResponseWriter(rw http.ResponseWriter, r *http.Request, client *clientConn) *responseWriter {
	w := &responseWriter{ResponseWriter: rw, rc: http.NewResponseController(rw)}
	if r.ProtoMajor == 1 {
		w.client = client
	}
	if r.ContentLength != 0 {
		w.body = &watchedBody{ReadCloser: r.Body}
		r.Body = w.body
	}
	if r.ProtoMajor > 1 {
		w.stall = time.AfterFunc(clientStall, func() { w.rc.SetWriteDeadline(time.Unix(1, 0)) })
		w.stall.Stop()
	} else if w.body != nil {
		w.rc.EnableFullDuplex()
		w.watched = true
	}
	return w
}

// watchedBody is a request body that knows whether it was read to its end.
type watchedBody struct {
	io.ReadCloser
	ended atomic.Bool
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.ended.Store(true)
	}
	return n, err
}

// end is called when the exchange is over. What is left of the body is for the connection to deal with, not for net/http.
func (w *responseWriter) end() {
	if w.watched && !w.body.ended.Load() {
		w.rc.SetReadDeadline(time.Unix(1, 0))
	}
}

// sendHeld sends a small answer.
func (w *responseWriter) sendHeld() {
	if w.client != nil && w.client.held.buf != nil {
		w.FlushError()
	}
}

// Unwrap lets http.ResponseController reach what it wraps.
func (w *responseWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *responseWriter) WriteHeader(status int) {
	if status >= 200 && w.status == 0 {
		w.status = status
		if w.watched && !w.body.ended.Load() {
			w.Header().Set("Connection", "close")
		}
		w.holdSmall()
	}
	w.ResponseWriter.WriteHeader(status)
}

// holdSmall makes an answer whose head and body are small leave in one write.
func (w *responseWriter) holdSmall() {
	length := w.Header()["Content-Length"]
	if w.client == nil || len(length) != 1 {
		return
	}
	if n, err := strconv.Atoi(length[0]); err == nil && n <= smallAnswer {
		w.client.hold()
	}
}

func (w *responseWriter) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.WriteHeader(http.StatusOK)
	}
	defer w.boundWrite()()
	n, err := w.ResponseWriter.Write(p)
	w.written += int64(n)
	return n, err
}

// ReadFrom lets files and long bodies reach the connection inside the kernel.
func (w *responseWriter) ReadFrom(r io.Reader) (n int64, err error) {
	from, ok := w.ResponseWriter.(io.ReaderFrom)
	if !ok {
		return io.Copy(struct{ io.Writer }{w}, r)
	}
	n, err = from.ReadFrom(r)
	w.written += n
	return n, err
}

// FlushError sends what was written so far.
func (w *responseWriter) FlushError() error {
	defer w.boundWrite()()
	err := w.rc.Flush()
	if w.client != nil && err == nil {
		_, err = w.client.letGo(nil)
	}
	return err
}

// boundWrite begins to bound a write, until the function that it returns is called.
func (w *responseWriter) boundWrite() func() {
	if w.stall == nil {
		return func() {}
	}
	w.stall.Reset(clientStall)
	return func() { w.stall.Stop() }
}

// informational sends a 1xx response with its own headers only.
func (w *responseWriter) informational(r *http.Request, resp *backendResponse) {
	if !r.ProtoAtLeast(1, 1) {
		return
	}
	h := w.Header()
	own := h.Clone()
	clear(h)
	maps.Copy(h, headerOf(dropHopByHop(fieldsOf(resp.Header))))
	w.WriteHeader(resp.StatusCode)
	clear(h)
	maps.Copy(h, own)
}

// send gives an answer through net/http.
func (x *exchange) send(w *responseWriter, a *answer) {
	h := w.Header()
	for _, f := range a.fields {
		switch {
		case f.ID != head.Upgrade:
			h[f.Name] = []string{f.Value}
		case x.in.request.Major == 1: // HTTP/2 knows no Upgrade header (RFC 9113, section 8.2.2)
			x.offerWebSocket(w)
		}
	}
	if a.close && x.in.request.Major == 1 {
		h.Set("Connection", "close")
	}
	h.Set("Content-Length", strconv.Itoa(len(a.body)))
	w.WriteHeader(a.status)
	io.WriteString(w, a.body)
}

// answer sends a short text of this front end's own through net/http.
func (x *exchange) answer(w *responseWriter, status int, reason string) {
	x.send(w, textAnswer(status, reason))
}

// offerWebSocket names the protocol that a 426 asks for (RFC 9110, section 15.5.22).
func (x *exchange) offerWebSocket(w *responseWriter) {
	if x.in.request.Major == 1 {
		w.Header().Set("Upgrade", "websocket")
		w.Header().Add("Connection", "Upgrade")
	}
}
