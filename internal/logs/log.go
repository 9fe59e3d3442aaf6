package logs

import (
	"io"
	"log/slog"
	"sync"
)

// Format is how a line is written.
type Format int

// The formats.
const (
	JSON     Format = iota // one object a line, as slog's JSONHandler writes it
	Text                   // key=value, as slog's TextHandler writes it
	Combined               // Apache's and nginx's: requests only
)

// Log is a place that lines go to, in one format. It is safe for concurrent use.
type Log struct {
	w      io.Writer
	format Format
	logger *slog.Logger

	mu   sync.Mutex
	line []byte // the last one
}

// New returns a log that writes to w, a line a time. Whatever stalls w stalls the log: see [Output].
func New(w io.Writer, format Format) *Log {
	l := &Log{w: w, format: format}
	switch format {
	case JSON:
		l.logger = slog.New(bounded{slog.NewJSONHandler(w, nil)})
	case Text:
		l.logger = slog.New(bounded{slog.NewTextHandler(w, nil)})
	case Combined:
		l.logger = slog.New(slog.DiscardHandler)
	}
	return l
}

// Logger returns what writes lines that are no requests. Their strings are bounded at 1 KiB. In the format Combined there are none.
func (l *Log) Logger() *slog.Logger { return l.logger }

// Format returns the log's format.
func (l *Log) Format() Format { return l.format }

// As returns a log to the same place in another format.
func (l *Log) As(format Format) *Log { return New(l.w, format) }

// Request writes the line of a request.
func (l *Log) Request(r *Request) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.format {
	case JSON:
		l.line = r.appendJSON(l.line[:0])
	case Text:
		l.line = r.appendText(l.line[:0])
	case Combined:
		l.line = r.appendCombined(l.line[:0])
	}
	l.w.Write(l.line) // there is nobody to tell of a failure
}
