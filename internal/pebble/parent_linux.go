package pebble

import (
	"os/exec"
	"syscall"
)

// endWithParent ends a program with the test, should that be killed.
func endWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
