//go:build linux

package main_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"golang.org/x/sys/unix"
)

// manager is what a service sees of systemd: a socket that takes its messages, a store of descriptors, and systemctl.
type manager struct {
	t      *testing.T
	socket string
	tools  string // a directory with systemctl

	mu       sync.Mutex
	messages []string // "PID: line"
	store    []kept
}

// kept is a descriptor in the store.
type kept struct {
	name string
	file *os.File
}

// startManager takes messages until the test ends. Of the unit's jobs systemctl tells the given type.
func startManager(t *testing.T, job string) *manager {
	t.Helper()
	dir, err := os.MkdirTemp("", "wst")
	if err != nil {
		t.Fatal(err)
	}
	m := &manager{t: t, socket: filepath.Join(dir, "notify"), tools: dir}
	script := "#!/bin/sh\ncase $1 in\nshow) echo 100 ;;\nlist-jobs) echo '7 other.service stop waiting'; echo '8 wstunnel.service " + job + " running' ;;\nesac\n"
	if err := os.WriteFile(filepath.Join(dir, "systemctl"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: m.socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
	done := make(chan struct{})
	go func() {
		defer close(done)
		m.take(conn)
	}()
	t.Cleanup(func() {
		conn.Close()
		<-done
		for _, k := range m.store {
			k.file.Close()
		}
		os.RemoveAll(dir)
	})
	return m
}

func (m *manager) take(conn *net.UnixConn) {
	text, oob := make([]byte, 4096), make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(253*4))
	for {
		n, oobn, _, _, err := conn.ReadMsgUnix(text, oob)
		if err != nil {
			return
		}
		var fds []int
		pid := int32(0)
		messages, _ := unix.ParseSocketControlMessage(oob[:oobn])
		for i := range messages {
			if cred, err := unix.ParseUnixCredentials(&messages[i]); err == nil {
				pid = cred.Pid
			} else if more, err := unix.ParseUnixRights(&messages[i]); err == nil {
				fds = append(fds, more...)
			}
		}
		m.heed(pid, string(text[:n]), fds)
	}
}

// heed does what systemd does with a message.
func (m *manager) heed(pid int32, text string, fds []int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, line := range lines {
		m.messages = append(m.messages, fmt.Sprintf("%d: %s", pid, line))
	}
	name := ""
	for _, line := range lines {
		if value, ok := strings.CutPrefix(line, "FDNAME="); ok {
			name = value
		}
	}
	switch {
	case slices.Contains(lines, "FDSTOREREMOVE=1"):
		m.store = slices.DeleteFunc(m.store, func(k kept) bool {
			if k.name == name {
				k.file.Close()
			}
			return k.name == name
		})
	case slices.Contains(lines, "FDSTORE=1"):
		for _, fd := range fds {
			m.store = append(m.store, kept{name, os.NewFile(uintptr(fd), name)})
		}
		fds = nil
	}
	for _, fd := range fds { // of a barrier
		unix.Close(fd)
	}
}

// says reports whether a process has sent a line.
func (m *manager) says(pid int, line string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Contains(m.messages, fmt.Sprintf("%d: %s", pid, line))
}

func (m *manager) stored() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.store)
}

// env is what the service has in its environment.
func (m *manager) env() []string {
	return []string{"NOTIFY_SOCKET=" + m.socket, "WSTUNNEL_UNIT=wstunnel.service", "PATH=" + m.tools + ":" + os.Getenv("PATH")}
}

// TestUpgradeBelowSystemd: the old main process names the new one, which is a child of systemd's too, and both feed the watchdog in their time.
func TestUpgradeBelowSystemd(t *testing.T) {
	m := startManager(t, "reload")
	u := startUpgradableFrom(t, settings(`{path: /ws, websocket: "ws://`+startSocketPHP(t, "").address+`"}`), append(m.env(), "WATCHDOG_USEC=200000")...)
	first := u.pids[0]
	eventually(t, "the first is ready", func() bool { return m.says(first, "READY=1") && m.says(first, "WATCHDOG=1") })
	live := u.dialSocket(t, "ws", "/ws")
	u.upgrade(t)
	second := u.pids[1]
	go syscall.Wait4(second, nil, 0, nil) // as systemd does
	eventually(t, "MAINPID is told", func() bool { return m.says(first, "MAINPID="+strconv.Itoa(second)) })
	eventually(t, "the second is ready", func() bool { return m.says(second, "READY=1") && m.says(second, "WATCHDOG=1") })
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", second))
	if err != nil || !strings.Contains(string(status), fmt.Sprintf("\nPPid:\t%d\n", os.Getpid())) {
		t.Errorf("the second is a child of another process: %v\n%s", err, status)
	}
	live.echo("after")
	u.stopLast(t)
	eventually(t, "the main process has said that it stops", func() bool { return m.says(second, "STOPPING=1") })
	if m.says(first, "STOPPING=1") {
		t.Error("not the main process alone said that it stops")
	}
}

// TestRestartKeepsPlainTunnels in systemd's descriptor store. At a stop they have their Close frames.
func TestRestartKeepsPlainTunnels(t *testing.T) {
	for _, job := range []string{"restart", "stop"} {
		t.Run(job, func(t *testing.T) {
			m := startManager(t, job)
			php := startSocketPHP(t, "")
			u := startUpgradableFrom(t, settings(`{path: /ws, websocket: "ws://`+php.address+`"}`), m.env()...)
			plain, secure := u.dialSocket(t, "ws", "/ws"), u.dialSocket(t, "wss", "/ws")
			plain.echo("before")
			told := secure.awaitEnds()
			if job == "stop" {
				told = append(told, plain.awaitEnds()...)
			}
			u.stopLast(t)
			for _, end := range told {
				if err := <-end; !websocket.IsCloseError(err, goingAway) {
					t.Errorf("a tunnel ended with %v", err)
				}
			}
			if job == "stop" {
				if n := m.stored(); n != 0 {
					t.Errorf("%d descriptors are stored", n)
				}
				return
			}
			if n := m.stored(); n != 3 {
				t.Fatalf("%d descriptors are stored, want 3", n)
			}
			if err := plain.WriteMessage(websocket.TextMessage, []byte("while nobody runs")); err != nil {
				t.Fatal(err)
			}
			again := u.startAgain(t, m)
			again.http = again.awaitLog(t, 0, "listening").text("address")
			plain.says(t, "while nobody runs")
			plain.echo("after")
			plain.echo(strings.Repeat("long", 100_000))
			eventually(t, "the store is empty", func() bool { return m.stored() == 0 })
			fresh := again.dialSocket(t, "ws", "/ws")
			fresh.echo("fresh")
			if s := u.status(t); s.Tunnels != 2 || s.PID != again.cmd.Process.Pid {
				t.Errorf("the status is %+v", s)
			}
			again.signal(t, syscall.SIGKILL)
		})
	}
}

// awaitEnds reads until the end.
func (s socket) awaitEnds() []chan error {
	end := make(chan error, 1)
	s.SetReadDeadline(time.Now().Add(patience))
	go func() {
		_, _, err := s.ReadMessage()
		end <- err
	}()
	return []chan error{end}
}

// startAgain starts the service with what is in the store.
func (u *upgradable) startAgain(t *testing.T, m *manager) *front {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock() // nothing of the store is closed before the process has it
	var names []string
	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" run "$1"`, u.binary, u.config)
	for _, k := range m.store {
		names = append(names, k.name)
		cmd.ExtraFiles = append(cmd.ExtraFiles, k.file)
	}
	cmd.Env = append(append(os.Environ(), m.env()...), fmt.Sprintf("LISTEN_FDS=%d", len(names)), "LISTEN_FDNAMES="+strings.Join(names, ":"))
	return &front{config: u.config, program: start(t, cmd)}
}
