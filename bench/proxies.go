//go:build linux

package main

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"text/template"
	"time"
)

//go:embed peers
var peerFiles embed.FS

// proxy is a program under measurement.
type proxy struct {
	Name      string
	binary    string // looked up in PATH and where Debian puts servers
	config    string // in peers/
	args      []string
	version   []string
	noStatic  bool // it serves no files
	noConnect bool // it offers no extended CONNECT (RFC 8441) over HTTP/2 as it is configured here
}

const configArg = "CONFIG" // stands in args for the configuration's file

const subject = "wstunnel" // the proxy that the others are compared with

// proxies lists the programs in the table's order.
func proxies(opts options) []proxy {
	return []proxy{
		{
			Name: subject, binary: opts.wstunnel, config: "wstunnel.yaml",
			args: []string{"run", "--config", configArg}, version: []string{"version"},
		},
		{
			Name: "nginx", binary: "nginx", config: "nginx.conf",
			args: []string{"-e", "stderr", "-c", configArg}, version: []string{"-v"}, noConnect: true,
		},
		{
			Name: "HAProxy", binary: "haproxy", config: "haproxy.cfg",
			args: []string{"-db", "-f", configArg}, version: []string{"-v"}, noStatic: true,
		},
		{
			Name: "Caddy", binary: "caddy", config: "Caddyfile",
			args: []string{"run", "--adapter", "caddyfile", "--config", configArg}, version: []string{"version"}, noConnect: true,
		},
		{
			Name: "Apache", binary: "apache2", config: "apache.conf",
			args: []string{"-DFOREGROUND", "-f", configArg}, version: []string{"-v"}, noConnect: true,
		},
	}
}

// setup is what the templates of the configurations are filled with.
type setup struct {
	Dir              string // the instance's own
	Static           string // directory of the static files
	Cert, Key, Both  string // PEM files
	Backend          string // host:port
	Plain, Secure    int    // ports to listen on
	Workers          int
	Tunnels          int // at a time, with some to spare
	ThreadsPerWorker int
	Connections      int // both ends of all tunnels
	Files            int // open files
	Root             bool
}

func (s *setup) size(tunnels int) {
	const spare = 300 // for the closed loops and what listens
	s.Workers = runtime.NumCPU()
	s.ThreadsPerWorker = (tunnels+spare)/s.Workers + 1
	s.Tunnels = s.ThreadsPerWorker * s.Workers
	s.Connections = 2 * s.Tunnels
	s.Files = s.Connections + spare
	s.Root = os.Geteuid() == 0
}

// instance is a running proxy.
type instance struct {
	*process
	plain, secure string // addresses
}

// find looks where an ordinary user's PATH may not.
func find(binary string) (string, error) {
	path, err := exec.LookPath(binary)
	if err == nil {
		return filepath.Abs(path)
	}
	if sbin := filepath.Join("/usr/sbin", binary); !strings.Contains(binary, "/") {
		if _, err := os.Stat(sbin); err == nil {
			return sbin, nil
		}
	}
	return "", fmt.Errorf("not installed: %w", err)
}

// describe is the first line of what the program says of its version, or why it cannot be run.
func (p proxy) describe() string {
	binary, err := find(p.binary)
	if err != nil {
		return err.Error()
	}
	out, err := exec.Command(binary, p.version...).CombinedOutput()
	if err != nil {
		return err.Error()
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return strings.TrimSpace(line)
}

// start runs the proxy with its configuration from peers/ in a directory of its own, and waits until it listens.
func (p proxy) start(ctx context.Context, s setup) (*instance, error) {
	binary, err := find(p.binary)
	if err != nil {
		return nil, err
	}
	if s.Plain, s.Secure, err = freePorts(); err != nil {
		return nil, err
	}
	config := filepath.Join(s.Dir, p.config)
	if err := s.write(config); err != nil {
		return nil, err
	}
	args := append([]string(nil), p.args...)
	for i, arg := range args {
		if arg == configArg {
			args[i] = config
		}
	}
	cmd := exec.Command(binary, args...)
	cmd.Dir = s.Dir
	cmd.Env = append(os.Environ(), "HOME="+s.Dir, "XDG_CONFIG_HOME="+s.Dir, "XDG_DATA_HOME="+s.Dir)
	running, err := startProcess(cmd, filepath.Join(s.Dir, "log"))
	if err != nil {
		return nil, err
	}
	i := &instance{
		process: running,
		plain:   fmt.Sprintf("127.0.0.1:%d", s.Plain),
		secure:  fmt.Sprintf("127.0.0.1:%d", s.Secure),
	}
	for _, address := range []string{i.plain, i.secure} {
		if err := i.listening(ctx, address); err != nil {
			i.stop()
			return nil, err
		}
	}
	return i, nil
}

// write fills the template of the configuration.
func (s setup) write(file string) error {
	text, err := peerFiles.ReadFile("peers/" + filepath.Base(file))
	if err != nil {
		return err
	}
	parsed, err := template.New(filepath.Base(file)).Parse(string(text))
	if err != nil {
		return err
	}
	var filled bytes.Buffer
	if err := parsed.Execute(&filled, s); err != nil {
		return err
	}
	return os.WriteFile(file, filled.Bytes(), 0o644)
}

// listening waits until the address accepts connections.
func (i *instance) listening(ctx context.Context, address string) error {
	timeout := time.After(10 * time.Second)
	for {
		conn, err := net.Dial("tcp4", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-i.ended:
			return fmt.Errorf("ended at its start: %s", i.lastWords())
		case <-timeout:
			return fmt.Errorf("does not listen on %s: %s", address, i.lastWords())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func freePorts() (a, b int, err error) {
	first, err1 := net.Listen("tcp4", "127.0.0.1:0")
	second, err2 := net.Listen("tcp4", "127.0.0.1:0")
	if err := errors.Join(err1, err2); err != nil {
		return 0, 0, err
	}
	defer first.Close()
	defer second.Close()
	return first.Addr().(*net.TCPAddr).Port, second.Addr().(*net.TCPAddr).Port, nil
}
