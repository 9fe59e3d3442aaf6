package proxy_test

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// awaitQuiet waits until nobody closes descriptors any more, such as the loops of the test before.
func awaitQuiet(t *testing.T) {
	t.Helper()
	before, same := 0, 0
	await(t, "descriptors to rest", func() bool {
		runtime.GC()
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		if same++; len(open) != before {
			before, same = len(open), 0
		}
		return same >= 10
	})
}

// scarce lets the process have only so many descriptors more, while f runs.
func scarce(t *testing.T, more int, f func()) {
	t.Helper()
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	lowest, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(lowest)
	unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(lowest + more), Max: limit.Max})
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	f()
}

func TestWantOfDescriptorsMakesAFile503(t *testing.T) {
	f, _ := startStatic(t)
	c := f.dial()
	request := strings.Replace(get, "/ ", "/a.txt ", 1)
	c.send(request)
	c.expect(200)
	other := strings.Replace(get, "/ ", "/unknown ", 1) // which was not found a moment ago
	awaitQuiet(t)
	scarce(t, 0, func() {
		c.send(other)
		if a := c.expect(503); a.Header.Get("Retry-After") == "" {
			t.Errorf("the answer has %v", a.Header)
		}
	})
	c.send(other)
	c.expect(200)
}

func TestFailuresToAcceptAreLoggedOnceASecond(t *testing.T) {
	f := start(t, oneSite(`{path: /files, static: "`+t.TempDir()+`"}`))
	var c *client
	awaitQuiet(t)
	scarce(t, 1, func() {
		c = f.dial()
		for _, step := range []struct {
			skip  time.Duration
			lines int
		}{{0, 1}, {100 * time.Millisecond, 1}, {2 * time.Second, 2}, {2 * time.Second, 3}} {
			f.server.Skip(step.skip)
			if lines := strings.Count(f.log.String(), "accepting failed"); lines != step.lines {
				t.Errorf("%v later there are %d lines in the log, want %d", step.skip, lines, step.lines)
			}
		}
	})
	c.send(get)
	f.server.Skip(time.Second)
	c.expect(404)
}
