package config

import (
	"os"
	"path/filepath"

	"gopkg.in/yaml.v3"
)

// systemdSocket is the control socket of the unit.
const systemdSocket = "/run/wstunnel/" + socketName

// FindSocket returns the path of the control socket of the server that runs a file, whatever mistakes that has by now. Where the file names none it is
// the one that is there.
func FindSocket(file string) string {
	var raw struct {
		Admin yaml.Node
		TLS   struct{ Storage string }
	}
	text, _ := os.ReadFile(file)
	yaml.Unmarshal(text, &raw) // what can't be read is left out
	var admin struct{ Socket string }
	raw.Admin.Decode(&admin)
	beside := func(written string) string {
		path, _, _ := expand(written, os.LookupEnv)
		if filepath.IsAbs(path) {
			return path
		}
		return filepath.Join(filepath.Dir(file), path)
	}
	if admin.Socket != "" {
		return beside(admin.Socket)
	}
	cfg := Config{TLS: defaultTLS()}
	if raw.TLS.Storage != "" {
		cfg.TLS.Storage = beside(raw.TLS.Storage)
	}
	own := cfg.SocketPath()
	if _, err := os.Stat(own); err != nil {
		if _, err := os.Stat(systemdSocket); err == nil {
			return systemdSocket
		}
	}
	return own
}
