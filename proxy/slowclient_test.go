package proxy_test

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// startWorkers is a backend with so many workers, each of which has one connection at a time until it ends.
func startWorkers(t *testing.T, workers int, size int) *backend {
	t.Helper()
	free := make(chan bool, workers)
	return startBackend(t, func(_ *backend, conn net.Conn) {
		free <- true
		defer func() { <-free }()
		br := bufio.NewReader(conn)
		head, err := rawHead(br)
		if err != nil {
			return
		}
		var length int64
		if value := field(head, "Content-Length"); value != nil {
			fmt.Sscan(value[0], &length)
		}
		if _, err := io.CopyN(io.Discard, br, length); err != nil {
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", size)
		io.WriteString(conn, strings.Repeat("x", size))
	})
}

// asked expects a page to be answered while nobody else goes on.
func (f *front) asked(t *testing.T) {
	t.Helper()
	c := f.dial()
	c.send("GET /quick HTTP/1.1\r\n" + host + "\r\n")
	c.expect(200)
}

// TestClientsThatSendSlowlyHoldNoBackend: a body that is short is with us until it is whole.
func TestClientsThatSendSlowlyHoldNoBackend(t *testing.T) {
	b := startWorkers(t, 2, 100)
	f := startTLS(t, secureSite(httpTo(b.address)))
	var slow []*client
	for range 6 {
		c := f.dial()
		c.send("POST / HTTP/1.1\r\n" + host + "Content-Length: 10\r\n\r\nhalf")
		slow = append(slow, c)
	}
	h2, _ := f.dialH2()
	for stream := uint32(1); stream < 12; stream += 2 {
		h2.post(stream, "content-length", "10")
		h2.WriteData(stream, false, []byte("half"))
	}
	f.asked(t)
	if n := b.accepted(); n != 1 {
		t.Errorf("%d connections to the backend, want 1", n)
	}
	for _, c := range slow {
		c.send("again!")
		c.expect(200)
	}
	for stream := uint32(1); stream < 12; stream += 2 {
		h2.WriteData(stream, true, []byte("again!"))
		if got := h2.whole(stream); got != "200 "+quoted(strings.Repeat("x", 100))+"end" {
			t.Errorf("answered %s", got)
		}
	}
	await(t, "nothing kept", func() bool { return f.server.Counts().Kept == 0 })
}

// TestClientsThatTakeSlowlyHoldNoBackend: an answer is with us until it is taken.
func TestClientsThatTakeSlowlyHoldNoBackend(t *testing.T) {
	const size = 900 << 10
	b := startWorkers(t, 2, size)
	f := startTLS(t, "limits: {buffer_memory: 64MiB}\n"+secureSite(`{path: /, http: {url: "http://`+b.address+`", keepalive: off}}`))
	var slow []*client
	for i := range 6 {
		c := f.dial()
		if i%2 == 1 {
			c = f.dialSecure()
		} else {
			c.Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
		}
		c.send(get)
		slow = append(slow, c)
	}
	h2, _ := f.dialH2()
	for stream := uint32(1); stream < 8; stream += 2 {
		h2.request(stream, getPath("/")...)
	}
	await(t, "ten answers", func() bool { return strings.Count(f.log.String(), `"status":200`) == 10 })
	f.asked(t)
	if f.server.Counts().Kept == 0 {
		t.Error("nothing was kept")
	}
	for _, c := range slow {
		if a := c.expect(200); len(a.body) != size || a.err != nil {
			t.Errorf("%d bytes, %v", len(a.body), a.err)
		}
	}
	for _, got := range h2.wholes(1, 3, 5, 7) {
		if got != fmt.Sprintf("200 %d bytes end", size) {
			t.Errorf("answered %s", got)
		}
	}
	await(t, "nothing kept", func() bool { return f.server.Counts().Kept == 0 })
}

// TestWhatIsKeptForSlowClientsIsBounded by `buffer`, and by limits.buffer_memory for all.
func TestWhatIsKeptForSlowClientsIsBounded(t *testing.T) {
	var sent atomic.Uint64
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		rawHead(bufio.NewReader(conn))
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
		for piece := make([]byte, 64<<10); ; sent.Add(uint64(len(piece))) {
			if _, err := conn.Write(piece); err != nil {
				return
			}
		}
	})
	const kernel = 8 << 20 // what both ends' systems take of each
	for _, tt := range []struct {
		name, settings string
		clients        int
		most           int // is kept in all
	}{
		{"of one", "buffer: {response: 2MiB}\n", 1, 2<<20 + 256<<10},
		{"off", "buffer: {response: off}\n", 4, 4 * 256 << 10},
		{"of all", "buffer: {response: 16MiB}\nlimits: {buffer_memory: 8MiB}\n", 10, 8<<20 + 10*256<<10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := startTLS(t, "spool_max: off\n"+tt.settings+secureSite(httpTo(b.address)))
			var clients []*client
			before, most := sent.Load(), int64(0)
			for range tt.clients {
				c := f.dialSecure()
				c.send(get)
				clients = append(clients, c)
			}
			await(t, "the clients", func() bool { return f.server.Counts().Clients == tt.clients })
			total := awaitFlat(func() uint64 {
				most = max(most, f.server.Counts().Kept)
				return sent.Load() - before
			})
			if most > int64(tt.most) {
				t.Errorf("%d bytes were kept, want %d at most", most, tt.most)
			}
			if total > uint64(tt.most+tt.clients*kernel) {
				t.Errorf("the backend could send %d bytes", total)
			}
			for _, c := range clients {
				c.Close()
			}
			await(t, "nothing kept", func() bool { return f.server.Counts().Kept == 0 })
		})
	}
}

// TestBodyThatComesMoreSlowlyThanMinRateIs408, be it collected or passed on; one that waits for its backend is not.
func TestBodyThatComesMoreSlowlyThanMinRateIs408(t *testing.T) {
	reading := make(chan bool)
	var fast atomic.Int64
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		head, err := rawHead(br)
		if err != nil {
			return
		}
		switch {
		case strings.HasPrefix(head, "POST /fast "):
			for some := make([]byte, 4096); err == nil; {
				var n int
				n, err = br.Read(some)
				fast.Add(int64(n))
			}
			return
		case strings.HasPrefix(head, "POST /lazy "):
			<-reading
		case strings.HasPrefix(head, "POST /talk "):
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
			io.ReadFull(br, make([]byte, len("0\r\n\r\n")))
			io.WriteString(conn, "ok")
			return
		}
		io.Copy(io.Discard, br)
	})
	f := start(t, "min_rate: 1KiB/s\ntimeouts: {response_head: 10m}\n"+oneSite(httpTo(b.address)))
	for name, head := range map[string]string{
		"collected": "POST / HTTP/1.1\r\n" + host + "Content-Length: 60000\r\n\r\n",
		"passed on": "POST / HTTP/1.1\r\n" + host + "Content-Length: 6000000\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			c := f.dial()
			c.send(head)
			for range 5 {
				c.send(strings.Repeat("x", 6100)) // of 6,144
				c.waits(f, 5*time.Second)
			}
			f.server.Skip(5 * time.Second)
			c.expect(408)
		})
	}
	t.Run("fast enough", func(t *testing.T) {
		c := f.dial()
		c.send("POST /fast HTTP/1.1\r\n" + host + "Content-Length: 6000000\r\n\r\n")
		const piece = 5 * 1100
		for i := range int64(20) {
			c.send(strings.Repeat("x", piece))
			await(t, "the server to have read it", func() bool { return fast.Load() == (i+1)*piece })
			c.waits(f, 5*time.Second)
		}
		c.Close()
		if n := strings.Count(f.log.String(), `"status":408`); n != 2 {
			t.Errorf("%d lines with 408", n)
		}
	})
	t.Run("a conversation", func(t *testing.T) {
		c := f.dial()
		c.send("POST /talk HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n")
		c.head()
		c.waits(f, 50*time.Second)
		c.send("0\r\n\r\n")
		if got := mustRead(t, c.br, 2); got != "ok" {
			t.Errorf("got %q", got)
		}
	})
	t.Run("waiting for the backend", func(t *testing.T) {
		c := f.dial()
		defer func() {
			c.Close()
			close(reading)
		}()
		c.send("POST /lazy HTTP/1.1\r\n" + host + "Content-Length: 60000000\r\n\r\n")
		c.stall()
		for range 3 {
			c.waits(f, 40*time.Second)
		}
		if n := strings.Count(f.log.String(), `"status":408`); n != 2 {
			t.Errorf("%d lines with 408", n)
		}
	})
}

// TestClientThatResetsBeforeItIsAskedForItsBody is logged, and holds nothing.
func TestClientThatResetsBeforeItIsAskedForItsBody(t *testing.T) {
	for name, settings := range map[string]string{"streamed": "", "spooled": "spool: true\n"} {
		t.Run(name, func(t *testing.T) {
			b := startEcho(t)
			f := start(t, "min_rate: off\n"+settings+oneSite(httpTo(b.address)))
			c := f.dial()
			c.send(get)
			c.expect(200) // so that a connection to the backend is kept
			for range 20 {
				c := f.dial()
				c.send("POST /reset HTTP/1.1\r\n" + host + "Content-Length: 100000\r\nExpect: 100-continue\r\n\r\n")
				c.Conn.(*net.TCPConn).SetLinger(0)
				c.Close()
			}
			await(t, "no connections", func() bool { n := f.server.Counts(); return n.Clients == 1 && n.Backends == n.Idle })
			await(t, "lines", func() bool { return strings.Count(f.log.String(), "/reset") == 20 })
		})
	}
}

// TestClientThatDripsAndTakesNothingIsLeft: that it sends says nothing of whether it takes its answer.
func TestClientThatDripsAndTakesNothingIsLeft(t *testing.T) {
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		rawHead(bufio.NewReader(conn))
		io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: 30000000\r\n\r\n")
		conn.Write(make([]byte, 30_000_000))
	})
	f := start(t, "min_rate: off\n"+oneSite(httpTo(b.address)))
	c := f.dial()
	c.Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	c.send("POST / HTTP/1.1\r\n" + host + "Content-Length: 1000000\r\n\r\n")
	await(t, "the answer", func() bool { return f.server.Counts().Spooled > 0 && f.server.Counts().Backends == 0 })
	for range 6 {
		c.send("x")
		f.server.Skip(20 * time.Second)
	}
	f.awaitNoSpools(t)
	await(t, "the connection's end", func() bool { return f.server.Counts().Clients == 0 })
}

// TestChunkedBodyIsCollectedAsLongAsItComes: a client that sends a byte a second holds no server, and one that pauses may be in a conversation.
func TestChunkedBodyIsCollectedAsLongAsItComes(t *testing.T) {
	b := startBodies(t)
	f := startTLS(t, "min_rate: off\n"+secureSite(`{path: /, http: {url: "http://`+b.address+`", keepalive: off}}`))
	chunked := "POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n"
	var slow []*client
	for range 4 {
		c := f.dial()
		c.send(chunked)
		slow = append(slow, c)
	}
	h2, _ := f.dialH2()
	h2.post(1)
	for n := range 5 {
		for _, c := range slow {
			c.send("1\r\nx\r\n")
		}
		h2.WriteData(1, false, []byte("x"))
		await(t, "a byte of each", func() bool { return f.server.Counts().Kept == int64(5*(n+1)) })
		f.server.Skip(time.Second)
	}
	f.asked(t)
	if n := b.accepted(); n != 1 {
		t.Errorf("%d connections to the backend, want 1", n)
	}
	for _, c := range slow[1:] {
		c.send("0\r\n\r\n")
		if got := c.expect(200).body; got != fmt.Sprintf("-1 5 %x map[] <nil>", sha256.Sum256([]byte("xxxxx"))) {
			t.Errorf("told %s", got)
		}
	}
	slow[0].send("1\r\nx\r\n")
	h2.WriteData(1, false, []byte("x"))
	await(t, "a byte more of each", func() bool { return f.server.Counts().Kept == 12 })
	f.server.Skip(1500 * time.Millisecond)
	if n := f.server.Counts().Backends; n != 0 {
		t.Errorf("%d connections to the backend", n)
	}
	f.server.Skip(600 * time.Millisecond)
	await(t, "the backend", func() bool { return f.server.Counts().Backends > 0 })
}

// TestChunkedBodyThatIsLongGoesAsItComes.
func TestChunkedBodyThatIsLongGoesAsItComes(t *testing.T) {
	got := make(chan string, 1)
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		head, _ := rawHead(br)
		piece := make([]byte, 100)
		io.ReadFull(br, piece)
		if coding := field(head, "Transfer-Encoding"); coding != nil { // else it is asked whether it is FastCGI
			got <- coding[0]
		}
	})
	f := start(t, oneSite(httpTo(b.address)))
	c := f.dial()
	c.send("POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: chunked\r\n\r\n" + "10001\r\n" + strings.Repeat("x", 0x10001) + "\r\n")
	select {
	case coding := <-got:
		if coding != "chunked" {
			t.Errorf("framed by %s", coding)
		}
	case <-time.After(patience):
		t.Fatal("the backend was not asked")
	}
}
