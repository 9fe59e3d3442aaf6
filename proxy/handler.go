//go:build !linux || portable

package proxy

import (
	"fmt"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"

	"wstunnel/internal/head"
	"wstunnel/internal/ws"
)

// ServeHTTP answers one request of any protocol version.
func (s *Server) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	client, streams := clientConnOf(r)
	if streams != nil {
		streams.begun()
		defer streams.answered()
	} else {
		defer client.answered()
	}
	w := newResponseWriter(rw, r, client)
	x := s.newExchange(r.Context(), headOf(r), client.origin)
	defer w.sendHeld()
	defer func() {
		x.status, x.sent = w.status, w.written
		x.log()
	}()
	defer x.recover()
	defer w.end()
	x.serve(w, r)
}

// recover keeps a fault in the handling of one request to that request: its client's connection ends, and the log says where.
func (x *exchange) recover() {
	fault := recover()
	if fault == nil {
		return
	}
	if fault != http.ErrAbortHandler {
		x.err = fmt.Errorf("internal fault: %v", fault)
		x.server.log.Error("internal fault", "fault", fault, "path", x.in.path, "stack", string(debug.Stack()))
	}
	panic(http.ErrAbortHandler)
}

// serve answers the request in the way that was decided for it.
func (x *exchange) serve(w *responseWriter, r *http.Request) {
	if r.ProtoMajor == 1 {
		if !w.client.handled() {
			x.send(w, x.answerFor(refusal(http.StatusBadRequest, "request framing is ambiguous")))
			return
		}
		if x.in.request.Protocol != "" {
			// Frames may follow that request, whatever becomes of it; net/http must not take them for requests.
			w.Header().Set("Connection", "close")
		}
	}
	if r.ProtoMajor > 1 && contradicts(r) {
		x.answer(w, http.StatusBadRequest, "the request's Content-Length is ambiguous")
		return
	}
	if a := x.answerForChallenge(); a != nil {
		x.send(w, a)
		return
	}
	d := x.decide()
	x.tell(d)
	var hsts head.Fields
	x.addHSTS(&hsts)
	for _, f := range hsts {
		w.Header()[f.Name] = []string{f.Value}
	}
	switch d.action {
	case openTunnel:
		x.upgrade(w, r)
	case forwardHTTP:
		x.forward(w, r, x.location.http)
	case serveStatic:
		x.static(w)
	default:
		x.send(w, x.answerFor(d))
	}
}

// headOf returns the head of a request that net/http has parsed.
func headOf(r *http.Request) *head.Request {
	h := &head.Request{
		Method: r.Method, Target: r.RequestURI, Host: r.Host, Major: r.ProtoMajor, Minor: r.ProtoMinor,
		Fields: fieldsOf(r.Header), Length: r.ContentLength,
	}
	if ws.WantsUpgrade(r) {
		h.Protocol = "websocket"
	}
	return h
}

// namesOf returns the names of a header as fields without values.
func namesOf(h http.Header) head.Fields {
	fields := make(head.Fields, 0, len(h))
	for _, name := range slices.Sorted(maps.Keys(h)) {
		fields = append(fields, head.Field{Name: name, ID: head.IDOf(name)})
	}
	return fields
}
