package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"wstunnel/internal/handover"
	"wstunnel/proxy"
)

// handoverVariable tells a process which descriptor is its end of the link to the one that it takes over from.
const handoverVariable = "WSTUNNEL_HANDOVER"

// program is the binary that runs, and how it was started.
type program struct {
	path string
	info os.FileInfo // at the start; nil where the file is gone
	args []string
}

// ownProgram says how this process was started. The path is that of the command line, which may be a link that is to lead elsewhere later.
func ownProgram() program {
	p := program{args: os.Args[1:]}
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		path, _ = os.Executable()
	}
	p.path = path
	p.info, _ = os.Stat(path)
	return p
}

// unchanged reports whether the binary at the path is the one that runs.
func (p *program) unchanged() bool {
	now, err := os.Stat(p.path)
	return err == nil && p.info != nil && os.SameFile(now, p.info) && now.Size() == p.info.Size() && now.ModTime().Equal(p.info.ModTime())
}

// successor is a process that is to take over.
type successor struct {
	*handover.Giver
	*child
	pid int
}

// startSuccessor starts the binary with the arguments that this process was started with, linked to this one.
func (p *program) startSuccessor(server *proxy.Server) (*successor, error) {
	if os.Getpid() == 1 {
		return nil, errors.New("this process is the first of its container, which ends with it: start a new container instead")
	}
	ours, theirs, err := handover.Pair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command(p.path, p.args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.ExtraFiles = []*os.File{theirs} // as descriptor 3
	cmd.Env = append(slices.DeleteFunc(os.Environ(), isOwnVariable), handoverVariable+"=3")
	child, err := startSibling(cmd)
	if err != nil {
		ours.Close()
		return nil, fmt.Errorf("starting %s: %w", p.path, err)
	}
	giver, err := server.Give(ours, child.kill)
	if err != nil {
		child.kill()
		return nil, err
	}
	return &successor{giver, child, cmd.Process.Pid}, nil
}

// isOwnVariable reports variables of the environment that are meant for one process alone.
func isOwnVariable(assignment string) bool {
	name, _, _ := strings.Cut(assignment, "=")
	return slices.Contains([]string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "WATCHDOG_PID", "MAINPID", handoverVariable}, name)
}

// child is a process that was started.
type child struct {
	stop func()        // asks it to end
	kill func()        // ends it, and waits until it is dead
	exit func() string // how it ended
}
