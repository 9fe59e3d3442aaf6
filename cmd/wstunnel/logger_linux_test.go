package main

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestStalledTerminalStallsNobody: Ctrl-S stops its output.
func TestStalledTerminalStallsNobody(t *testing.T) {
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	defer screen.Close()
	unlocked := 0
	unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, unlocked)
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()
	log, flush := newLog(terminal)
	begin := time.Now()
	for i := range 1000 {
		log.Logger().Info(strings.Repeat("x", 100), "line", i)
	}
	if took := time.Since(begin); took > time.Second {
		t.Errorf("took %s", took)
	}
	lines := bufio.NewScanner(screen)
	if !lines.Scan() || !strings.Contains(lines.Text(), "level=INFO") {
		t.Errorf("the screen shows %q", lines.Text())
	}
	go func() {
		for lines.Scan() {
		}
	}()
	flush()
}
