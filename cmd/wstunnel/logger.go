package main

import (
	"io"
	"os"

	"wstunnel/internal/logs"
)

// newLog writes text to a terminal and JSON, one object a line, to anything else. Lines are collected for an
// instant; flush writes what is left, at the end.
func newLog(w io.Writer) (log *logs.Log, flush func()) {
	format := logs.JSON
	if isTerminal(w) {
		format = logs.Text
	}
	out := logs.NewOutput(w, func(what string, _ error, lines int) { log.Logger().Warn(what, "lines", lines) })
	log = logs.New(out, format)
	return log, out.Flush
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && f.Name() != os.DevNull
}
