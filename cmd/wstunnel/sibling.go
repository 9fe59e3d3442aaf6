package main

import (
	"os/exec"
	"sync"
	"syscall"
)

// startChild starts a process whose end this one is told.
func startChild(cmd *exec.Cmd) (*child, error) {
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cmd.Wait()
	}()
	return &child{
		stop: func() { cmd.Process.Signal(syscall.SIGTERM) },
		kill: sync.OnceFunc(func() {
			cmd.Process.Kill()
			<-ended
		}),
		exit: func() string {
			<-ended
			return cmd.ProcessState.String()
		},
	}, nil
}
