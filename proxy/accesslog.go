package proxy

import (
	"log/slog"
	"net/http"
	"strings"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/logs"
)

// statusClientGone is logged for an exchange that the client did not wait for. It is never sent.
const statusClientGone = 499

// log writes the exchange's line of the access log. The query and all headers stay out of it: tokens and
// passwords travel there. A tunnel has lines of its own. What failed for a reason that the client does not see is told in the server's own
// log in any case.
func (x *exchange) log() {
	if x.tunnelled {
		return
	}
	log, own := x.accessLog(), x.server.access.own
	failed := x.err != nil && (x.status >= 500 || x.brokeOff) && !x.clientGone && log != own
	if log == nil && !failed {
		return
	}
	r := x.logged(log)
	if log != nil {
		log.Request(r)
	}
	if failed {
		own.Request(r)
	}
}

// accessLog returns where the exchange's line goes, or nil.
func (x *exchange) accessLog() *logs.Log {
	switch {
	case x.location != nil:
		return x.location.access
	case x.site != nil:
		return x.site.access
	}
	return x.gen.access
}

// logged is what a line of a log tells of the exchange.
func (x *exchange) logged(log *logs.Log) *logs.Request {
	now, request := time.Now(), x.in.Request
	r := &logs.Request{
		Message: "request", At: now, Client: x.in.Client, Method: request.Method, Host: request.Host, Path: x.in.Path, Proto: request.Proto(),
		TLS: x.in.Secure, Status: x.status, Bytes: x.sent, Duration: now.Sub(x.start), Backend: x.address, BrokeOff: x.brokeOff,
	}
	if r.Status == 0 || x.clientGone {
		r.Status = statusClientGone
	}
	if _, compressed := x.client.(*compressor); compressed {
		r.Bytes = x.compressed
	}
	if r.Method == http.MethodHead {
		r.Bytes = 0
	}
	r.ID = x.in.ID
	if x.site != nil {
		r.Site = x.site.name
	}
	if x.location != nil {
		r.Location = x.location.pattern
	}
	if x.err != nil {
		r.Error = x.err.Error()
	}
	if log != nil && log.Format() == logs.Combined {
		r.Target = withoutQuery(request.Target)
		r.Referer, _ = request.Fields.Lookup("Referer")
		r.Referer = withoutQuery(r.Referer)
		r.UserAgent, _ = request.Fields.Lookup("User-Agent")
	}
	return r
}

func withoutQuery(target string) string {
	path, _, _ := strings.Cut(target, "?")
	return path
}

// milliseconds is a duration as a number that needs no unit to be parsed.
func milliseconds(key string, d time.Duration) slog.Attr {
	return slog.Float64(key, float64(d.Microseconds())/1000)
}

// logRefused writes the access-log line of a request whose head was refused, or of an HTTP/2 connection that was cut.
func (s *Server) logRefused(o clientInfo, err *head.Error) {
	gen := s.gen.Load()
	gen.unknown.requests[classOf(err.Status)].Note(0)
	if log := gen.access; log != nil {
		log.Request(&logs.Request{
			Message: "request refused", At: time.Now(), Client: o.remote.Addr(), TLS: o.secure, Status: err.Status, Error: err.Reason,
		})
	}
}
