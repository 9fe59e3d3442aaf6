package admin

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"wstunnel/internal/leaks"
)

func TestMain(m *testing.M) { leaks.Verify(m) }

// quiet is a service of which only the status is asked.
type quiet struct{ Service }

func (quiet) Status() Status { return Status{PID: 7} }

// serveQuiet answers on a socket.
func serveQuiet(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "control.sock")
	socket, err := Listen(path, Rights{0o666, -1}, false)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(NewDesk(quiet{}, nil, nil, slog.New(slog.DiscardHandler)).Serve(socket).Close)
	return path
}

// TestBodyThatDoesNotComeIsNotWaitedFor for longer than a head is.
func TestBodyThatDoesNotComeIsNotWaitedFor(t *testing.T) {
	path := serveQuiet(t)
	for _, ask := range []string{"/v1/drain", "/v1/reload"} {
		t.Run(ask[4:], func(t *testing.T) {
			t.Parallel()
			conn, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(30 * time.Second))
			io.WriteString(conn, "POST "+ask+" HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{")
			r := bufio.NewReader(conn)
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != http.StatusBadRequest || !resp.Close {
				t.Errorf("answered %d, close %v", resp.StatusCode, resp.Close)
			}
			io.Copy(io.Discard, resp.Body)
			if _, err := r.ReadByte(); err == nil || os.IsTimeout(err) {
				t.Errorf("then %v", err)
			}
		})
	}
}

// TestWhatMeansNothingIsSaidInJSON: a path, a method, and what stands in a query.
func TestWhatMeansNothingIsSaidInJSON(t *testing.T) {
	routes := NewDesk(quiet{}, nil, nil, slog.New(slog.DiscardHandler)).handler
	for _, c := range []struct {
		method, path, allow, answer string
		status                      int
	}{
		{"GET", "/v1/nothing", "", `{"errors":["there is nothing at \"/v1/nothing\""]}`, 404},
		{"GET", "/", "", `{"errors":["there is nothing at \"/\""]}`, 404},
		{"PATCH", "/v1/tunnels/1-00000000", "GET, HEAD, DELETE", `{"errors":["\"/v1/tunnels/1-00000000\" is not for \"PATCH\"; there is GET, HEAD, DELETE"]}`, 405},
		{"POST", "/v1/push?site=a.example", "", `{"errors":["\"site\" in the query: there is to be none"]}`, 400},
		{"POST", "/v1/users/anna/messages?sit=a.example", "", `{"errors":["unknown \"sit\" in the query; there may be site"]}`, 400},
		{"POST", "/v1/groups/lobby/messages?site=a&site=b", "", `{"errors":["site is twice in the query"]}`, 400},
		{"POST", "/v1/groups/lobby/messages?site=", "", `{"errors":["site in the query is empty"]}`, 400},
		{"POST", "/v1/groups/lobby/messages?site=%zz", "", `{"errors":["the query: invalid URL escape \"%zz\""]}`, 400},
		{"DELETE", "/v1/tunnels/1-00000000?cod=1", "", `{"errors":["unknown \"cod\" in the query; there may be code, reason"]}`, 400},
		{"GET", "/publish/", "POST", `{"errors":["\"/publish/\" is not for \"GET\"; there is POST"]}`, 405},
	} {
		w := httptest.NewRecorder()
		routes.ServeHTTP(w, httptest.NewRequest(c.method, c.path, nil))
		if got := strings.TrimSpace(w.Body.String()); w.Code != c.status || w.Header().Get("Allow") != c.allow || got != c.answer || w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s %s: %d, Allow %q, %s", c.method, c.path, w.Code, w.Header().Get("Allow"), got)
		}
	}
}

// TestStrangersTakeNoRoom: others who may connect, but not ask, are told so; many at a time have their connections closed, and keep nobody from asking.
func TestStrangersTakeNoRoom(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs another user")
	}
	path := serveQuiet(t)
	for dir := filepath.Dir(path); dir != filepath.Clean(os.TempDir()); dir = filepath.Dir(dir) {
		os.Chmod(dir, 0o755)
	}
	cmd := exec.Command("python3", "-c", `
import os, socket, sys
os.setgroups([])
os.setuid(65534)
def ask(text):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(20)
    s.connect(sys.argv[1])
    try: s.sendall(text)
    except OSError: pass
    return s
def rest(s):
    try: return s.recv(999)
    except OSError: return b""
print(rest(ask(b"GET /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 9999\r\n\r\n{"))[9:12].decode(), flush=True)
all = [ask(b"GET /v1") for _ in range(100)]
shut = 0
for s in all:
    s.settimeout(0.2)
    try: shut += s.recv(1) == b""
    except TimeoutError: pass
    except OSError: shut += 1
print(shut, flush=True)
sys.stdin.read()`, path)
	in, _ := cmd.StdinPipe()
	out, _ := cmd.StdoutPipe()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	lines.Scan()
	if got := lines.Text(); got != "403" {
		t.Errorf("one is answered %q", got)
	}
	lines.Scan()
	if shut, _ := strconv.Atoi(strings.TrimSpace(lines.Text())); shut < 100-maxStrangers {
		t.Errorf("%d of 100 connections were closed", shut)
	}
	if s, err := NewClient(path).Status(context.Background()); err != nil || s.PID != 7 {
		t.Errorf("%+v, %v", s, err)
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}
