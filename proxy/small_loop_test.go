package proxy_test

import (
	"bufio"
	"bytes"
	ctls "crypto/tls"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wstunnel/internal/ws"
)

// TestNothingSmallHoldsALoop floods a tunnel with the smallest things there are. The quickest of some rounds tells what they cost on a
// busy machine.
func TestNothingSmallHoldsALoop(t *testing.T) {
	const rounds = 5
	pong := string(ws.AppendFrame(nil, ws.OpPong, nil, &[4]byte{1, 2, 3, 4}))
	tests := map[string]struct {
		send   string
		secure bool
		record int // bytes of a TLS record
	}{
		"pongs":                  {send: strings.Repeat(pong, 20_000)},
		"pongs over TLS":         {send: strings.Repeat(pong, 20_000), secure: true, record: 16_000},
		"empty messages":         {send: strings.Repeat(text(""), 20_000)},
		"pongs in small records": {send: strings.Repeat(pong, 3_000), secure: true, record: 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			received := make(chan error, rounds)
			b := startSocket(t, func(conn net.Conn, br *bufio.Reader) {
				defer speakNowAndThen(conn)()
				for range rounds {
					_, err := io.CopyN(io.Discard, br, int64(len(tt.send)))
					received <- err
				}
			})
			f := startTLS(t, secureSite(`{path: /ws, ping: 1m, websocket: "ws://`+b.address+`"}`))
			c, batch := f.dial(), &batchConn{}
			if tt.secure {
				c, batch = f.dialBatched()
			}
			c.send(upgrade)
			c.head()
			f.awaitPing(c)
			limit := slowed(2 * time.Millisecond)
			var longest atomic.Int64
			f.server.WatchLoops(func(held time.Duration) {
				for before := longest.Load(); int64(held) > before && !longest.CompareAndSwap(before, int64(held)); before = longest.Load() {
				}
			})
			defer f.server.WatchLoops(nil)
			best := time.Hour
			for range rounds {
				longest.Store(0)
				if tt.secure {
					batch.collect(func() {
						for rest := tt.send; rest != ""; rest = rest[min(tt.record, len(rest)):] {
							c.send(rest[:min(tt.record, len(rest))])
						}
					})
				} else {
					c.send(tt.send)
				}
				if err := <-received; err != nil {
					t.Fatal(err)
				}
				best = min(best, time.Duration(longest.Load()))
			}
			if best > limit {
				t.Errorf("a loop was held for %s, more than %s", best, limit)
			}
		})
	}
}

// TestFloodOfPongsLeavesOthersTheirTurn: beside tunnels that flood, others get their answers as soon as ever.
func TestFloodOfPongsLeavesOthersTheirTurn(t *testing.T) {
	const floods = 4
	most := slowedNow(100 * time.Millisecond)
	sink := startSocket(t, func(conn net.Conn, br *bufio.Reader) {
		defer speakNowAndThen(conn)()
		io.Copy(io.Discard, br)
	})
	f := start(t, oneSite(`{path: /flood, ping: 1m, websocket: "ws://`+sink.address+`"}`, socketTo(startEchoSocket(t).address)))
	pongs := bytes.Repeat(ws.AppendFrame(nil, ws.OpPong, nil, &[4]byte{1, 2, 3, 4}), 10_000)
	for range floods {
		c := f.dial()
		c.send(strings.Replace(upgrade, "/ws", "/flood", 1))
		c.head()
		f.awaitPing(c)
		go func() {
			for {
				if _, err := c.Write(pongs); err != nil {
					return
				}
			}
		}()
	}
	c := f.dial()
	c.send(upgrade)
	c.head()
	var took []time.Duration
	for begin := time.Now(); time.Since(begin) < 2*time.Second || len(took) < 20; {
		asked := time.Now()
		c.send(text("hello"))
		if _, message := frame(t, c.br); message != "hello" {
			t.Fatalf("got %q", message)
		}
		took = append(took, time.Since(asked))
	}
	slices.Sort(took)
	if median := took[len(took)/2]; median > most { // the slowest of them say more of the machine
		t.Errorf("of %d messages half took %s and more, want %s at most", len(took), median, most)
	}
}

// speakNowAndThen keeps a backend from being asked whether it is there, until the function that it returns is called.
func speakNowAndThen(conn net.Conn) (stop func()) {
	done, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-done:
				return
			case <-time.After(100 * time.Millisecond):
				io.WriteString(conn, serverText(""))
			}
		}
	}()
	return func() {
		close(done)
		<-stopped
	}
}

// awaitPing lets a minute pass without a word of the client's, and reads up to the ping; silence is looked for four times a minute. The backend
// speaks meanwhile, and is not pinged.
func (f *front) awaitPing(c *client) {
	c.t.Helper()
	f.server.Skip(50 * time.Second)
	for c.isAnswered(10 * time.Millisecond) {
		frame(c.t, c.br)
	}
	for range 2 { // of which the first may have been on its way
		frame(c.t, c.br)
	}
	f.server.Skip(25 * time.Second)
	for {
		if op, _ := frame(c.t, c.br); op == ws.OpPing {
			return
		}
	}
}

// batchConn sends what is written while it collects in one go.
type batchConn struct {
	net.Conn
	held *bytes.Buffer
}

func (b *batchConn) Write(p []byte) (int, error) {
	if b.held != nil {
		return b.held.Write(p)
	}
	return b.Conn.Write(p)
}

func (b *batchConn) collect(f func()) {
	b.held = &bytes.Buffer{}
	f()
	held := b.held.Bytes()
	b.held = nil
	b.Conn.Write(held)
}

// dialBatched is dialSecure over a batchConn.
func (f *front) dialBatched() (*client, *batchConn) {
	f.t.Helper()
	batch := &batchConn{Conn: dial(f.t, f.secure).Conn}
	conn := ctls.Client(batch, &ctls.Config{ServerName: "example.com", InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
	return clientOver(f.t, conn), batch
}
