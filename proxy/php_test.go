//go:build linux

package proxy_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// fpm is Debian's php-fpm on a Unix socket.
type fpm struct {
	t      *testing.T
	dir    string
	socket string
	conf   string

	mu  sync.Mutex
	cmd *exec.Cmd
	out bytes.Buffer
}

// startFPM runs it with so many workers until the test ends, with more lines for its pool.
func startFPM(t *testing.T, workers int, lines ...string) *fpm {
	t.Helper()
	f := &fpm{t: t, dir: t.TempDir()}
	f.socket, f.conf = filepath.Join(f.dir, "fpm.sock"), filepath.Join(f.dir, "fpm.conf")
	user := ""
	if os.Getuid() == 0 {
		user = "user = www-data\ngroup = www-data\n"
	}
	text := fmt.Sprintf("[global]\nerror_log = /dev/stderr\ndaemonize = no\n[www]\n%slisten = %s\nlisten.mode = 0666\npm = static\npm.max_children = %d\n%s\n",
		user, f.socket, workers, strings.Join(lines, "\n"))
	if err := os.WriteFile(f.conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	f.start()
	t.Cleanup(f.stop)
	return f
}

func (f *fpm) start() {
	f.t.Helper()
	found, _ := filepath.Glob("/usr/sbin/php-fpm*")
	if len(found) == 0 {
		f.t.Fatal("PHP-FPM is missing: install the package php-fpm")
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cmd = exec.Command(found[len(found)-1], "-y", f.conf, "-F")
	f.cmd.Stdout, f.cmd.Stderr = &f.out, &f.out
	f.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := f.cmd.Start(); err != nil {
		f.t.Fatal(err)
	}
	await(f.t, "php-fpm to listen", func() bool {
		conn, err := net.Dial("unix", f.socket)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// stop ends it as `systemctl stop` does. A signal that comes while it begins anew can be lost to it.
func (f *fpm) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.cmd != nil {
		ended := make(chan struct{})
		go func() {
			f.cmd.Wait()
			close(ended)
		}()
		await(f.t, "php-fpm to stop", func() bool {
			f.cmd.Process.Signal(syscall.SIGTERM)
			select {
			case <-ended:
				return true
			case <-time.After(500 * time.Millisecond):
				return false
			}
		})
		f.cmd = nil
	}
	if f.t.Failed() {
		f.t.Logf("php-fpm says:\n%s", f.out.Bytes()[max(0, f.out.Len()-1000):])
	}
}

// scripts makes a directory of files that php-fpm's workers may read.
func scripts(t *testing.T, files map[string]string) string {
	t.Helper()
	root := directory(t, files)
	for d := root; d != os.TempDir() && len(d) > 1; d = filepath.Dir(d) {
		os.Chmod(d, 0o755)
	}
	return root
}

// reload has it begin anew as `systemctl reload` does.
func (f *fpm) reload() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cmd.Process.Signal(syscall.SIGUSR2)
}

// dump is a script that says what it was asked.
const dump = `<?php ksort($_SERVER); foreach ($_SERVER as $k => $v) if (is_string($v)) echo "$k=$v\n";
$body = file_get_contents('php://input'); echo "BODY=" . strlen($body) . " " . md5($body) . "\n";`

// phpSite is the site example.com in the three-line form.
func phpSite(f *fpm, root string, lines ...string) string {
	return "sites:\n  - hosts: [example.com]\n    php: unix:" + f.socket + "\n    root: " + root + "\n    " + strings.Join(lines, "\n    ") + "\n"
}

func (f *front) get(t *testing.T, target string, headers ...string) answer {
	t.Helper()
	c := dial(t, f.plain)
	c.send("GET " + target + " HTTP/1.1\r\n" + host + strings.Join(headers, "") + "\r\n")
	return c.answer("GET")
}
