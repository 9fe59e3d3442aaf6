package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"wstunnel/internal/ws"
)

// writeCalls returns how many calls the process has made to write with.
func writeCalls(t *testing.T) (n int64) {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skip(err)
	}
	for line := range strings.Lines(string(text)) {
		fmt.Sscanf(line, "syscw: %d", &n)
	}
	return n
}

// TestPongsOfOthersBecomeFewWrites: the client leaves a ping unanswered, and sends pongs that answer no ping of ours.
func TestPongsOfOthersBecomeFewWrites(t *testing.T) {
	for name, payload := range map[string]string{"empty": "", "as long as ours": "12345678"} {
		t.Run(name, func(t *testing.T) {
			const size = 512 << 10
			pong := string(ws.AppendFrame(nil, ws.OpPong, []byte(payload), &[4]byte{1, 2, 3, 4}))
			flood := strings.Repeat(pong, size/len(pong))
			got := make(chan string, 1)
			b := startSocket(t, func(conn net.Conn, br *bufio.Reader) {
				defer speakNowAndThen(conn)()
				all := make([]byte, len(flood))
				io.ReadFull(br, all)
				got <- string(all)
			})
			f := start(t, oneSite(`{path: /ws, ping: 1m, websocket: "ws://`+b.address+`"}`))
			c := f.dial()
			c.send(upgrade)
			c.head()
			f.awaitPing(c)
			before := writeCalls(t)
			c.send(flood)
			if <-got != flood {
				t.Error("the backend got something else")
			}
			if n := writeCalls(t) - before; n > 1000 {
				t.Errorf("%d pongs became %d writes", len(flood)/len(pong), n)
			}
		})
	}
}

// TestFloodOfPongsStopsWhereNobodyTakesIt: what the kernel does not hold stays with the client.
func TestFloodOfPongsStopsWhereNobodyTakesIt(t *testing.T) {
	done, conns := make(chan bool), make(chan net.Conn, 1)
	b := startSocket(t, func(conn net.Conn, _ *bufio.Reader) {
		conns <- conn
		defer speakNowAndThen(conn)()
		<-done
	})
	defer close(done)
	f := start(t, oneSite(`{path: /ws, ping: 1m, websocket: "ws://`+b.address+`"}`))
	c := f.dial()
	c.send(upgrade)
	c.head()
	f.awaitPing(c)
	pong := ws.AppendFrame(nil, ws.OpPong, []byte("12345678"), &[4]byte{1, 2, 3, 4})
	flood := bytes.Repeat(pong, 64<<10)
	sent := 0
	for err := error(nil); err == nil; {
		var n int
		c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		n, err = c.Write(flood)
		sent += n
	}
	backend := <-conns
	kernels := inSockets(t, c.LocalAddr(), c.RemoteAddr()) + inSockets(t, backend.RemoteAddr(), backend.LocalAddr())
	if held := sent - kernels; held > 64<<10+len(pong) { // a read, and what of a pong came before it
		t.Errorf("of %d bytes of pongs %d are held", sent, held)
	}
	if n := f.server.TunnelCount(); n != 1 {
		t.Errorf("%d tunnels", n)
	}
}
