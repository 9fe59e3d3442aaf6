package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// startBreaking is a server that reads a request's head, and so many bytes of its body, says something, and breaks off.
func startBreaking(t *testing.T, body int64, says string) *backend {
	return startBackend(t, func(b *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		head, _ := rawHead(br)
		b.note(head)
		io.CopyN(io.Discard, br, body)
		io.WriteString(conn, says)
	})
}

// ofTwo is a configuration with two servers that have turns, and what is said of their upstream.
func ofTwo(first, second *backend, settings string) string {
	return fmt.Sprintf("upstreams: {two: {balance: round_robin, servers: [%q, %q]%s}}\n", first.address, second.address, settings)
}

// TestBrokenRequestGoesToAnotherServer where that does no harm.
func TestBrokenRequestGoesToAnotherServer(t *testing.T) {
	long := strings.Repeat("x", 65<<10)
	for _, tt := range []struct {
		name, head, body, says string
		status                 int
	}{
		{"GET", "GET / HTTP/1.1\r\n", "", "", 200},
		{"HEAD", "HEAD / HTTP/1.1\r\n", "", "", 200},
		{"half a head", "GET / HTTP/1.1\r\n", "", "HTTP/1.1 200 OK\r\nConte", 200},
		{"PUT", "PUT / HTTP/1.1\r\nContent-Length: 5\r\n", "hello", "", 200},
		{"PUT in chunks", "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\n", "", 200},
		{"DELETE with a body", "DELETE / HTTP/1.1\r\nContent-Length: 5\r\n", "hello", "", 200},
		{"PUT of 64 KiB", "PUT / HTTP/1.1\r\nContent-Length: 65536\r\n", long[:64<<10], "", 200},
		{"PUT of more", "PUT / HTTP/1.1\r\nContent-Length: 66560\r\n", long, "", 502},
		{"POST", "POST / HTTP/1.1\r\nContent-Length: 5\r\n", "hello", "", 502},
		{"POST without a body", "POST / HTTP/1.1\r\nContent-Length: 0\r\n", "", "", 502},
		{"PATCH", "PATCH / HTTP/1.1\r\nContent-Length: 0\r\n", "", "", 502},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var read int64
			if tt.body != "" && !strings.Contains(tt.head, "chunked") {
				read = int64(len(tt.body))
			}
			breaking, good := startBreaking(t, read, tt.says), startEcho(t)
			for _, buffer := range []string{"", streaming} {
				f := start(t, buffer+ofTwo(breaking, good, "")+oneSite(`{path: /, http: "http://two"}`))
				c := f.dial()
				seen := len(good.seen())
				c.send(tt.head, host, "\r\n", tt.body)
				rest := func() {}
				if tt.status == 502 { // the server is asked whether it speaks something else
					rest = f.hurry()
				}
				method, _, _ := strings.Cut(tt.head, " ")
				a := c.answer(method)
				rest()
				if a.StatusCode != tt.status {
					t.Errorf("%q: got %s", buffer, a.Status)
				}
				want := method + " / "
				if strings.Contains(tt.head, "chunked") {
					want += "hello"
				} else {
					want += tt.body
				}
				if tt.status == 200 && method != "HEAD" && a.body != want {
					t.Errorf("%q: the second server got %.100q", buffer, a.body)
				}
				if n := len(good.seen()) - seen; n != (502-tt.status)/302 {
					t.Errorf("%q: the second server got %d requests", buffer, n)
				}
			}
		})
	}
}

// TestUploadThatIsSentAgainMidwayLosesNothing: what had come by then, and what came later.
func TestUploadThatIsSentAgainMidwayLosesNothing(t *testing.T) {
	breaking, good := startBreaking(t, 10, ""), startEcho(t)
	f := start(t, streaming+ofTwo(breaking, good, "")+oneSite(`{path: /, http: "http://two"}`))
	c := f.dial()
	c.send("PUT / HTTP/1.1\r\n", host, "Content-Length: 30\r\n\r\n0123456789")
	await(t, "the second server", func() bool { return good.accepted() == 1 })
	c.send("abcdefghij")
	f.server.Skip(0)
	c.send("ABCDEFGHIJ")
	if a := c.expect(200); a.body != "PUT / 0123456789abcdefghijABCDEFGHIJ" {
		t.Errorf("the second server got %q", a.body)
	}
}

// TestRequestIsNotRepeatedAfterItsAnswerHasBegun or where its time has run out.
func TestRequestIsNotRepeatedAfterItsAnswerHasBegun(t *testing.T) {
	good := startEcho(t)
	breaking := startBreaking(t, 0, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
	c := start(t, ofTwo(breaking, good, "")+oneSite(`{path: /, http: "http://two"}`)).dial()
	c.send(get)
	if a := c.answer("GET"); a.StatusCode != 200 || a.err == nil || a.body != "half" {
		t.Errorf("got %s %q %v", a.Status, a.body, a.err)
	}
	release := make(chan bool)
	defer close(release)
	silent := startHeld(t, release)
	f := start(t, ofTwo(silent, good, "")+oneSite(`{path: /, http: "http://two"}`))
	c = f.dial()
	c.send(get)
	silent.awaitRequests(t, 1)
	f.server.Skip(time.Minute)
	c.expect(504)
	if n := len(good.seen()); n != 0 {
		t.Errorf("the other server got %d requests", n)
	}
}

// TestRepeatsHaveABudget: where all requests of a server break, only some go elsewhere.
func TestRepeatsHaveABudget(t *testing.T) {
	const n = 30
	breaks, release := make(chan bool), make(chan bool)
	var came atomic.Int64
	breaking := startBackend(t, func(_ *backend, conn net.Conn) {
		rawHead(bufio.NewReader(conn))
		came.Add(1)
		pass(breaks)
	})
	held := startHeld(t, release)
	f := start(t, ofTwo(breaking, held, "")+oneSite(`{path: /, http: "http://two"}`))
	var clients []*client
	for i := range 2 * n {
		c := f.dial()
		c.send(get)
		if i%2 == 0 {
			await(t, "the request", func() bool { return came.Load() == int64(i/2+1) })
		} else {
			held.awaitRequests(t, i/2+1)
		}
		clients = append(clients, c)
	}
	close(breaks)
	var repeated int
	await(t, "repeats", func() bool {
		repeated = len(held.seen()) - n
		return repeated >= 3 && f.snapshot("two").Servers[0].Active == 0
	})
	close(release)
	failed := 0
	for _, c := range clients {
		a := c.answer("GET")
		switch a.StatusCode {
		case 200:
		case 502:
			failed++
		default:
			t.Errorf("got %s", a.Status)
		}
	}
	if repeated = len(held.seen()) - n; repeated+failed != n || repeated < 6 || repeated > 12 { // a fifth of 30 to 60
		t.Errorf("%d requests were repeated, %d failed", repeated, failed)
	}
	if s := f.snapshot("two"); s.Retrying != 0 || s.Servers[0].Retries != uint64(repeated) {
		t.Errorf("got %+v", s)
	}
}

func TestNoServerOfSeveralIs503(t *testing.T) {
	f := start(t, fmt.Sprintf("upstreams: {two: {servers: [%q, %q]}, off: {servers: [{address: %q, down: true}]}}\n", closedPort(t), closedPort(t), startEcho(t).address)+
		oneSite(`{path: /, proxy: two}`, `{path: /off, proxy: off}`, `{path: = /ws, websocket: "ws://off"}`))
	for _, request := range []string{get, upgrade, strings.Replace(get, "/ ", "/off ", 1), strings.Replace(upgrade, "/ws", "/", 1)} {
		for range 5 {
			c := f.dial()
			c.send(request)
			if a := c.expect(503); a.Header.Get("Retry-After") != "5" {
				t.Errorf("answered with %v", a.Header)
			}
		}
	}
}

// TestFirstServerToReturnServes: what takes all servers out for a while leaves nobody out afterwards.
func TestFirstServerToReturnServes(t *testing.T) {
	first, second := closedPort(t), closedPort(t)
	f := start(t, fmt.Sprintf("upstreams: {two: {servers: [%q, %q]}}\n", first, second)+oneSite(`{path: /, proxy: two}`))
	for range 20 {
		c := f.dial()
		c.send(get)
		c.expect(503)
	}
	l, err := net.Listen("tcp", second)
	if err != nil {
		t.Skip(err) // somebody else has the port by now
	}
	startBackendOn(t, l, serveEcho)
	for range 20 {
		c := f.dial()
		c.send(get)
		c.expect(200)
	}
}

// TestRequestsAreHeldWhileTheServerRestarts and served by the first that comes back, over TCP and Unix sockets.
func TestRequestsAreHeldWhileTheServerRestarts(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	port := closedPort(t)
	for network, address := range map[string]string{"unix": socket, "tcp": port} {
		written := address
		if network == "unix" {
			written = "unix:" + address
		}
		f := start(t, fmt.Sprintf("upstreams: {one: {servers: [%q], hold: 5s}}\n", written)+oneSite(`{path: /, proxy: one}`))
		var waiting []*client
		for i := range 20 {
			c := f.dial()
			if i%2 == 0 {
				c.send("POST / HTTP/1.1\r\n", host, "Content-Length: 2\r\n\r\nhi")
			} else {
				c.send(upgrade)
			}
			waiting = append(waiting, c)
		}
		await(t, "all to be held", func() bool { return f.snapshot("one").Held == 20 })
		waiting[0].waits(f, 2*time.Second)
		waiting[18].Close()
		waiting[19].Close()
		await(t, "two to leave", func() bool { return f.snapshot("one").Held <= 18 })
		l, err := net.Listen(network, address)
		if err != nil {
			t.Skip(err)
		}
		b := startBackendOn(t, l, func(b *backend, conn net.Conn) { serveEchoOrSwitch(conn) })
		for i, c := range waiting[:18] {
			c.expect([]int{200, 101}[i%2])
		}
		await(t, "nobody to wait", func() bool { return f.snapshot("one").Held == 0 })
		if n := b.accepted(); n > 18 {
			t.Errorf("%d connections for 18 requests", n)
		}
	}
}

func TestHeldRequestIs503AtLast(t *testing.T) {
	f := start(t, fmt.Sprintf("upstreams: {one: {servers: [%q], hold: 5s}}\n", closedPort(t))+oneSite(`{path: /, proxy: one}`))
	for _, request := range []string{get, upgrade} {
		c := f.dial()
		c.send(request)
		await(t, "it to be held", func() bool { return f.snapshot("one").Held == 1 })
		c.waits(f, 4*time.Second)
		f.server.Skip(time.Second + 50*time.Millisecond)
		if a := c.expect(503); a.Header.Get("Retry-After") != "5" {
			t.Errorf("answered with %v", a.Header)
		}
	}
}

// TestHandshakeIsHeldWhoseServerDiesUnderIt: what was in its queue then is reset.
func TestRequestIsHeldWhoseServerDiesUnderIt(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.6:0")
	if err != nil {
		t.Fatal(err)
	}
	var first atomic.Bool
	startBackendOn(t, l, func(_ *backend, conn net.Conn) {
		if first.CompareAndSwap(false, true) {
			rawHead(bufio.NewReader(conn))
			l.Close()
			conn.(*net.TCPConn).SetLinger(0)
		}
	})
	f := start(t, fmt.Sprintf("upstreams: {one: {servers: [%q], hold: 5s}}\n", l.Addr())+oneSite(`{path: /, proxy: one}`))
	for i, request := range []string{get, upgrade} {
		c := f.dial()
		c.send(request)
		await(t, "it to be held", func() bool { return f.snapshot("one").Held == 1 })
		again, err := net.Listen("tcp", l.Addr().String())
		if err != nil {
			t.Skip(err)
		}
		b := startBackendOn(t, again, func(_ *backend, conn net.Conn) { serveEchoOrSwitch(conn) })
		c.expect([]int{200, 101}[i])
		c.Close()
		again.Close()
		await(t, "no idle connection", func() bool { f.server.Skip(time.Second); return f.server.Counts().Idle == 0 })
		if n := b.accepted(); n != 1 {
			t.Errorf("%d connections", n)
		}
	}
}

// TestHandshakesAreMeteredPerServer and what would wait for too long is told to come again.
func TestHandshakesAreMeteredPerServer(t *testing.T) {
	fl := startFleet(t, 2)
	f := start(t, fl.upstream("handshakes_per_second: 1")+oneSite(`{path: /, proxy: fleet, timeouts: {handshake: 3s}}`))
	var clients []*client
	metered := f.watch()
	for range 10 {
		c := f.dial()
		c.send(upgrade)
		f.server.Skip(0)
		clients = append(clients, c)
	}
	open := func() int64 { counts := fl.openTunnels(); return counts[0] + counts[1] }
	await(t, "one at each server", func() bool { return open() == 2 })
	for i := range 3 {
		metered.turnTo(time.Duration(i+1)*time.Second + 300*time.Millisecond)
		await(t, "two more", func() bool { return open() == int64(2*i+4) })
		f.server.Skip(0)
		if n := open(); n != int64(2*i+4) {
			t.Errorf("%d tunnels after %d s", n, i+1)
		}
	}
	refused := 0
	for _, c := range clients {
		a := c.answer("GET")
		if a.StatusCode == 503 && a.Header.Get("Retry-After") != "" {
			refused++
		} else if a.StatusCode != 101 {
			t.Errorf("got %s", a.Status)
		}
	}
	if refused != 2 {
		t.Errorf("%d of 10 handshakes were refused, want 2", refused)
	}
	c := f.dial()
	c.send(get) // pages do not wait
	c.expect(200)
}

// TestClientsThatLeaveKeepNoTimes: who has left while its handshake waited keeps nobody else waiting, and is counted no more.
func TestClientsThatLeaveKeepNoTimes(t *testing.T) {
	fl := startFleet(t, 1)
	f := start(t, fl.upstream("handshakes_per_second: 1")+oneSite(`{path: /, proxy: fleet, timeouts: {handshake: 3s}}`))
	var clients []*client
	waiting := func() (waiting, active int) {
		s := f.snapshot("fleet").Servers[0]
		return s.Waiting, s.Active
	}
	await(t, "three to wait", func() bool { // one of them a second does not, be the machine slow
		if n, _ := waiting(); n < 3 {
			c := f.dial()
			c.send(upgrade)
			f.server.Skip(0)
			clients = append(clients, c)
		}
		n, active := waiting()
		return n == 3 && active == 3
	})
	for _, c := range clients {
		c.Close()
	}
	await(t, "nobody waits", func() bool { n, active := waiting(); return n == 0 && active == 0 })
	var last *client
	await(t, "one to wait", func() bool {
		last = f.dial()
		last.send(upgrade)
		waits := false
		await(t, "that, or its answer", func() bool {
			n, _ := waiting()
			waits = n == 1
			return waits || last.isAnswered(2*time.Millisecond)
		})
		return waits
	})
	f.server.Skip(time.Second + 20*time.Millisecond)
	if a := last.answer("GET"); a.StatusCode != 101 {
		t.Errorf("got %s", a.Status)
	}
}

// TestFailingServerIsEjected: three answers of 500 in a row are enough, and the other one serves alone.
func TestFailingServerIsEjected(t *testing.T) {
	bad := startHeads(t, always("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"))
	good := startEcho(t)
	f := start(t, ofTwo(bad, good, "")+oneSite(`{path: /, http: "http://two"}`))
	c := f.dial()
	for range 20 {
		c.send(get)
		c.answer("GET")
	}
	if n := len(bad.seen()); n != 3 {
		t.Errorf("the failing server got %d requests of 20, want 3", n)
	}
	if s := f.snapshot("two").Servers[0]; s.State != "ejected" || s.Failures != 3 {
		t.Errorf("got %+v", s)
	}
	f.server.Skip(5 * time.Second)
	for range 200 {
		c.send(get)
		c.answer("GET")
	}
	if n := len(bad.seen()); n < 4 || n > 6 {
		t.Errorf("5 s later the failing server has got %d requests, want 4 to 6", n)
	}
}
