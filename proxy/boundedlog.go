package proxy

import (
	"context"
	"log/slog"
	"unicode/utf8"
)

// maxLogged is the length of the longest string in a line of the log, in bytes: a peer chooses paths, names and much of what stands in
// errors.
const maxLogged = 1 << 10

// boundedLog shortens what is too long for a line. Stacks are the server's own, and stay whole.
type boundedLog struct{ slog.Handler }

// Handle implements [slog.Handler].
func (h boundedLog) Handle(ctx context.Context, r slog.Record) error {
	long := len(r.Message) > maxLogged
	r.Attrs(func(a slog.Attr) bool {
		long = long || tooLong(a)
		return !long
	})
	if !long {
		return h.Handler.Handle(ctx, r)
	}
	bounded := slog.NewRecord(r.Time, r.Level, clip(r.Message, maxLogged), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if tooLong(a) {
			a.Value = slog.StringValue(clip(logged(a), maxLogged))
		}
		bounded.AddAttrs(a)
		return true
	})
	return h.Handler.Handle(ctx, bounded)
}

// WithAttrs implements [slog.Handler].
func (h boundedLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return boundedLog{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (h boundedLog) WithGroup(name string) slog.Handler { return boundedLog{h.Handler.WithGroup(name)} }

func tooLong(a slog.Attr) bool { return a.Key != "stack" && len(logged(a)) > maxLogged }

// logged returns an attribute that is a string or an error as a string; others are short.
func logged(a slog.Attr) string {
	switch a.Value.Kind() {
	case slog.KindString:
		return a.Value.String()
	case slog.KindAny:
		if err, ok := a.Value.Any().(error); ok {
			return err.Error()
		}
	}
	return ""
}

// clip shortens s to n bytes at most, and marks where it does.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	const mark = "..."
	return beginning(s, n-len(mark)) + mark
}

// beginning returns n bytes of s at most, cut between two runes.
func beginning(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
