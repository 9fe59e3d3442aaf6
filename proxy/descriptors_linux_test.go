package proxy_test

import (
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

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
	f := start(t, oneSite(httpTo(startEcho(t).address)))
	c := f.dial()
	c.send(get)
	c.expect(200) // so that the backend waits for a connection by now
	begin := time.Now()
	scarce(t, 1, func() {
		c = f.dial()
		time.Sleep(1100 * time.Millisecond) // long enough for eight attempts
	})
	c.send(get)
	c.expect(200)
	most := 1 + int(time.Since(begin)/time.Second)
	if got := strings.Count(f.log.String(), "accepting failed"); got < 1 || got > most {
		t.Errorf("%d lines in the log, want 1 to %d", got, most)
	}
}
