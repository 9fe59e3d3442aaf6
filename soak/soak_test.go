//go:build linux

package main

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestMain makes the test binary a backend where it is started as one.
func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		if err := run(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// TestNothingIsLostWhileAllElseChanges is the soak in short form.
func TestNothingIsLostWhileAllElseChanges(t *testing.T) {
	o := options{
		peer: "wstunnel", wstunnel: buildWstunnel(t), duration: 20 * time.Second, tunnels: 90, requests: 3, every: 100 * time.Millisecond, upgrades: 2, verbose: true,
	}
	r, err := soak(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	r.print(&text)
	if err := r.verdict(o); err != nil {
		t.Errorf("%v\n%s", err, &text)
	}
	if r.left != o.tunnels {
		t.Errorf("%d tunnels are left, want %d\n%s", r.left, o.tunnels, &text)
	}
}

// TestTwoHundredReloadsDisturbNobody: not one of 2,000 tunnels, no request, and the memory stays what it was.
func TestTwoHundredReloadsDisturbNobody(t *testing.T) {
	const reloads = 200
	o := options{peer: "wstunnel", wstunnel: buildWstunnel(t), tunnels: 2000, requests: 3, every: 2 * time.Second, verbose: true}
	run, err := startRun(o)
	if err != nil {
		t.Fatal(err)
	}
	defer run.end()
	run.begin(t.Context(), o)
	if !run.awaitOpen(t.Context(), o) {
		t.Fatalf("%d tunnels are open, want %d", run.tunnels.open.Load(), o.tunnels)
	}
	tally := run.tally
	tally.mu.Lock()
	for _, troubles := range []map[string]int{tally.refused, tally.failed} {
		// Who waited too long for a TLS handshake, since all came at once, has come again. Answers count.
		maps.DeleteFunc(troubles, func(text string, _ int) bool {
			return !strings.Contains(text, "answered")
		})
	}
	tally.mu.Unlock()
	reload := func() {
		t.Helper()
		if err := run.configure(); err != nil {
			t.Fatal(err)
		}
		if err := run.front.program.reload(run.front); err != nil {
			t.Fatal(err)
		}
	}
	for range reloads / 4 { // to what the memory is compared with
		reload()
	}
	before := run.front.usage()
	for range reloads * 3 / 4 {
		reload()
	}
	after := run.front.usage()
	if open := run.tunnels.open.Load(); open != int64(o.tunnels) || tally.opened.Load() != int64(o.tunnels) {
		t.Errorf("%d tunnels are open of %d that were opened, want %d", open, tally.opened.Load(), o.tunnels)
	}
	tally.mu.Lock()
	defer tally.mu.Unlock()
	if n := total(tally.cut) + total(tally.died) + total(tally.faults) + total(tally.failed) + total(tally.refused) + total(tally.trouble); n > 0 {
		t.Errorf("%v %v %v %v %v %v", tally.cut, tally.died, tally.faults, tally.failed, tally.refused, tally.trouble)
	}
	if tally.messages.Load() == 0 || tally.answered.Load() == 0 {
		t.Error("nothing was said meanwhile")
	}
	const most = 24 << 10
	if after.memory > before.memory+most || after.processes != 1 {
		t.Errorf("%d processes hold %d KiB, and held %d", after.processes, after.memory, before.memory)
	}
}

// buildWstunnel builds the binary as it is shipped.
func buildWstunnel(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "wstunnel")
	build := exec.Command("go", "build", "-o", binary, "wstunnel/cmd/wstunnel")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

func TestMessagesAreChecked(t *testing.T) {
	message := appendMessage(nil, 7)
	if err := check(message, 7); err != nil {
		t.Error(err)
	}
	if check(message, 8) == nil || check(message[:3], 7) == nil {
		t.Error("another message was taken for it")
	}
	for i := range message {
		damaged := append([]byte(nil), message...)
		damaged[i] ^= 0x10
		if check(damaged, 7) == nil {
			t.Errorf("damage at %d is not seen", i)
		}
	}
}
