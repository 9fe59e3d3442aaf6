package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"wstunnel/internal/handover"
	"wstunnel/proxy"
)

// Below systemd plain tunnels outlive a restart of the service in its descriptor store, where FileDescriptorStoreMax= allows that. Whether a SIGTERM means a restart or
// a stop, systemd tells nobody, but its list of jobs does. At a stop, and where the list can't be had, clients get their Close frames.

// askTimeout bounds a question to systemd.
const askTimeout = 3 * time.Second

// inheritedDescriptors are what systemd has given this process.
type inheritedDescriptors struct {
	listeners []net.Listener
	stored    []*os.File // of tunnels, from the descriptor store
}

// takeInherited takes what systemd has given.
func takeInherited() (from inheritedDescriptors) {
	for _, file := range activation.Files(true) {
		if handover.IsStored(file.Name()) {
			from.stored = append(from.stored, file)
			continue
		}
		l, err := net.FileListener(file)
		if err != nil { // no stream socket
			file.Close()
			continue
		}
		from.listeners = append(from.listeners, l)
		file.Close()
	}
	return from
}

// restoreTunnels has the tunnels go on that an earlier process of the service has left in the descriptor store, which is empty then.
func (s *service) restoreTunnels(stored []*os.File) {
	if len(stored) == 0 {
		return
	}
	for _, file := range stored {
		s.notify("FDSTOREREMOVE=1\nFDNAME=" + file.Name())
	}
	tunnels, errs := handover.Restore(stored, restored{s.server})
	for _, err := range errs {
		s.log.Error("a stored tunnel is lost", "error", err)
	}
	s.log.Info("tunnels of the process before go on", "tunnels", tunnels)
}

// restored takes tunnels of a process that is gone.
type restored struct{ *proxy.Server }

// Main implements [handover.Host].
func (restored) Main() {}

// Left implements [handover.Host].
func (restored) Left(handover.Status) {}

// tunnelStore returns a store for tunnels, or nil where this is no restart or there is none.
func (s *service) tunnelStore() *handover.Store {
	if os.Getenv("NOTIFY_SOCKET") == "" || s.successor.Load() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTimeout)
	defer cancel()
	unit := ownUnit()
	room := storeRoom(ctx, unit)
	if room == 0 || !isRestart(ctx, unit) {
		return nil
	}
	return &handover.Store{
		Keep: func(name string, fd int) error {
			return notifyWith("FDSTORE=1\nFDPOLL=0\nFDNAME="+name, fd)
		},
		Drop: func(name string) { s.notify("FDSTOREREMOVE=1\nFDNAME=" + name) },
		Room: room,
	}
}

// ownUnit returns the name of the unit that this process belongs to, or nothing.
func ownUnit() string {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if name := path.Base(strings.TrimSpace(line)); strings.HasSuffix(name, ".service") {
			return name
		}
	}
	return os.Getenv("WSTUNNEL_UNIT")
}

// storeRoom returns how many descriptors the unit's store takes.
func storeRoom(ctx context.Context, unit string) int {
	out, err := exec.CommandContext(ctx, "systemctl", "show", "--value", "--property=FileDescriptorStoreMax", unit).Output()
	if unit == "" || err != nil {
		return 0
	}
	room, _ := strconv.Atoi(strings.TrimSpace(string(out)))
	return room
}

// isRestart reports whether systemd is about to start the unit again.
func isRestart(ctx context.Context, unit string) bool {
	out, err := exec.CommandContext(ctx, "systemctl", "list-jobs", "--no-legend", "--plain").Output()
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(out)) { // its number, the unit, what it is, how far it is
		if job := strings.Fields(line); len(job) >= 3 && job[1] == unit && job[2] == "restart" {
			return true
		}
	}
	return false
}

// notifyWith sends systemd a message with a descriptor. It waits while systemd has much to read.
func notifyWith(state string, fd int) error {
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err != nil {
		return fmt.Errorf("notifying systemd: %w", err)
	}
	defer unix.Close(socket)
	unix.CloseOnExec(socket)
	to := &unix.SockaddrUnix{Name: os.Getenv("NOTIFY_SOCKET")}
	if err := unix.Sendmsg(socket, []byte(state), unix.UnixRights(fd), to, 0); err != nil {
		return fmt.Errorf("notifying systemd: %w", err)
	}
	return nil
}

// notifyBarrier waits until systemd has dealt with all messages before: it closes what it is sent then.
func notifyBarrier() error {
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	defer r.Close()
	err = notifyWith("BARRIER=1", int(w.Fd()))
	w.Close()
	if err != nil {
		return err
	}
	r.SetReadDeadline(time.Now().Add(askTimeout))
	if _, err := r.Read(make([]byte, 1)); os.IsTimeout(err) {
		return fmt.Errorf("systemd does not answer: %w", err)
	}
	return nil
}
