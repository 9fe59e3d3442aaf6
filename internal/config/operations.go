package config

import (
	"os"
	"path/filepath"
	"strconv"
	"time"

	"gopkg.in/yaml.v3"
)

// Drain says how tunnels are closed when the server stops, or is told to let them go.
type Drain struct {
	// Spread is the time over which they are closed, in random order, so that their clients do not all come back at once. Zero: 100 ms for each
	// tunnel, 60 s at most; the default.
	Spread time.Duration
	// Code is that of the Close frames (RFC 6455, section 7.4). Default 1001.
	Code uint16
}

const (
	// maxSocketPath is sun_path of unix(7), less its NUL.
	maxSocketPath = 107
	// maxControlPath leaves room for the number of a process, behind which a new control socket is made before it takes its place.
	maxControlPath = maxSocketPath - len(".4194304")
)

// SocketPath returns the path of the control socket; empty where there is none.
func (c *Config) SocketPath() string {
	switch dir := os.Getenv("RUNTIME_DIRECTORY"); {
	case c.Admin.Off:
		return ""
	case c.Admin.Socket != "":
		return c.Admin.Socket
	case dir != "":
		return filepath.Join(dir, socketName)
	}
	return filepath.Join(filepath.Dir(c.TLS.Storage), socketName)
}

const socketName = "control.sock"

// operations reads what concerns the life of the server.
func (d *decoder) operations(o object, cfg *Config) {
	if n := o.get("shutdown_timeout"); n != nil {
		d.duration(n, &cfg.ShutdownTimeout)
	}
	if n := o.get("drain"); n != nil {
		d.drain(n, &cfg.Drain)
	}
	if n := o.get("on_route_removed"); n != nil {
		cfg.DrainRemoved = d.word(n, "keep", "drain") == 1
	}
}

func (d *decoder) drain(n *yaml.Node, drain *Drain) {
	o, ok := d.object(n, inDrain)
	if !ok {
		return
	}
	if v := o.get("spread"); v != nil {
		d.duration(v, &drain.Spread)
	}
	if v := o.get("code"); v != nil {
		d.closeCode(v, &drain.Code)
	}
}

// closeCode reads a code that a server may close a WebSocket with (RFC 6455, section 7.4).
func (d *decoder) closeCode(n *yaml.Node, v *uint16) {
	const allowed = "1001 (going away), 1012 (service restart), 1013 (try again later), or one from 3000 to 4999"
	s, ok := d.scalar(n, allowed)
	if !ok {
		return
	}
	got, err := strconv.ParseUint(s.text, 10, 16)
	if err != nil || got != 1001 && got != 1012 && got != 1013 && (got < 3000 || got > 4999) {
		d.add(s.pos, "bad close code "+s.shown(), allowed)
		return
	}
	*v = uint16(got)
}
