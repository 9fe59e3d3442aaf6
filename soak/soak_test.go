//go:build linux

package main

import (
	"fmt"
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
	binary := filepath.Join(t.TempDir(), "wstunnel")
	build := exec.Command("go", "build", "-o", binary, "wstunnel/cmd/wstunnel")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	o := options{
		peer: "wstunnel", wstunnel: binary, duration: 20 * time.Second, tunnels: 90, requests: 3, every: 100 * time.Millisecond, upgrades: 0, verbose: true,
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
