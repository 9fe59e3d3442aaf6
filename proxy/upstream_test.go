package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// numbered is a backend that counts its connections: each says its number in every answer. hold, if there is one, is awaited between an
// answer's head and its body.
type numbered struct {
	*backend
	open, made atomic.Int64
	most       atomic.Int64 // open at a time
	heads      chan string
}

func startNumbered(t *testing.T, hold func(), extra string) *numbered {
	n := &numbered{heads: make(chan string, 1000)}
	n.backend = startBackend(t, func(_ *backend, conn net.Conn) {
		number := n.made.Add(1)
		raise(&n.most, n.open.Add(1))
		defer n.open.Add(-1)
		br := bufio.NewReader(conn)
		for {
			head, err := rawHead(br)
			if err != nil {
				return
			}
			n.heads <- head
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\n%sContent-Length: 3\r\n\r\n", extra)
			if hold != nil {
				hold()
			}
			fmt.Fprintf(conn, "%03d", number)
		}
	})
	return n
}

// raise makes the most that was seen as much as is seen now, if that is more.
func raise(most *atomic.Int64, now int64) {
	for was := most.Load(); now > was && !most.CompareAndSwap(was, now); was = most.Load() {
	}
}

// together sends so many requests at a time, and returns the bodies of the answers.
func together(f *front, request string, n int) []string {
	bodies := make([]string, n)
	var running sync.WaitGroup
	for i := range n {
		c := f.dial()
		running.Go(func() {
			c.send(request)
			bodies[i] = c.expect(200).body
			c.Close()
		})
	}
	running.Wait()
	return bodies
}

// gathering returns a function that blocks until n are in it.
func gathering(n int) func() {
	var mu sync.Mutex
	came, all := 0, make(chan struct{})
	return func() {
		mu.Lock()
		together := all
		if came++; came == n {
			close(all)
			came, all = 0, make(chan struct{})
		}
		mu.Unlock()
		select {
		case <-together:
		case <-time.After(patience):
		}
	}
}

// pass waits for a value, so that a test that fails ends.
func pass(c <-chan bool) {
	select {
	case <-c:
	case <-time.After(patience):
	}
}

// allAtOnce has n requests under way, each with its answer begun, before their answers end together.
func allAtOnce(f *front, request string, n int, answer chan bool) {
	clients := make([]*client, n)
	for i := range clients {
		clients[i] = f.dial()
		clients[i].send(request)
	}
	for _, c := range clients {
		c.head()
	}
	for range clients {
		answer <- true
	}
	for _, c := range clients {
		mustRead(f.t, c.br, 3)
	}
}

func TestNoMoreIdleConnectionsAreKeptThanConfigured(t *testing.T) {
	for keepalive, want := range map[string]int64{"": 16, ", keepalive: 3": 3, ", keepalive: off": 0} {
		answer := make(chan bool, 30)
		b := startNumbered(t, func() { pass(answer) }, "")
		f := start(t, oneSite(`{path: /, http: {url: "http://`+b.address+`"`+keepalive+`}}`))
		allAtOnce(f, get, 30, answer)
		await(t, fmt.Sprint(want, " connections"), func() bool { return b.open.Load() == want })
		if says := field(<-b.heads, "Connection"); (want == 0) != (len(says) == 1 && says[0] == "close") {
			t.Errorf("keepalive%s: the backend was sent Connection: %q", keepalive, says)
		}
	}
}

func TestUpstreamHasAKeepaliveOfItsOwn(t *testing.T) {
	answer := make(chan bool, 5)
	b := startNumbered(t, func() { pass(answer) }, "")
	f := start(t, oneSite(`{path: /, http: "http://pages"}`, `{path: /own, http: {url: "http://pages", keepalive: 4}}`)+
		"upstreams: {pages: {servers: [\""+b.address+"\"], keepalive: 2}}\n")
	allAtOnce(f, get, 5, answer)
	allAtOnce(f, strings.Replace(get, "/ ", "/own ", 1), 5, answer)
	await(t, "six connections", func() bool { return b.open.Load() == 6 })
}

func TestNewestIdleConnectionIsUsedFirst(t *testing.T) {
	var order sync.Mutex
	var turns []chan bool
	b := startNumbered(t, func() {
		order.Lock()
		turn := make(chan bool)
		turns = append(turns, turn)
		order.Unlock()
		pass(turn)
	}, "")
	f := start(t, oneSite(httpTo(b.address)))
	awaitTurn := func(i int) {
		t.Helper()
		await(t, "the request", func() bool { order.Lock(); defer order.Unlock(); return len(turns) > i })
	}
	answer := func(i int) {
		t.Helper()
		awaitTurn(i)
		close(turns[i])
	}
	var last string
	first, second := f.dial(), f.dial()
	first.send(get)
	awaitTurn(0)
	second.send(get)
	answer(1)
	second.expect(200)
	await(t, "an idle connection", func() bool { return f.server.Counts().Idle == 1 })
	answer(0)
	last = first.expect(200).body
	for i := range 3 {
		first.send(get)
		answer(2 + i)
		if got := first.expect(200).body; got != last {
			t.Errorf("connection %s was used, want %s, which was used last", got, last)
		}
	}
}

// TestIdleConnectionIsClosedBeforeTheBackendDoesIt: a request on it would meet the close.
func TestIdleConnectionIsClosedBeforeTheBackendDoesIt(t *testing.T) {
	b := startNumbered(t, nil, "Keep-Alive: timeout=1, max=100\r\n")
	f := start(t, oneSite(httpTo(b.address)))
	f.idles(t, b, 400*time.Millisecond)
	f.server.Skip(100 * time.Millisecond) // half of what the backend announced
	await(t, "the end of the connection", func() bool { return b.open.Load() == 0 })
}

// TestIdleConnectionHoldsUpNoBackendForLong: some wait for the end of their connections when they stop.
func TestIdleConnectionHoldsUpNoBackendForLong(t *testing.T) {
	b := startNumbered(t, nil, "")
	f := start(t, oneSite(httpTo(b.address)))
	f.idles(t, b, 900*time.Millisecond)
	f.server.Skip(100 * time.Millisecond)
	await(t, "the end of the connection", func() bool { return b.open.Load() == 0 })
}

// idles asks for something, turns the clock, and expects a backend to have its one connection still. Where the machine has paused for so long that it need not, it is
// asked again.
func (f *front) idles(t *testing.T, b *numbered, d time.Duration) {
	t.Helper()
	c := f.dial()
	for range 20 {
		await(t, "no connection that is ending", func() bool { return b.open.Load() == int64(f.server.Counts().Idle) })
		began := time.Now()
		c.send(get)
		c.expect(200)
		f.server.Skip(d)
		idle, open := f.server.Counts().Idle, b.open.Load()
		switch {
		case idle == 1 && open == 1:
			return
		case time.Since(began) < 100*time.Millisecond:
			t.Fatalf("%v later %d connections are idle, and the backend has %d", d, idle, open)
		}
	}
	t.Fatal("the machine is never quick enough")
}

// TestConnectionIsClosedWhenTheBackendHasClosedIt: it has no use, and some backends wait for the end of theirs.
func TestConnectionIsClosedWhenTheBackendHasClosedIt(t *testing.T) {
	idle, closed := make(chan bool), make(chan time.Duration, 2)
	serve := func(_ *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		rawHead(br)
		io.WriteString(conn, ok)
		pass(idle)
		begin := time.Now()
		conn.(interface{ CloseWrite() error }).CloseWrite()
		io.Copy(io.Discard, br)
		closed <- time.Since(begin)
	}
	plain, secure := startBackend(t, serve), startSecureBackend(t, serve)
	f := start(t, oneSite(httpTo(plain.address), `{path: /secure, http: {url: "https://`+secure.address+`", tls_verify: false}}`))
	for _, path := range []string{"/ ", "/secure "} {
		c := f.dial()
		c.send(strings.Replace(get, "/ ", path, 1))
		c.expect(200)
		await(t, "an idle connection", func() bool { return f.server.Counts().Idle == 1 })
		idle <- true
		if took := <-closed; took > time.Second/2 {
			t.Errorf("%s: closed after %v", path, took)
		}
	}
}

// TestConnectionThatCarriedAnUpgradeIsNeverUsedAgain: what the backend makes of what follows nobody knows.
func TestConnectionThatCarriedAnUpgradeIsNeverUsedAgain(t *testing.T) {
	for _, answer := range []string{ok, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n"} {
		b := startHeads(t, always(answer))
		f := start(t, oneSite(both(b.address), `{path: /relay, mode: relay, websocket: "ws://`+b.address+`"}`))
		for i, path := range []string{"/ws", "/relay", "/ws"} {
			c := f.dial()
			c.send(strings.Replace(upgrade, "/ws", path, 1))
			c.answer("GET")
			if n := b.accepted(); n != i+1 {
				t.Errorf("%d connections for %d handshakes", n, i+1)
			}
		}
		c := f.dial()
		c.send(get)
		if c.answer("GET"); b.accepted() != 4 {
			t.Error("a page came on the connection of a handshake")
		}
	}
}

// TestIdleConnectionsMakeRoom has a backend with one worker, which serves one connection after the other, idle or not.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	const post = "POST / HTTP/1.1\r\n" + host + "Content-Length: 2\r\n\r\nhi"
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var worker sync.Mutex
	b := startBackendOn(t, l, func(_ *backend, conn net.Conn) {
		worker.Lock()
		defer worker.Unlock()
		serveEchoOrSwitch(conn)
	})
	f := start(t, oneSite(both(b.address)))
	for range 3 {
		begin := time.Now()
		together(f, get, 10)
		together(f, post, 10)
		c := f.dial()
		c.send(upgrade)
		c.expect(101)
		c.Close()
		if took := time.Since(begin); took > 3*time.Second {
			t.Fatalf("21 requests to a backend with one worker took %v", took)
		}
	}
}

// serveEchoOrSwitch answers requests, and a handshake with a 101, after which it waits for the end.
func serveEchoOrSwitch(conn net.Conn) {
	br := bufio.NewReader(conn)
	for {
		head, err := rawHead(br)
		if err != nil {
			return
		}
		if field(head, "Upgrade") != nil {
			io.WriteString(conn, switching)
			io.Copy(io.Discard, br)
			return
		}
		if field(head, "Content-Length") != nil {
			io.CopyN(io.Discard, br, 2)
		}
		io.WriteString(conn, ok)
	}
}

// limited is a site whose upstream has the given settings.
func limited(b *backend, settings string) string {
	return oneSite(`{path: /, websocket: "ws://pages", http: "http://pages"}`) +
		"upstreams: {pages: {servers: [\"" + b.address + "\"], " + settings + "}}\n"
}

func TestRequestsBeyondMaxConnectionsWaitForTheirTurn(t *testing.T) {
	var served, most atomic.Int64
	b := startNumbered(t, func() {
		raise(&most, served.Add(1))
		time.Sleep(10 * time.Millisecond)
		served.Add(-1)
	}, "")
	f := start(t, limited(b.backend, "max_connections: 3"))
	together(f, get, 30)
	if n := most.Load(); n > 3 {
		t.Errorf("%d requests were served at a time", n)
	}
}

func TestRequestThatWaitsTooLongInTheQueueIs503(t *testing.T) {
	b := startHeads(t, func(head string) string {
		if field(head, "Upgrade") != nil {
			return switching
		}
		return ok
	})
	f := start(t, limited(b, "max_connections: 1"))
	tunnel := f.dial()
	tunnel.send(upgrade)
	tunnel.expect(101)
	for _, request := range []string{get, upgrade} {
		c := f.dial()
		c.send(request)
		await(t, "it to wait", func() bool { return f.snapshot("pages").Queued == 1 })
		c.waits(f, 25*time.Second)
		f.server.Skip(5 * time.Second)
		if a := c.expect(503); a.Header.Get("Retry-After") != "1" {
			t.Errorf("answered with %v", a.Header)
		}
	}
	if !strings.Contains(f.log.String(), "1 to each server of the upstream pages") {
		t.Error("the log does not say why")
	}
	for _, next := range []struct {
		request string
		status  int
	}{{upgrade, 101}, {get, 200}} {
		c := f.dial()
		c.send(next.request)
		await(t, "it to wait", func() bool { return f.snapshot("pages").Queued == 1 })
		c.waits(f, 25*time.Second)
		tunnel.Close()
		c.expect(next.status)
		tunnel = c
	}
}

func TestRaisedMaxConnectionsHelpsThoseWhoWait(t *testing.T) {
	b := startNumbered(t, gathering(4), "")
	f := start(t, limited(b.backend, "max_connections: 1"))
	done := make(chan []string)
	go func() { done <- together(f, get, 4) }()
	await(t, "the first request", func() bool { return b.made.Load() == 1 })
	f.apply(t, plainListener+limited(b.backend, "max_connections: 4"))
	<-done
	if most := b.most.Load(); most != 4 {
		t.Errorf("%d connections at a time, want 4", most)
	}
}

func TestClientThatLeavesTheQueueKeepsNoPlace(t *testing.T) {
	for _, request := range []string{get, upgrade} {
		release := make(chan bool)
		b := startHeads(t, func(string) string {
			pass(release)
			return ok
		})
		f := start(t, limited(b, "max_connections: 1"))
		first := f.dial()
		first.send(get)
		await(t, "the first request", func() bool { return len(b.seen()) == 1 })
		for range 5 {
			c := f.dial()
			c.send(request)
			c.waits(f, 0)
			c.Close()
		}
		await(t, "their end", func() bool { return f.server.Counts().Clients == 1 })
		close(release)
		first.expect(200)
		first.send(get)
		first.expect(200)
		if n := len(b.seen()); n != 2 {
			t.Errorf("the backend saw %d requests, want 2", n)
		}
	}
}
