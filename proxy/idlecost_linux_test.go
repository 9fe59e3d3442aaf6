package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// silentBackend opens each tunnel and says nothing.
type silentBackend struct {
	address string
	more    atomic.Pointer[func(n int64) string] // further fields of the 101 of the nth tunnel
	n       atomic.Int64
}

func startSilent(t testing.TB) *silentBackend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	b := &silentBackend{address: l.Addr().String()}
	b.sayOf(func(int64) string { return "" })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go b.serve(conn)
		}
	}()
	return b
}

func (b *silentBackend) sayOf(more func(n int64) string) { b.more.Store(&more) }

func (b *silentBackend) serve(conn net.Conn) {
	defer conn.Close()
	head := make([]byte, 1024)
	for got := 0; !bytes.HasSuffix(head[:got], []byte("\r\n\r\n")); {
		n, err := conn.Read(head[got:])
		if err != nil {
			return
		}
		got += n
	}
	io.WriteString(conn, strings.TrimSuffix(switching, "\r\n")+(*b.more.Load())(b.n.Add(1))+"\r\n")
	for err := error(nil); err == nil; {
		_, err = conn.Read(head[:1])
	}
}

// openSilently opens tunnels to /ws in which nothing is said, and waits until all are known.
func (f *front) openSilently(t testing.TB, n int) (conns []net.Conn) {
	t.Helper()
	before := len(f.server.Tunnels())
	conns = make([]net.Conn, n)
	br := bufio.NewReader(nil)
	for i := range conns {
		conn, err := net.Dial("tcp", f.plain)
		if err != nil {
			t.Fatal(err)
		}
		conns[i] = conn
		io.WriteString(conn, upgrade)
		br.Reset(conn)
		for line := ""; line != "\r\n"; {
			if line, err = br.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
	}
	for len(f.server.Tunnels()) < before+n { // the last is there a moment later
		runtime.Gosched()
	}
	return conns
}

// asManyAs is n, or how many of what takes so many open files the limit on them allows.
func asManyAs(t testing.TB, n, each int) int {
	t.Helper()
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	return min(n, int(files.Cur)*9/10/each)
}

// idleCost returns the heap that an idle tunnel takes, with the test's own ends.
func (f *front) idleCost(n int) int {
	heap := func() int64 {
		f.log.mu.Lock()
		f.log.buf = bytes.Buffer{}
		f.log.mu.Unlock()
		var m runtime.MemStats
		runtime.GC()
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	conns := f.openSilently(f.t, n)
	each := int(heap()-before) / n
	for _, conn := range conns {
		conn.Close()
	}
	await(f.t, "the end of all", func() bool { return f.server.TunnelCount() == 0 })
	return each
}

// TestTagsCostAnIdleTunnelLittle, and a tunnel of which nothing is said costs what it did before anything could be said. What other tests have left may be collected in the
// middle of a turn; then there is another one.
func TestTagsCostAnIdleTunnelLittle(t *testing.T) {
	const turns = 5
	for turn := 1; ; turn++ {
		none, groups, both := idleCosts(t)
		t.Logf("an idle tunnel takes %d bytes, both ends of the test's included; with two groups %d more, with a user and a group %d more", none, groups, both)
		if (none <= 2650 || raceFactor > 1 || portable) && max(groups, both) <= 200 {
			return
		}
		if turn == turns {
			t.Fatal("an idle tunnel takes more than 2650 bytes, or what is said of it more than 200")
		}
	}
}

// idleCosts returns what idle tunnels take of which nothing is said, and how much more where they are in two groups, and where they have a user each and a group.
func idleCosts(t *testing.T) (none, groups, both int) {
	t.Helper()
	b := startSilent(t)
	f := start(t, oneSite(socketTo(b.address)))
	defer f.stop()
	n := asManyAs(t, 2000, 4)
	f.idleCost(n) // tables that grow stay as long as they get
	none = f.idleCost(n)
	b.sayOf(func(int64) string { return "X-Wstunnel-Groups: lobby, staff\r\n" })
	groups = f.idleCost(n) - none
	b.sayOf(func(n int64) string {
		return fmt.Sprintf("X-Wstunnel-User: user-%06d\r\nX-Wstunnel-Groups: lobby\r\n", n)
	})
	both = f.idleCost(n) - none
	return none, groups, both
}
