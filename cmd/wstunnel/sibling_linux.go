package main

import (
	"os"
	"os/exec"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// startSibling starts a process that is to outlive this one. Below systemd it is a child of systemd's, as this one is: of a main process that is not, systemd
// would not notice the end.
func startSibling(cmd *exec.Cmd) (*child, error) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return startChild(cmd)
	}
	pidfd := -1
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_PARENT, PidFD: &pidfd}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := func() {
		for {
			state := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
			if _, err := unix.Poll(state, -1); err != unix.EINTR {
				return
			}
		}
	}
	if pidfd < 0 { // an old kernel
		ended = func() {}
	}
	return &child{
		stop: func() { cmd.Process.Signal(unix.SIGTERM) },
		kill: sync.OnceFunc(func() {
			cmd.Process.Kill()
			ended()
		}),
		exit: func() string {
			ended()
			return "ended"
		},
	}, nil
}
