//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const userHZ = 100 // clock ticks per second in /proc, on every Linux

// stat is what /proc/PID/stat says of a process.
type stat struct {
	pid, parent int
	reaped      time.Duration // CPU time of children that have ended
}

// tree returns a process and all its descendants.
func tree(root int) ([]stat, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]stat{}
	var found []stat
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // ended meanwhile
		}
		s, err := parseStat(string(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		children[s.parent] = append(children[s.parent], s)
		if s.pid == root {
			found = append(found, s)
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("process %d has ended", root)
	}
	for i := 0; i < len(found); i++ {
		found = append(found, children[found[i].pid]...)
	}
	return found, nil
}

// parseStat reads the fields that follow the command's name, which may itself hold spaces and parentheses.
func parseStat(text string) (stat, error) {
	pid, _, _ := strings.Cut(text, " ")
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 15 {
		return stat{}, fmt.Errorf("%d fields after the name, want 15", len(fields))
	}
	var numbers [4]int
	for i, field := range []string{pid, fields[1], fields[13], fields[14]} {
		var err error
		if numbers[i], err = strconv.Atoi(field); err != nil {
			return stat{}, err
		}
	}
	ticks := time.Duration(numbers[2] + numbers[3])
	return stat{pid: numbers[0], parent: numbers[1], reaped: ticks * time.Second / userHZ}, nil
}

// cpuTime is the CPU time that a process, its threads and its descendants have taken so far.
func cpuTime(root int) (time.Duration, error) {
	processes, err := tree(root)
	if err != nil {
		return 0, err
	}
	var sum time.Duration
	for _, p := range processes {
		// The CPU clock of another process (clock_getcpuclockid): nanoseconds, ended threads included.
		const clockSched = 2
		var t unix.Timespec
		if err := unix.ClockGettime(int32(^p.pid<<3|clockSched), &t); err != nil {
			return 0, fmt.Errorf("cpu clock of process %d: %w", p.pid, err)
		}
		sum += time.Duration(t.Nano()) + p.reaped
	}
	return sum, nil
}

// memory is the proportional set size of a process and its descendants, in bytes.
func memory(root int) (int, error) {
	processes, err := tree(root)
	if err != nil {
		return 0, err
	}
	sum := 0
	for _, p := range processes {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.pid))
		if err != nil {
			return 0, err
		}
		kb, err := parsePSS(text)
		if err != nil {
			return 0, fmt.Errorf("smaps_rollup of process %d: %w", p.pid, err)
		}
		sum += kb * 1024
	}
	return sum, nil
}

func parsePSS(rollup []byte) (kb int, err error) {
	_, rest, found := bytes.Cut(rollup, []byte("\nPss:"))
	if !found {
		return 0, fmt.Errorf("no Pss in %q", rollup)
	}
	_, err = fmt.Sscanf(string(rest), "%d kB", &kb)
	return kb, err
}

// raiseFileLimit lets this process and the ones it starts have as many open files as the system allows.
func raiseFileLimit() (uint64, error) {
	const wanted = 1 << 16
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	raised := unix.Rlimit{Cur: max(limit.Max, wanted), Max: max(limit.Max, wanted)}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &raised) == nil {
		return raised.Cur, nil
	}
	limit.Cur = limit.Max
	return limit.Cur, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
}
