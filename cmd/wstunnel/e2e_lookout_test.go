//go:build linux

package main_test

import (
	"bufio"
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// openTerminal returns both ends of a terminal of a size.
func openTerminal(t *testing.T, columns, rows uint16) (screen, terminal *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { screen.Close() })
	unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0)
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetWinsize(int(screen.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: rows})
	}
	if err != nil {
		t.Fatal(err)
	}
	if terminal, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { terminal.Close() })
	return screen, terminal
}

// shownOn is what a program has written to a terminal by now.
type shownOn struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *shownOn) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

func readScreen(screen *os.File) *shownOn {
	s := &shownOn{}
	go func() {
		for p := make([]byte, 4096); ; {
			n, err := screen.Read(p)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.text.Write(p[:n])
			s.mu.Unlock()
		}
	}()
	return s
}

// await waits until what is shown from a place on matches.
func (s *shownOn) await(t *testing.T, since int, pattern string) {
	t.Helper()
	wanted := regexp.MustCompile(pattern)
	for end := time.Now().Add(patience); !wanted.MatchString(s.String()[since:]); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %q in %q", pattern, s.String()[since:])
		}
	}
}

func TestTunnelsAreWatchedOnATerminal(t *testing.T) {
	yaml := withSocket(t, settings(`{path: /ws, websocket: "ws://`+startTagging(t)+`"}`))
	f := startFront(t, yaml)
	anna := f.dialSocket(t, "ws", "/ws?user=anna&groups=lobby&path="+strings.Repeat("long", 30))
	berta := f.dialSocket(t, "ws", "/ws?user=berta")
	controlOf(t, yaml).awaitTunnels(2)
	const columns, rows = 80, 24
	screen, terminal := openTerminal(t, columns, rows)
	before, _ := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	cmd := wstunnel(t, "tunnels", "--watch", "--every", "100ms", "--socket", socketOf(yaml))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	s := readScreen(screen)
	s.await(t, 0, `tunnels: 2 `)
	said := make(chan struct{})
	defer close(said)
	go func() {
		for tick := time.NewTicker(10 * time.Millisecond); ; <-tick.C {
			select {
			case <-said:
				tick.Stop()
				return
			default:
				berta.WriteMessage(1, []byte("hello"))
			}
		}
	}()
	s.await(t, 0, `(?s)ID .*IN/s.*\n\S+ +[1-9][0-9.]* +0 +[0-9.k]+ .* berta .*\n\S+ +0 +0 +0 .* anna `) // by rate, those with most first
	since := len(s.String())
	screen.WriteString("a")
	s.await(t, since, `(?s)by age.*\n\S+ +0 +0 +0 .* anna .*\n.* berta `)
	since = len(s.String())
	anna.Close()
	s.await(t, since, `tunnels: 1 `)
	screen.WriteString("q")
	if err := cmd.Wait(); err != nil {
		t.Errorf("q ends it with %v", err)
	}
	s.await(t, 0, `\x1b\[\?25h\x1b\[\?1049l$`)
	all := s.String()
	if !strings.HasPrefix(all, "\x1b[?1049h\x1b[?25l") || !strings.HasSuffix(all, "\x1b[?25h\x1b[?1049l") {
		t.Errorf("it begins with %.20q and ends with %q", all, all[len(all)-20:])
	}
	for line := range strings.SplitSeq(regexp.MustCompile(`\x1b\[[?0-9]*[a-zA-Z]`).ReplaceAllString(all, ""), "\r\n") {
		if utf8.RuneCountInString(line) > columns {
			t.Errorf("a line has more than %d columns: %q", columns, line)
		}
	}
	if after, _ := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS); *after != *before {
		t.Errorf("the terminal was %+v and is %+v", before, after)
	}
}

func TestTunnelsAreWatchedWithoutATerminal(t *testing.T) {
	yaml := withSocket(t, settings(`{path: /ws, websocket: "ws://`+startTagging(t)+`"}`))
	f := startFront(t, yaml)
	f.dialSocket(t, "ws", "/ws?user=anna")
	controlOf(t, yaml).awaitTunnels(1)
	cmd := wstunnel(t, "tunnels", "--watch", "--every", "100ms", "--sort", "age", "--socket", socketOf(yaml))
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for range 2 {
		for _, want := range []string{`^\d\d:\d\d:\d\d  tunnels: 1  in: 0/s  out: 0/s  0B/s  by age$`, `^ID +IN/s `, `^\S+ .* anna `, `^$`} {
			if !lines.Scan() || !regexp.MustCompile(want).MatchString(lines.Text()) {
				t.Errorf("a line is %q; want %s", lines.Text(), want)
			}
		}
	}
	cmd.Process.Signal(os.Interrupt)
	for lines.Scan() {
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("an interrupt ends it with %v", err)
	}
	f.expectOrder(t, 2, []string{"--sort"}, "tunnels", "--watch", "--sort", "size")
	f.expectOrder(t, 2, []string{"--every"}, "tunnels", "--watch", "--every", "1ms")
	f.expectOrder(t, 2, []string{"--json"}, "tunnels", "--watch", "--json")
}
