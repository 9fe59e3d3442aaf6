package admin

import (
	"bufio"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// signal is a log that says when something is written to it.
type signal chan string

func (s signal) Write(p []byte) (int, error) {
	select {
	case s <- string(p):
	default:
	}
	return len(p), nil
}

// TestControlSocketSurvivesALackOfDescriptors: who connects while there is none is answered when there is.
func TestControlSocketSurvivesALackOfDescriptors(t *testing.T) {
	path := filepath.Join(t.TempDir(), "control.sock")
	socket, err := Listen(path, Rights{0o666, -1}, false)
	if err != nil {
		t.Fatal(err)
	}
	log := make(signal, 1)
	defer NewDesk(quiet{}, nil, nil, slog.New(slog.NewTextHandler(log, nil))).Serve(socket).Close()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	conn := os.NewFile(uintptr(fd), path)
	defer conn.Close()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 0, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
	var said string
	select {
	case said = <-log:
	case <-time.After(30 * time.Second):
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if err != nil || !strings.Contains(said, "too many open files") {
		t.Fatalf("connecting: %v; the log says %q", err, said)
	}
	io.WriteString(conn, "NONSENSE\n")
	if answer, err := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(answer, "ERR 400 ") {
		t.Errorf("answered %q, %v", answer, err)
	}
}
