//go:build linux

package main_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"wstunnel/internal/ws"
)

// startSilent is a backend that opens each tunnel, as one user's and in a group, and says nothing.
func startSilent(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	var n atomic.Int64
	serve := func(conn net.Conn) {
		defer conn.Close()
		head := make([]byte, 2048)
		for got := 0; !bytes.HasSuffix(head[:got], []byte("\r\n\r\n")); {
			m, err := conn.Read(head[got:])
			if err != nil {
				return
			}
			got += m
		}
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"+
			"X-Wstunnel-User: user-%d\r\nX-Wstunnel-Groups: lobby\r\n\r\n", ws.Accept(sampleKey), n.Add(1))
		for err := error(nil); err == nil; {
			_, err = conn.Read(head[:1])
		}
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return l.Addr().String()
}

const sampleKey = "dGhlIHNhbXBsZSBub25jZQ=="

// openSilently opens tunnels in which nothing is said.
func (f *front) openSilently(t *testing.T, n int) {
	t.Helper()
	const dialers = 4
	var all sync.WaitGroup
	for i := range dialers {
		all.Go(func() {
			br := bufio.NewReader(nil)
			for range (n + i) / dialers {
				conn, err := net.Dial("tcp", f.http)
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { conn.Close() })
				io.WriteString(conn, "GET /ws HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: "+
					sampleKey+"\r\n\r\n")
				br.Reset(conn)
				for line := ""; line != "\r\n"; {
					if line, err = br.ReadString('\n'); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	all.Wait()
}

// list orders a list, and returns how many lines it has.
func (l *lines) list() (n int) {
	l.t.Helper()
	l.SetDeadline(time.Now().Add(patience))
	io.WriteString(l, "LIST WEBSOCKETS\n")
	for {
		line, err := l.br.ReadSlice('\n')
		if err != nil {
			l.t.Fatal(err)
		}
		if len(line) == 1 {
			return n
		}
		n++
	}
}

// TestManyTunnelsAreListedAndReachedAtOnce over the control socket: 10,000, or as many as the limit on open files allows, in 100 ms; and a message to one of them has its
// answer, so that the kernel has it, in a millisecond. On a machine that has other things to do the best of some rounds counts, and a slower one is given more time.
func TestManyTunnelsAreListedAndReachedAtOnce(t *testing.T) {
	const fewest, most = 5, 50 // rounds
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	many := int(min(10_000, files.Cur*9/10/2))
	yaml := withSocket(t, "access_log: off\n"+settings(`{path: /ws, websocket: "ws://`+startSilent(t)+`"}`))
	f := startFront(t, yaml)
	f.openSilently(t, many)
	l := dialLines(t, yaml)
	l.br = bufio.NewReaderSize(l.Conn, 1<<20)
	eventually(t, "all are listed", func() bool { return l.list() == many })
	list, send, shout, slow := time.Hour, time.Hour, time.Hour, 1000.0
	within := func(d time.Duration) time.Duration { return time.Duration(slow * float64(d)) }
	for round := 0; round < fewest || round < most && (list > within(100*time.Millisecond) || send > within(time.Millisecond)); round++ {
		slow = min(slow, slowness())
		list = min(list, timeOf(func() { l.list() }))
		var each []time.Duration
		for i := range 100 {
			each = append(each, timeOf(func() { l.says(fmt.Sprintf("SEND USER user-%d hello", 1+i*many/100), "OK 1") }))
		}
		slices.Sort(each)
		send = min(send, each[len(each)/2])
		shout = min(shout, timeOf(func() { l.says("SEND GROUP lobby hello", fmt.Sprintf("OK %d", many)) }))
	}
	t.Logf("%d tunnels are listed in %v; a message to one takes %v at the median, to all of them %v; the machine is %.1f times as slow", many, list, send, shout, slow)
	if list > within(100*time.Millisecond) {
		t.Errorf("a list takes %v", list)
	}
	if send > within(time.Millisecond) {
		t.Errorf("a message takes %v", send)
	}
}

// slowness is how many times as long a piece of work takes now as it does on the machine that the bounds of these tests are for: 1 at least.
func slowness() float64 {
	const usual = 32 * time.Millisecond
	block := make([]byte, 1<<20)
	took := timeOf(func() {
		for range 32 {
			sha256.Sum256(block)
		}
	})
	return max(1, float64(took)/float64(usual))
}

func timeOf(f func()) time.Duration {
	began := time.Now()
	f()
	return time.Since(began)
}
