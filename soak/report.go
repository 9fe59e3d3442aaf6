//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"
)

// tally counts what happens.
type tally struct {
	opened, messages, answered atomic.Int64
	abrupt                     atomic.Int64 // tunnels that ended without a Close frame
	verbose                    bool

	mu      sync.Mutex
	cut     map[string]int // ends of tunnels whose backend lived, by how they ended
	died    map[string]int // and of those whose backend died
	faults  map[string]int // messages that were not what they should be
	refused map[string]int // upgrades
	failed  map[string]int // requests for pages
	trouble map[string]int // with the run itself
}

func newTally(verbose bool) *tally {
	t := &tally{verbose: verbose}
	for _, m := range []*map[string]int{&t.cut, &t.died, &t.faults, &t.refused, &t.failed, &t.trouble} {
		*m = map[string]int{}
	}
	return t
}

// note counts a trouble in one of the tally's maps by its text, of which ports and the like are left out.
func (t *tally) note(where map[string]int, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if t.verbose {
		fmt.Fprintln(os.Stderr, time.Now().Format(time.TimeOnly), text)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	where[varying.ReplaceAllString(text, "$1$2")]++
}

// varying is what differs from one connection to the next.
var varying = regexp.MustCompile(`(127\.0\.0\.1):\d+|(stream ID) \d+`)

// ended counts the end of a tunnel that its client did not want.
func (t *tally) ended(k kind, mortal bool, e ending) {
	how := fmt.Sprintf("no Close frame: %v", e.err)
	switch {
	case e.closed:
		how = fmt.Sprintf("Close %d %q", e.code, e.reason)
	case e.fault == nil:
		t.abrupt.Add(1)
	}
	switch {
	case e.fault != nil:
		t.note(t.faults, "%s: %v", k, e.fault)
	case mortal:
		t.note(t.died, "%s: %s", k, how)
	default:
		t.note(t.cut, "%s: %s", k, how)
	}
}

// report is what came of a run.
type report struct {
	*tally
	peer                     string
	duration                 time.Duration
	tunnels, left            int // live ones before and after
	reloads, upgrades, kills atomic.Int64
	before, most, after      usage
}

func (r *report) print(w io.Writer) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, values ...any) {
		fmt.Fprintf(table, "%s\t%s\n", name, strings.TrimSpace(fmt.Sprintln(values...)))
	}
	row("front", r.peer)
	row("time", r.duration)
	row("live tunnels", r.tunnels, "before,", r.left, "after")
	row("tunnels opened", r.opened.Load())
	row("messages there and back", r.messages.Load())
	row("lost, repeated, reordered or damaged", total(r.faults))
	row("tunnels cut though their backend lived", total(r.cut))
	row("tunnels ended with their backend", total(r.died))
	row("tunnels ended without a Close frame", r.abrupt.Load())
	row("upgrades refused", total(r.refused))
	row("pages answered", r.answered.Load())
	row("pages failed", total(r.failed))
	row("backends killed", r.kills.Load())
	row("reloads", r.reloads.Load())
	row("binaries upgraded", r.upgrades.Load())
	row("processes", r.before.processes, "before,", r.most.processes, "at most,", r.after.processes, "after")
	row("memory (anonymous, MiB)", r.before.memory>>10, "before,", r.most.memory>>10, "at most,", r.after.memory>>10, "after")
	row("descriptors", r.before.descriptors, "before,", r.most.descriptors, "at most,", r.after.descriptors, "after")
	table.Flush()
	for _, part := range []struct {
		name   string
		counts map[string]int
	}{
		{"messages", r.faults}, {"cut", r.cut}, {"ended with their backend", r.died}, {"refused", r.refused}, {"failed", r.failed}, {"trouble", r.trouble},
	} {
		for _, text := range slices.Sorted(maps.Keys(part.counts)) {
			fmt.Fprintf(w, "%s: %d x %s\n", part.name, part.counts[text], text)
		}
	}
}

func total(counts map[string]int) (n int) {
	for _, count := range counts {
		n += count
	}
	return n
}

// What each of the front's processes may hold at the end beyond what the first one held at the beginning: memory in KiB, and descriptors, which beside
// a quarter of those of the tunnels are connections kept to backends, and files.
const (
	mostGrowth = 32 << 10
	mostLeft   = 32
)

// verdict says what must not be, of wstunnel.
func (r *report) verdict(o options) error {
	if o.peer != "wstunnel" {
		return nil
	}
	var wrong []error
	refuse := func(when bool, text string) {
		if when {
			wrong = append(wrong, errors.New(text))
		}
	}
	refuse(total(r.faults) > 0, "messages were lost, repeated, reordered or damaged")
	refuse(total(r.cut) > 0, "tunnels were cut though their backend lived")
	refuse(total(r.failed) > 0, "requests failed that could be repeated")
	refuse(total(r.trouble) > 0, "the run had trouble")
	refuse(r.after.memory > r.after.processes*(r.before.memory+mostGrowth), "memory has grown")
	refuse(r.after.descriptors > r.before.descriptors*5/4+mostLeft*r.after.processes, "descriptors are left open")
	refuse(r.upgrades.Load() < int64(o.upgrades), "not all upgrades took place")
	refuse(r.kills.Load() == 0 || r.reloads.Load() == 0 || r.messages.Load() == 0, "nothing was put to the test")
	return errors.Join(wrong...)
}
