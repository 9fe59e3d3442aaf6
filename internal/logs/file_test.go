package logs

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestFileIsOpenedAgainAfterARotation(t *testing.T) {
	name := filepath.Join(t.TempDir(), "access.log")
	out, err := OpenFile(name, func(what string, err error, _ int) { t.Error(what, err) })
	if err != nil {
		t.Fatal(err)
	}
	put := func(text string) {
		out.Write([]byte(text))
		out.Flush()
	}
	put("one\n")
	os.Rename(name, name+".1")
	put("two\n") // it still goes where the file is
	out.Reopen()
	put("three\n")
	out.Retire()
	put("four\n") // from an exchange that ends late
	if old, now := read(t, name+".1"), read(t, name); old != "one\ntwo\n" || now != "three\nfour\n" {
		t.Errorf("%q, %q", old, now)
	}
	if out.w != nil {
		t.Error("the file of a retired output is open")
	}
	if info, _ := os.Stat(name); info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v", info.Mode())
	}
}

// TestFullDiskIsToldOfOnce a minute, and stalls nobody.
func TestFullDiskIsToldOfOnce(t *testing.T) {
	var mu sync.Mutex
	var told []error
	out, err := OpenFile("/dev/full", func(_ string, err error, _ int) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, err)
	})
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("no /dev/full on this system")
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		out.Write([]byte(strings.Repeat("x", 1000)))
		out.Flush()
	}
	out.Retire()
	out.Flush()
	mu.Lock()
	defer mu.Unlock()
	if len(told) != 1 || !errors.Is(told[0], syscall.ENOSPC) {
		t.Errorf("told %v", told)
	}
}

// TestNamedPipeWithoutAReaderIsNotWaitedFor: a configuration that names one would never be applied.
func TestNamedPipeWithoutAReaderIsNotWaitedFor(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	opened := make(chan error, 1)
	open := func() *Output {
		out, err := OpenFile(name, func(string, error, int) {})
		opened <- err
		return out
	}
	go open()
	select {
	case err := <-opened:
		if !errors.Is(err, syscall.ENXIO) {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Error("it is waited for")
		os.OpenFile(name, os.O_RDWR, 0)
	}
	reader, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	out := open()
	out.Write([]byte("one\n"))
	out.Flush()
	line := make([]byte, 4)
	if _, err := reader.Read(line); err != nil || string(line) != "one\n" {
		t.Errorf("%q, %v", line, err)
	}
	reader.Close()
	out.Write([]byte("two\n")) // nobody reads it, which ends nothing
	out.Flush()
}
