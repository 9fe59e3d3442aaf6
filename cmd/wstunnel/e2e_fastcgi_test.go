//go:build linux

package main_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// startFPM runs PHP-FPM with so many workers on a Unix socket.
func startFPM(t *testing.T, workers int) (socket string) {
	t.Helper()
	found, _ := filepath.Glob("/usr/sbin/php-fpm*")
	if len(found) == 0 {
		t.Fatal("PHP-FPM is missing: install the package php-fpm")
	}
	dir := readableDir(t)
	socket = filepath.Join(dir, "fpm.sock")
	conf := filepath.Join(dir, "fpm.conf")
	user := ""
	if os.Getuid() == 0 {
		user = "user = www-data\ngroup = www-data\nlisten.owner = www-data\nlisten.group = www-data\n"
	}
	text := fmt.Sprintf("[global]\nerror_log = /dev/stderr\ndaemonize = no\n[www]\n%slisten = %s\npm = static\npm.max_children = %d\n", user, socket, workers)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	start(t, exec.Command(found[len(found)-1], "-y", conf, "-F"))
	eventually(t, "PHP-FPM listens", func() bool {
		_, err := os.Stat(socket)
		return err == nil
	})
	return socket
}

// docroot is a directory of scripts and files, readable for servers that have users of their own.
type docroot string

// newDocroot makes one with files, by their names.
func newDocroot(t *testing.T, files map[string]string) docroot {
	t.Helper()
	d := docroot(readableDir(t))
	for name, text := range files {
		d.write(t, name, text)
	}
	return d
}

func (d docroot) file(name string) string { return filepath.Join(string(d), name) }

func (d docroot) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(d.file(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(d.file(name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// readableDir is a directory for servers that have users of their own.
func readableDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != os.TempDir(); d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
	return dir
}

func TestFastCGISocketAsAnHTTPTargetIsCalledByItsName(t *testing.T) {
	socket := startFPM(t, 1)
	f := startFront(t, settings(`{path: /, http: "unix:`+socket+`"}`))
	for range 2 {
		since := f.out.len()
		resp, err := newClient(nil).Get("http://" + f.http + "/index.php")
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, resp)
		if resp.StatusCode != http.StatusBadGateway {
			t.Errorf("got %s, want 502", resp.Status)
		}
		if line := f.awaitLog(t, since, "request", "status", 502); !strings.Contains(line.text("error"), "looks like FastCGI") {
			t.Errorf("the log says %q", line.text("error"))
		}
	}
	f.awaitLog(t, 0, "the target speaks FastCGI, as PHP-FPM does, not HTTP: write `php: unix:"+socket+"` in place of http: or proxy:, and `root:` with the directory of the scripts",
		"location", "/", "target", "unix:"+socket)
}
