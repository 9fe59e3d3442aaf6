package config

import (
	"os"
	"path/filepath"
	"slices"

	"gopkg.in/yaml.v3"
)

// AccessLog says where the lines of requests and tunnels go, and how they are written.
type AccessLog struct {
	Pos
	// Off says that there are none.
	Off bool
	// File is appended to; empty for stderr, where the server's own log is.
	File   string
	Format LogFormat
}

// LogFormat is how a line is written.
type LogFormat int

// The formats.
const (
	LogAsOwn    LogFormat = iota // as the server's own log on stderr, JSON in a file; the default
	LogJSON                      // one object a line
	LogText                      // key=value
	LogCombined                  // Apache's and nginx's
)

var logFormats = []string{"json", "text", "combined"}

// accessLog reads `off`, `stderr`, a file name, or {to: stderr | FILE, format: json | text | combined}.
func (d *decoder) accessLog(n *yaml.Node, log *AccessLog) {
	if deref(n).Kind != yaml.MappingNode {
		d.logTarget(n, log)
		return
	}
	o, ok := d.object(n, inAccessLog)
	if !ok {
		return
	}
	if v := o.get("to"); v != nil {
		d.logTarget(v, log)
	}
	log.Pos = o.pos
	if v := o.get("format"); v != nil {
		log.Format = d.logFormat(v)
		if log.Off {
			d.add(o.keyPos("format"), "format on an access log that is off", "format only beside to: stderr or to: FILE")
		}
	}
}

// logTarget reads where the lines go; their format is the default then.
func (d *decoder) logTarget(n *yaml.Node, log *AccessLog) {
	const allowed = "off, stderr, or the name of a file in an existing directory"
	f, ok := d.fileName(n, allowed)
	if !ok {
		return
	}
	*log = AccessLog{Pos: f.pos}
	switch {
	case f.text == "off":
		log.Off = true
	case f.text == "stderr":
	case slices.Contains([]string{"on", "true", "yes", "false", "no", "none", "stdout", "syslog"}, f.text):
		d.add(f.pos, "unknown value "+f.shown(), allowed)
	default:
		log.File = f.path
		d.checkLogFile(f, allowed)
	}
}

func (d *decoder) checkLogFile(f fileRef, allowed string) {
	if info, err := os.Stat(f.path); err == nil && info.IsDir() {
		d.add(f.pos, f.shown()+" is a directory", allowed)
		return
	}
	if _, err := os.Stat(filepath.Dir(f.path)); err != nil {
		d.addNoFile(f.pos, "cannot open directory "+quote(filepath.Dir(f.path))+": "+cause(err), allowed)
	}
}

func (d *decoder) logFormat(n *yaml.Node) LogFormat {
	const allowed = "json, text or combined"
	s, ok := d.scalar(n, allowed)
	if !ok {
		return LogAsOwn
	}
	i := slices.Index(logFormats, s.text)
	if i < 0 {
		d.add(s.pos, "unknown value "+s.shown(), allowed+misspelt(s.written, logFormats...))
	}
	return LogFormat(i + 1)
}
