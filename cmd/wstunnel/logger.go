package main

import (
	"io"
	"log/slog"
	"os"
	"sync"
	"time"
)

// newLogger writes text to a terminal and JSON, one object a line, to anything else. Lines are collected for an
// instant; flush writes what is left, at the end.
func newLogger(w io.Writer) (log *slog.Logger, flush func()) {
	to := func(w io.Writer) *slog.Logger { return slog.New(slog.NewJSONHandler(w, nil)) }
	if isTerminal(w) {
		to = func(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }
	}
	lines := &logWriter{w: w, direct: to(w)}
	return to(lines), lines.flush
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}

const (
	logDelay  = 5 * time.Millisecond // how long lines are collected
	logBuffer = 1 << 20              // bytes that wait for a slow reader at most
	logFlush  = time.Second          // what the last lines are given
)

// logWriter collects lines, so that a busy server does not make a system call for each, and that a reader of the log
// who stalls stalls nobody else. Lines beyond logBuffer are dropped and counted.
type logWriter struct {
	w      io.Writer
	direct *slog.Logger // to w

	mu      sync.Mutex
	lines   []byte
	spare   []byte
	busy    bool // a goroutine writes, or is about to
	dropped int
	idle    chan struct{} // closed when all is written; nil while nobody waits for that
}

func (l *logWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lines)+len(line) > logBuffer {
		l.dropped++
		return len(line), nil
	}
	l.lines = append(l.lines, line...)
	if !l.busy {
		l.busy = true
		time.AfterFunc(logDelay, l.drain)
	}
	return len(line), nil
}

// drain writes what was collected, until there is nothing more.
func (l *logWriter) drain() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.lines) > 0 {
		lines, dropped := l.lines, l.dropped
		l.lines, l.spare, l.dropped = l.spare[:0], nil, 0
		l.mu.Unlock()
		l.w.Write(lines) // there is nobody to tell of a failure
		if dropped > 0 {
			l.direct.Warn("lines of the log were dropped: its reader is too slow", "lines", dropped)
		}
		l.mu.Lock()
		l.spare = lines
		if cap(lines) > logBuffer/8 {
			l.spare = nil
		}
	}
	l.busy = false
	if l.idle != nil {
		close(l.idle)
		l.idle = nil
	}
}

// flush waits until all lines are written, for as long as logFlush.
func (l *logWriter) flush() {
	l.mu.Lock()
	if !l.busy {
		l.mu.Unlock()
		return
	}
	if l.idle == nil {
		l.idle = make(chan struct{})
	}
	idle := l.idle
	l.mu.Unlock()
	select {
	case <-idle:
	case <-time.After(logFlush):
	}
}
