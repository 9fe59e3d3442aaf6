//go:build linux

package main_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// The end-to-end tests run the real binary between real programs: PHP, Python and Chromium. This file builds and
// runs the binary; e2e_programs_test.go runs the others.

// patience bounds every single wait.
const patience = 20 * time.Second

// build makes wstunnel, once, and opens the file. The file is deleted as soon as it is open, so that nothing is left
// behind however the tests end.
var build = sync.OnceValues(func() (*os.File, error) {
	dir, err := os.MkdirTemp("", "wstunnel-e2e")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "wstunnel")
	if out, err := exec.Command("go", "build", "-tags", buildTags, "-o", path, ".").CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build: %w\n%s", err, out)
	}
	return os.Open(path)
})

// wstunnel is the command with arguments, not started.
func wstunnel(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	f, err := build()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), f.Fd()), args...)
	cmd.Args[0] = "wstunnel"
	return cmd
}

// front is a running wstunnel.
type front struct {
	*program
	config      string // its file
	http, https string // host:port of the listeners of settings()
}

// settings makes a configuration with a plain and a TLS listener and one site for every name, with locations.
func settings(locations ...string) string {
	return siteSettings("locations:", "  - "+strings.Join(locations, "\n      - "))
}

// siteSettings is settings with the lines of the site.
func siteSettings(lines ...string) string {
	return `listen:
  - address: 127.0.0.1:0
  - address: localhost:0
    tls: true
tls:
  storage: certs
shutdown_timeout: 5s
sites:
  - hosts: [_]
    tls: self-signed
    ` + strings.Join(lines, "\n    ") + "\n"
}

// startFront runs wstunnel with a configuration and waits until it listens. At the end of the test it is
// stopped, unless the test did so, and has to exit with 0.
func startFront(t *testing.T, yaml string) *front {
	t.Helper()
	return startFrontFrom(t, wstunnel(t), yaml)
}

// startFrontFrom is startFront with the command as it is to be started, but for its arguments.
func startFrontFrom(t *testing.T, cmd *exec.Cmd, yaml string) *front {
	t.Helper()
	f := &front{config: filepath.Join(t.TempDir(), "config.yaml")}
	f.write(t, yaml)
	cmd.Args = append(cmd.Args, "run", "--config", f.config)
	f.program = start(t, cmd)
	t.Cleanup(func() {
		if !f.exited() && !t.Failed() {
			f.stop(t)
		}
		if strings.Contains(f.out.String(), "goroutine ") {
			t.Errorf("wstunnel printed a stack trace:\n%s", f.out)
		}
	})
	f.http = f.awaitLog(t, 0, "listening").text("address")
	if n := strings.Count(yaml, "- address:"); n > 1 {
		f.https = f.awaitLogs(t, 0, n, "listening")[n-1].text("address")
	}
	awaitControl(t, yaml)
	return f
}

func (f *front) write(t *testing.T, yaml string) {
	t.Helper()
	if err := os.WriteFile(f.config, []byte(yaml), 0o644); err != nil {
		t.Fatal(err)
	}
}

// reload makes wstunnel read a new configuration, and returns the log entry that says what came of it.
func (f *front) reload(t *testing.T, yaml, outcome string) entry {
	t.Helper()
	f.write(t, yaml)
	since := f.out.len()
	f.hangUp(t)
	return f.awaitLog(t, since, outcome)
}

// hangUp sends SIGHUP.
func (f *front) hangUp(t *testing.T) {
	t.Helper()
	f.signal(t, syscall.SIGHUP)
}

// The messages of a reload.
const (
	reloaded = "configuration reloaded"
	refused  = "reload failed; the old configuration stays"
)

// stop sends SIGTERM, requires exit code 0 and returns how long it took.
func (f *front) stop(t *testing.T) time.Duration {
	t.Helper()
	begin := time.Now()
	f.signal(t, syscall.SIGTERM)
	if code := f.wait(t); code != 0 {
		t.Errorf("exit code %d after SIGTERM, want 0\n%s", code, f.out)
	}
	return time.Since(begin)
}

// awaitRefusal waits until a listener takes no connection any more.
func (f *front) awaitRefusal(t *testing.T, address string) {
	t.Helper()
	eventually(t, "listener "+address+" closed", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
}

// get fetches a page over plain HTTP and returns its body; the status must be 200.
func (f *front) get(t *testing.T, path string) string {
	t.Helper()
	resp, err := newClient(nil).Get("http://" + f.http + path)
	if err != nil {
		t.Fatal(err)
	}
	body := readAll(t, resp)
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s: %s", path, resp.Status, body)
	}
	return body
}

// entry is one line of the log.
type entry map[string]any

func (e entry) text(key string) string { return fmt.Sprint(e[key]) }

// matches tells whether the entry has a message and attributes, given as key, value, key, value.
func (e entry) matches(msg string, attrs []any) bool {
	if e["msg"] != msg {
		return false
	}
	for i := 0; i < len(attrs); i += 2 {
		if e.text(attrs[i].(string)) != fmt.Sprint(attrs[i+1]) {
			return false
		}
	}
	return true
}

// awaitLog waits for an entry of the log from line since on.
func (f *front) awaitLog(t *testing.T, since int, msg string, attrs ...any) entry {
	t.Helper()
	return f.awaitLogs(t, since, 1, msg, attrs...)[0]
}

// awaitLogs waits for n entries.
func (f *front) awaitLogs(t *testing.T, since, n int, msg string, attrs ...any) []entry {
	t.Helper()
	var found []entry
	ok := f.out.await(func(lines []string) bool {
		found = nil
		for _, line := range lines[min(since, len(lines)):] {
			var e entry
			if json.Unmarshal([]byte(line), &e) == nil && e.matches(msg, attrs) {
				found = append(found, e)
			}
		}
		return len(found) >= n
	})
	if !ok {
		t.Fatalf("%d of %d log entries %q %v:\n%s", len(found), n, msg, attrs, f.out)
	}
	return found
}

// output collects the lines that a program prints.
type output struct {
	mu      sync.Mutex
	lines   []string
	partial []byte
	more    chan struct{} // closed with the next line
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.partial = append(o.partial, p...)
	for {
		line, rest, ok := bytes.Cut(o.partial, []byte("\n"))
		if !ok {
			break
		}
		o.lines, o.partial = append(o.lines, string(line)), rest
	}
	if o.more != nil {
		close(o.more)
		o.more = nil
	}
	return len(p), nil
}

func (o *output) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.lines)
}

// since returns the lines from number n on.
func (o *output) since(n int) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.lines[min(n, len(o.lines)):])
}

// awaitMatches waits for n lines that the pattern matches, from line since on.
func (o *output) awaitMatches(t *testing.T, since int, pattern string, n int) (found []string) {
	t.Helper()
	want := regexp.MustCompile(pattern)
	ok := o.await(func(lines []string) bool {
		found = slices.DeleteFunc(slices.Clone(lines[min(since, len(lines)):]), func(line string) bool { return !want.MatchString(line) })
		return len(found) >= n
	})
	if !ok {
		t.Fatalf("%d of %d lines %q:\n%s", len(found), n, pattern, o)
	}
	return found
}

// String returns the last lines.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	const most = 60
	return strings.Join(o.lines[max(0, len(o.lines)-most):], "\n") + "\n" + string(o.partial)
}

// await waits until the lines are such that ready holds.
func (o *output) await(ready func(lines []string) bool) bool {
	deadline := time.After(patience)
	for {
		o.mu.Lock()
		if ready(o.lines) {
			o.mu.Unlock()
			return true
		}
		if o.more == nil {
			o.more = make(chan struct{})
		}
		more := o.more
		o.mu.Unlock()
		select {
		case <-more:
		case <-deadline:
			return false
		}
	}
}

// eventually polls for a condition that nothing announces.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}
