package proxy

import (
	"log/slog"
	"net/http"
	"time"
)

// statusClientGone is logged for an exchange that the client did not wait for. It is never sent.
const statusClientGone = 499

// log writes the exchange's line of the access log. The query and all headers stay out of it: tokens and
// passwords travel there. A tunnel has lines of its own.
func (x *exchange) log() {
	if x.tunnelled {
		return
	}
	status := x.status
	if status == 0 || x.clientGone {
		status = statusClientGone
	}
	sent := x.sent
	if x.in.request.Method == http.MethodHead {
		sent = 0
	}
	attrs := []slog.Attr{
		slog.String("client", x.in.client.String()),
		slog.String("method", x.in.request.Method),
		slog.String("host", x.in.request.Host),
		slog.String("path", x.in.path),
		slog.String("proto", x.in.request.Proto()),
		slog.Bool("tls", x.in.secure),
		slog.Int("status", status),
		slog.Int64("bytes", sent),
		milliseconds("duration_ms", time.Since(x.start)),
	}
	if x.site != nil {
		attrs = append(attrs, slog.String("site", x.site.name))
	}
	if x.location != nil {
		attrs = append(attrs, slog.String("location", x.location.pattern))
	}
	if x.backend != "" {
		attrs = append(attrs, slog.String("backend", x.backend))
	}
	if x.err != nil {
		attrs = append(attrs, slog.String("error", x.err.Error()))
	}
	level := slog.LevelInfo
	if status >= 500 {
		level = slog.LevelWarn
	}
	x.server.log.LogAttrs(x.ctx, level, "request", attrs...)
}

// milliseconds is a duration as a number that needs no unit to be parsed.
func milliseconds(key string, d time.Duration) slog.Attr {
	return slog.Float64(key, float64(d.Microseconds())/1000)
}

// logRefused writes the access-log line of a request whose head was refused, or of an HTTP/2 connection that was cut.
func (s *Server) logRefused(o origin, err *headError) {
	s.log.Info("request refused", "client", o.remote.Addr().String(), "tls", o.secure,
		"status", err.status, "error", err.reason)
}
