package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"wstunnel/internal/admin"
)

// lookout shows the tunnels with their rates, again and again.
type lookout struct {
	on    bool
	every time.Duration
	by    string

	last map[string]sighting // by the ids of tunnels
}

// sighting is what had gone through a tunnel when it was seen last.
type sighting struct {
	toBackend, toClient admin.Traffic
	at                  time.Time
}

// orders are what tunnels are sorted by, and the keys that choose it.
var orders = map[byte]string{'r': "rate", 'a': "age", 'i': "idle"}

const shortestRefresh = 100 * time.Millisecond

func (l *lookout) flags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&l.on, "watch", false, "show them until q or Ctrl-C, with their rates")
	cmd.Flags().DurationVar(&l.every, "every", 2*time.Second, "with --watch: the time between two refreshes")
	cmd.Flags().StringVar(&l.by, "sort", "rate", "with --watch: by rate, age or idle")
}

func (l *lookout) check(asJSON bool) error {
	switch {
	case l.on && asJSON:
		return errors.New("either --watch or --json")
	case l.every < shortestRefresh:
		return fmt.Errorf("--every: %v is less than %v", l.every, shortestRefresh)
	case l.by != "rate" && l.by != "age" && l.by != "idle":
		return fmt.Errorf("--sort: %q is none of rate, age and idle", l.by)
	}
	return nil
}

// run shows the tunnels until ctx is done, a key or a signal ends it, or the server does not answer.
func (l *lookout) run(ctx context.Context, client *admin.Client, f admin.Filter, stdout io.Writer) error {
	ctx, cancel := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer cancel()
	screen, err := openScreen(stdout)
	if err != nil {
		return err
	}
	defer screen.close()
	keys := screen.keys()
	refresh := time.NewTicker(l.every)
	defer refresh.Stop()
	for {
		rows, err := l.look(ctx, client, f)
		if err == nil {
			err = screen.show(l.table(rows, screen.width()))
		}
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-refresh.C:
		case key := <-keys:
			if key == 'q' || key == 'Q' || key == ctrlC {
				return nil
			}
			if by, ok := orders[key]; ok {
				l.by = by
			}
		}
	}
}

const ctrlC = 3

// row is a tunnel with its rates: messages, and bytes, in a second.
type row struct {
	admin.Tunnel
	in, out, bytes float64
}

// look asks for the tunnels, and finds out their rates since the last time.
func (l *lookout) look(ctx context.Context, client *admin.Client, f admin.Filter) (rows []row, err error) {
	seen := make(map[string]sighting, len(l.last))
	err = eachTunnel(ctx, client, f, func(t *admin.Tunnel) error {
		r, now := row{Tunnel: *t}, sighting{t.ToBackend, t.ToClient, time.Now()}
		before, known := l.last[t.ID]
		if !known { // what has gone through it by now has done so since it was opened
			before.at = t.Since
		}
		if seconds := now.at.Sub(before.at).Seconds(); seconds > 0 && (known || l.last != nil) {
			r.in = float64(t.ToBackend.Messages-before.toBackend.Messages) / seconds
			r.out = float64(t.ToClient.Messages-before.toClient.Messages) / seconds
			r.bytes = float64(t.ToBackend.Bytes+t.ToClient.Bytes-before.toBackend.Bytes-before.toClient.Bytes) / seconds
		}
		seen[t.ID] = now
		rows = append(rows, r)
		return nil
	})
	l.last = seen
	return rows, err
}

// sorted puts rows in their order.
func (l *lookout) sorted(rows []row) {
	slices.SortStableFunc(rows, func(a, b row) int {
		switch l.by {
		case "rate":
			return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.IdleMS, b.IdleMS))
		case "idle":
			return cmp.Compare(b.IdleMS, a.IdleMS)
		}
		return a.Since.Compare(b.Since)
	})
}

// table is what is shown, line by line, none longer than width; zero is any.
func (l *lookout) table(rows []row, width int) []string {
	l.sorted(rows)
	var in, out, size float64
	cells := [][]string{{"ID", "IN/s", "OUT/s", "BYTES/s", "IDLE", "OPEN", "USER", "SITE", "PATH", "CLIENT", "GROUPS"}}
	for i := range rows {
		r := &rows[i]
		in, out, size = in+r.in, out+r.out, size+r.bytes
		cells = append(cells, []string{
			r.ID, rateText(r.in), rateText(r.out), amountText(r.bytes), shortTime(time.Duration(r.IdleMS) * time.Millisecond), shortTime(time.Since(r.Since)),
			dashed(r.User), r.Site, shown(r.Path), r.Client, dashed(strings.Join(r.Groups, ",")),
		})
	}
	lines := []string{fmt.Sprintf("%s  tunnels: %d  in: %s/s  out: %s/s  %sB/s  by %s",
		time.Now().Format(time.TimeOnly), len(rows), rateText(in), rateText(out), amountText(size), l.by)}
	lines = append(lines, aligned(cells, map[int]bool{1: true, 2: true, 3: true, 4: true, 5: true})...)
	if width > 0 {
		for i := range lines {
			lines[i] = cut(lines[i], width)
		}
	}
	return lines
}

// aligned makes lines of cells; the columns of numbers end below one another.
func aligned(cells [][]string, numbers map[int]bool) []string {
	widths := make([]int, len(cells[0]))
	for _, row := range cells {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	lines := make([]string, len(cells))
	for n, row := range cells {
		var b strings.Builder
		for i, cell := range row {
			gap := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if numbers[i] {
				b.WriteString(gap + cell + "  ")
			} else {
				b.WriteString(cell + gap + "  ")
			}
		}
		lines[n] = strings.TrimRight(b.String(), " ")
	}
	return lines
}

// cut makes a line fit.
func cut(line string, width int) string {
	if utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width])
}

// rateText is how often something happens in a second.
func rateText(n float64) string {
	switch {
	case n == 0:
		return "0"
	case n < 99.95:
		return strconv.FormatFloat(n, 'f', 1, 64)
	}
	return amountText(n)
}

// amountText is a number with its thousands as k, M, G.
func amountText(n float64) string {
	unit := ""
	for _, next := range []string{"k", "M", "G", "T"} {
		if n < 999.5 {
			break
		}
		n, unit = n/1000, next
	}
	if unit == "" || n >= 99.5 {
		return strconv.FormatFloat(n, 'f', 0, 64) + unit
	}
	return strconv.FormatFloat(n, 'f', 1, 64) + unit
}

// shortTime is a time in its two largest units.
func shortTime(d time.Duration) string {
	day := 24 * time.Hour
	switch d = max(0, d); {
	case d < time.Minute:
		return strconv.FormatFloat(d.Truncate(100*time.Millisecond).Seconds(), 'f', 1, 64) + "s"
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%02dh", d/day, d%day/time.Hour)
}

// screen is where the table is shown: a terminal, which it has to itself, or whatever else takes lines.
type screen struct {
	out      io.Writer
	terminal *os.File    // nil where it is none
	before   *term.State // of the keyboard; nil where there is none
}

// Escape sequences of a terminal (ECMA-48, and xterm's for the other screen).
const (
	otherScreen = "\x1b[?1049h\x1b[?25l"
	firstScreen = "\x1b[?25h\x1b[?1049l"
	toTheTop    = "\x1b[H"
	endOfLine   = "\x1b[K\r\n"
	endOfScreen = "\x1b[J"
)

func openScreen(out io.Writer) (*screen, error) {
	s := &screen{out: out}
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return s, nil
	}
	s.terminal = file
	if keyboard := int(os.Stdin.Fd()); term.IsTerminal(keyboard) {
		before, err := term.MakeRaw(keyboard)
		if err != nil {
			return nil, fmt.Errorf("reading keys: %w", err)
		}
		s.before = before
	}
	io.WriteString(out, otherScreen)
	return s, nil
}

// close leaves the terminal as it was.
func (s *screen) close() {
	if s.terminal == nil {
		return
	}
	io.WriteString(s.out, firstScreen)
	if s.before != nil {
		term.Restore(int(os.Stdin.Fd()), s.before)
	}
}

// keys are those that are pressed.
func (s *screen) keys() <-chan byte {
	keys := make(chan byte)
	if s.before == nil {
		return keys
	}
	go func() {
		for one := make([]byte, 1); ; {
			if n, err := os.Stdin.Read(one); n == 0 || err != nil {
				return
			}
			keys <- one[0]
		}
	}()
	return keys
}

// width is how long a line may be; zero for any length.
func (s *screen) width() int {
	if s.terminal == nil {
		return 0
	}
	width, _, _ := term.GetSize(int(s.terminal.Fd()))
	return width
}

// show shows lines in the place of those before: as many as the terminal has room for.
func (s *screen) show(lines []string) error {
	var b bytes.Buffer
	if s.terminal == nil {
		b.WriteString(strings.Join(lines, "\n") + "\n\n")
	} else {
		if _, height, err := term.GetSize(int(s.terminal.Fd())); err == nil && height > 1 && len(lines) > height-1 {
			lines = lines[:height-1]
		}
		b.WriteString(toTheTop + strings.Join(lines, endOfLine) + endOfLine + endOfScreen)
	}
	_, err := s.out.Write(b.Bytes())
	return err
}
