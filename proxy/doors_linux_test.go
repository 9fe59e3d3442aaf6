//go:build linux && !portable

package proxy_test

import (
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSilentConnectionsCostLittle: 10,000 of them, or what the limit on open files allows, half with a part of a head, are held
// and then cut.
func TestSilentConnectionsCostLittle(t *testing.T) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	n := int(min(10_000, files.Cur*9/20))
	f := start(t, "timeouts: {request_head: 4s}\n"+oneSite(socketTo(startEchoSocket(t).address)))
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	conns := make([]net.Conn, 0, n)
	defer func() {
		for _, conn := range conns {
			conn.Close()
		}
	}()
	for i := range n {
		conn, err := net.Dial("tcp", f.plain)
		if err != nil {
			t.Fatalf("after %d connections: %v", i, err)
		}
		conns = append(conns, conn)
		if i%2 == 0 {
			io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: exam")
		}
	}
	c := f.dial()
	c.send(upgrade)
	c.expectSwitch()
	c.expectEcho("among them all")
	runtime.GC()
	runtime.ReadMemStats(&after)
	if each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / int64(n); each > 1500 {
		t.Errorf("a silent connection costs %d bytes, the test's own end included", each)
	}
	if goroutines := runtime.NumGoroutine(); goroutines > n/10 {
		t.Errorf("%d goroutines for %d silent connections", goroutines, n)
	}
	deadline := time.Now().Add(patience)
	for i, conn := range conns {
		conn.SetReadDeadline(deadline)
		if _, err := conn.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
			t.Fatalf("connection %d is still open: %v", i, err)
		}
	}
	c.expectEcho("and after them")
}
