//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// process is a child in a process group of its own, which ends with this one.
type process struct {
	pid   int
	ended chan struct{} // closed
	log   string        // file with what it printed
}

// startProcess starts the command with its standard error, and its output unless that is taken, in a log file.
func startProcess(cmd *exec.Cmd, log string) (*process, error) {
	file, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	cmd.Stderr = file
	if cmd.Stdout == nil {
		cmd.Stdout = file
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{pid: cmd.Process.Pid, ended: make(chan struct{}), log: log}
	go func() {
		// How it ends is seen by what it leaves undone.
		_ = cmd.Wait()
		close(p.ended)
	}()
	return p, nil
}

// stop asks the process to end, then ends its whole group.
func (p *process) stop() {
	const patience = 2 * time.Second
	_ = syscall.Kill(p.pid, syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(patience):
	}
	_ = syscall.Kill(-p.pid, syscall.SIGKILL)
	<-p.ended
}

// lastWords is the end of the process's log.
func (p *process) lastWords() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], " | ")
}

// role is a process of this program that answers each line it is sent with a line of JSON.
type role struct {
	*process
	in     *os.File
	out    *os.File
	answer *bufio.Reader
}

func startRole(log string, args ...string) (*role, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(self, args...)
	// Pipes of our own: those of exec.Cmd are closed when the process ends, even if something is left to read.
	inRead, inWrite, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer inRead.Close()
	outRead, outWrite, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, inWrite.Close())
	}
	defer outWrite.Close()
	cmd.Stdin, cmd.Stdout = inRead, outWrite
	p, err := startProcess(cmd, log)
	if err != nil {
		return nil, errors.Join(err, inWrite.Close(), outRead.Close())
	}
	return &role{process: p, in: inWrite, out: outRead, answer: bufio.NewReader(outRead)}, nil
}

// stop ends the role. What it held is closed when this returns.
func (r *role) stop() {
	r.in.Close()
	r.process.stop()
	r.out.Close()
}

// send writes a value as a line of JSON.
func (r *role) send(v any) error {
	return json.NewEncoder(r.in).Encode(v)
}

// receive reads the answer.
func (r *role) receive(ctx context.Context, v any) error {
	const patience = 90 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	type answer struct {
		line []byte
		err  error
	}
	answers := make(chan answer, 1)
	go func() {
		line, err := r.answer.ReadBytes('\n')
		answers <- answer{line, err}
	}()
	select {
	case a := <-answers:
		if a.err != nil {
			return fmt.Errorf("%w: %s", a.err, r.lastWords())
		}
		return json.Unmarshal(a.line, v)
	case <-ctx.Done():
		return ctx.Err()
	}
}
