package proxy

import (
	"fmt"
	"sync"

	"wstunnel/internal/config"
	"wstunnel/internal/logs"
)

// accessLogs are the places where lines of requests and tunnels go. They belong to the process.
type accessLogs struct {
	own *logs.Log // the server's own log, on stderr

	mu    sync.Mutex
	files map[string]*logs.Output
	logs  map[logKey]*logs.Log
}

// logKey is a place and a format; the file is empty for stderr.
type logKey struct {
	file   string
	format logs.Format
}

// key says which log a setting means.
func (a *accessLogs) key(c config.AccessLog) logKey {
	key := logKey{file: c.File}
	switch c.Format {
	case config.LogText:
		key.format = logs.Text
	case config.LogCombined:
		key.format = logs.Combined
	case config.LogAsOwn:
		if c.File == "" {
			key.format = a.own.Format()
		}
	}
	return key
}

// open opens the files of a configuration. An error leaves open what was. A disk may be dead, so that it never returns: nobody else waits for it.
func (a *accessLogs) open(cfg *config.Config) error {
	for _, c := range settings(cfg) {
		if c.Off {
			continue
		}
		if err := a.openOne(a.key(c)); err != nil {
			return fmt.Errorf("%s: access_log: %w", cfg.Place(c.Pos), err)
		}
	}
	return nil
}

// settings returns what all levels of a configuration say of access logs.
func settings(cfg *config.Config) []config.AccessLog {
	all := []config.AccessLog{cfg.AccessLog}
	for _, site := range cfg.Sites {
		all = append(all, site.AccessLog)
		for _, location := range site.Locations {
			all = append(all, location.AccessLog)
		}
	}
	return all
}

func (a *accessLogs) openOne(key logKey) error {
	out := a.reuse(key.file)
	if out == nil && key.file != "" {
		var err error
		if out, err = logs.OpenFile(key.file, a.complain); err != nil {
			return err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.logs == nil {
		a.files, a.logs = map[string]*logs.Output{}, map[logKey]*logs.Log{{format: a.own.Format()}: a.own}
	}
	switch {
	case a.logs[key] != nil:
	case out == nil:
		a.logs[key] = a.own.As(key.format)
	default:
		a.files[key.file], a.logs[key] = out, logs.New(out, key.format)
	}
	return nil
}

// reuse returns the output of a file that is open, or was, and is to be in use; or nil.
func (a *accessLogs) reuse(file string) *logs.Output {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := a.files[file]
	if out != nil {
		out.Revive()
	}
	return out
}

// complain tells in the server's own log what is wrong with another one.
func (a *accessLogs) complain(what string, err error, lines int) {
	if err != nil {
		a.own.Logger().Error(what, "error", err)
	} else {
		a.own.Logger().Warn(what, "lines", lines)
	}
}

// log returns the log of a setting that was opened, or nil where it is off.
func (a *accessLogs) log(c config.AccessLog) *logs.Log {
	if c.Off {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.logs[a.key(c)]
}

// retire closes the files that a configuration does not name.
func (a *accessLogs) retire(cfg *config.Config) {
	named := map[string]bool{}
	for _, c := range settings(cfg) {
		named[c.File] = !c.Off || named[c.File]
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, out := range a.files {
		if !named[name] {
			out.Retire()
		}
	}
}

// reopen has all files opened again.
func (a *accessLogs) reopen() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, out := range a.files {
		out.Reopen()
	}
}

// end closes all files, and waits until their lines are written, for an instant.
func (a *accessLogs) end() {
	a.mu.Lock()
	defer a.mu.Unlock()
	var written sync.WaitGroup
	for _, out := range a.files {
		out.Retire()
		written.Go(out.Flush)
	}
	written.Wait()
}

// ReopenLogs has the files of access logs opened again, which a rotation has moved away.
func (s *Server) ReopenLogs() { s.access.reopen() }
