//go:build !portable

package reactor

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFilesAreFoundNowAsTheyAreWithTime: whatever a name leads to, a loop finds the same as a goroutine, or leaves it to that.
func TestFilesAreFoundNowAsTheyAreWithTime(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "root")
	for _, sub := range []string{dir, filepath.Join(dir, "sub"), dir + "2"} {
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"root/a", "root/sub/b", "outside", "root2/c"} {
		if err := os.WriteFile(filepath.Join(filepath.Dir(dir), name), []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	links := map[string]string{
		"link": "a", "sub/up": "../a", "current": "sub", "out": "../outside", "absolute": filepath.Join(dir, "a"), "hop": "sub/../../root2", "loop": "loop", "dangling": "none",
		"proc": "/proc/self/fd/0",
	}
	for name, to := range links {
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"a": "root/a", "sub/b": "root/sub/b", "link": "root/a", "sub/up": "root/a", "current/b": "root/sub/b", "sub": "dir", ".": "dir", "pipe": "neither",
		"out": "", "absolute": "", "hop/c": "", "loop": "", "dangling": "", "proc": "", "none": "", "a/b": "", "../outside": "", "/etc/passwd": "",
	} {
		file, info, err := OpenFile(dir, name)
		if got := contentOf(t, file, info, err); got != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		file, infoNow, err := OpenFileNow(dir, name)
		for tries := 0; want != "" && errors.Is(err, ErrWouldWait) && tries < 100; tries++ { // somebody else renames a directory at this moment
			file, infoNow, err = OpenFileNow(dir, name)
		}
		switch got := contentOf(t, file, infoNow, err); {
		case err != nil && want == "" && (errors.Is(err, ErrWouldWait) || errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)):
		case err != nil || got != want || !infoNow.Same(info):
			t.Errorf("%s now: %q, %v", name, got, err)
		}
	}
}

func contentOf(t *testing.T, file *File, info FileInfo, err error) string {
	t.Helper()
	switch {
	case err != nil:
		return ""
	case info.Dir:
		return "dir"
	case !info.Regular:
		return "neither"
	}
	defer file.Close()
	p := make([]byte, 100)
	n, err := file.ReadAt(p, 0)
	if int64(n) != info.Size || err != nil {
		t.Errorf("%d bytes of %d, %v", n, info.Size, err)
	}
	if _, err := file.ReadAt(p, info.Size); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	return string(p[:n])
}

// longFile is a file whose content is in the kernel's cache.
func longFile(t *testing.T, size int) (*File, []byte) {
	t.Helper()
	content := make([]byte, size)
	rand.NewChaCha8([32]byte{}).Read(content)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "long"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	file, _, err := OpenFile(dir, "long")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	return file, content
}

func TestSendFileSendsWhatThePeerTakes(t *testing.T) {
	g, _ := startGroup(t)
	c, peer := accept(t, g, "tcp")
	file, content := longFile(t, 16<<20)
	sent := 0
	before := []byte("head")
	send := func(c *Conn) {
		for sent < len(content) {
			n, err := c.SendFile(before, file, int64(sent), len(content)-sent)
			before = nil
			if err != nil {
				t.Error(err)
			}
			if sent += n; n == 0 {
				return
			}
		}
		if _, err := c.SendFile(nil, file, int64(sent), 10); !errors.Is(err, ErrWouldWait) && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("behind the end: %v", err)
		}
		c.Close()
	}
	start(t, c, &script{drained: send})
	on(t, c.loop, func() { send(c) })
	if got, err := io.ReadAll(peer); err != nil || !bytes.Equal(got, append([]byte("head"), content...)) {
		t.Errorf("%d bytes came, or others; %v", len(got), err)
	}
}

func TestOffloadBoundsWhatRunsAtATime(t *testing.T) {
	g, _ := startGroup(t)
	const works = 3 * maxOffloads
	var running, most atomic.Int32
	var all sync.WaitGroup
	all.Add(works)
	for i := range works {
		loop := g.Loops[i%len(g.Loops)]
		loop.Offload(func() {
			now := running.Add(1)
			for before := most.Load(); now > before && !most.CompareAndSwap(before, now); before = most.Load() {
			}
			time.Sleep(2 * time.Millisecond)
			running.Add(-1)
			if i == 0 {
				panic("this one fails")
			}
		}, all.Done)
	}
	all.Wait()
	if got := most.Load(); got > maxOffloads || got < 2 {
		t.Errorf("%d ran at a time", got)
	}
}

// TestFileThatBecomesAPipeIsNotWaitedFor: whoever may write to a directory could have all goroutines that wait for disks wait for him.
func TestFileThatBecomesAPipeIsNotWaitedFor(t *testing.T) {
	dir := t.TempDir()
	name, pipe := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := errors.Join(os.WriteFile(name, nil, 0o600), unix.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	done := make(chan bool)
	go func() {
		defer close(done)
		for end := time.Now().Add(300 * time.Millisecond); time.Now().Before(end); {
			if file, info, _ := OpenFile(dir, "a"); file != nil {
				if !info.Regular {
					t.Error("a pipe was opened")
				}
				file.Close()
			}
		}
	}()
	for {
		select {
		case <-done:
			return
		default:
			unix.Renameat2(unix.AT_FDCWD, name, unix.AT_FDCWD, pipe, unix.RENAME_EXCHANGE)
		}
	}
}
