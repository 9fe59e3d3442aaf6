package logs

import (
	"context"
	"log/slog"
	"unicode/utf8"
)

// maxLength is the length of the longest string in a line, in bytes: a peer chooses paths, names and much of what stands in errors.
const maxLength = 1 << 10

// bounded shortens what is too long for a line. Stacks are the server's own, and stay whole.
type bounded struct{ slog.Handler }

// Handle implements [slog.Handler].
func (h bounded) Handle(ctx context.Context, r slog.Record) error {
	long := len(r.Message) > maxLength
	r.Attrs(func(a slog.Attr) bool {
		long = long || tooLong(a)
		return !long
	})
	if !long {
		return h.Handler.Handle(ctx, r)
	}
	shorter := slog.NewRecord(r.Time, r.Level, clip(r.Message, maxLength), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		if tooLong(a) {
			a.Value = slog.StringValue(clip(text(a), maxLength))
		}
		shorter.AddAttrs(a)
		return true
	})
	return h.Handler.Handle(ctx, shorter)
}

// WithAttrs implements [slog.Handler].
func (h bounded) WithAttrs(attrs []slog.Attr) slog.Handler {
	return bounded{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (h bounded) WithGroup(name string) slog.Handler { return bounded{h.Handler.WithGroup(name)} }

func tooLong(a slog.Attr) bool { return a.Key != "stack" && len(text(a)) > maxLength }

// text returns an attribute that is a string or an error as a string; others are short.
func text(a slog.Attr) string {
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
	return Beginning(s, n-len(mark)) + mark
}

// Beginning returns n bytes of s at most, cut between two runes.
func Beginning(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
