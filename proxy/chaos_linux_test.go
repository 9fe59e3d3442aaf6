package proxy_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"wstunnel/proxy"
)

func TestShutdownWhileClientsAreOpening(t *testing.T) {
	mute := startBackend(t, func(_ *backend, conn net.Conn) { io.Copy(io.Discard, conn) })
	f := start(t, fmt.Sprintf("timeouts: {connect: 10m, handshake: 10m}\nupstreams: {two: {servers: [%q, %q]}}\n", silentPort(t), mute.address)+
		oneSite(`{path: /ws, websocket: "ws://two"}`, `{path: /named, websocket: "ws://localhost:1"}`))
	var clients []*client
	for i := range 200 {
		c := f.dial()
		c.send(strings.Replace(upgrade, "/ws", []string{"/ws", "/ws", "/named"}[i%3], 1))
		if i%2 == 0 {
			c.send(text("early"))
		}
		clients = append(clients, c)
	}
	await(t, "those that are kept waiting", func() bool { return f.server.Counts().Opening >= len(clients)*2/3 })
	took, _ := shutdown(f, 500*time.Millisecond)
	if took > patience {
		t.Errorf("took %s", took)
	}
	for i, c := range clients {
		if _, err := io.ReadAll(c.br); os.IsTimeout(err) {
			t.Fatalf("client %d is still connected", i)
		}
	}
	await(t, "the counts", func() bool { return f.server.Counts() == proxy.Counts{} })
}

// erratic is a backend that ends its part at a random place.
func erratic(t *testing.T) *backend {
	var mu sync.Mutex
	random := rand.New(rand.NewPCG(1, 1))
	return startBackend(t, func(_ *backend, conn net.Conn) {
		mu.Lock()
		step := random.IntN(9)
		mu.Unlock()
		br := bufio.NewReader(conn)
		if step > 0 {
			rawHead(br)
		}
		switch step {
		case 0, 1:
			conn.(*net.TCPConn).SetLinger(0)
		case 2:
			io.WriteString(conn, switching[:20])
		case 3:
			io.WriteString(conn, switching[:20])
			time.Sleep(2 * time.Millisecond)
			conn.(*net.TCPConn).SetLinger(0)
		case 4:
			io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
		case 5:
			io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\n\r\n"+switching)
			time.Sleep(5 * time.Millisecond)
		case 6:
			io.WriteString(conn, switching+serverText("hi"))
			conn.(*net.TCPConn).SetLinger(0)
		case 7:
			io.WriteString(conn, ok)
			io.Copy(io.Discard, conn)
		default:
			io.WriteString(conn, switching+serverText("hi"))
			io.Copy(io.Discard, br)
		}
	})
}

// visit is one client that does something at random, and leaves.
func (f *front) visit(random *rand.Rand) {
	address, secure := f.plain, random.IntN(4) == 0
	if secure {
		address = f.secure
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(time.Duration(1+random.IntN(600)) * time.Millisecond))
	var c io.ReadWriter = conn
	if secure {
		c = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: "example.com"})
	}
	request := strings.Replace(upgrade, "/ws", []string{"/ws", "/relay", "/named", "/silent", "/"}[random.IntN(5)], 1)
	if random.IntN(5) == 0 {
		request = get
	}
	if random.IntN(3) == 0 {
		request += text("early")
	}
	if random.IntN(4) == 0 {
		request = request[:random.IntN(len(request))]
	}
	cut := random.IntN(len(request) + 1)
	io.WriteString(c, request[:cut])
	time.Sleep(time.Duration(random.IntN(3)) * time.Millisecond)
	io.WriteString(c, request[cut:])
	switch random.IntN(4) {
	case 0:
		conn.(*net.TCPConn).SetLinger(0)
	case 1:
		conn.(*net.TCPConn).CloseWrite()
		io.Copy(io.Discard, c)
	case 2:
		time.Sleep(time.Duration(random.IntN(5)) * time.Millisecond)
		conn.(*net.TCPConn).SetLinger(0)
	default:
		io.Copy(io.Discard, c)
	}
}

// leavesNothing waits until nothing is counted and no more descriptors are open than before; the clock is turned meanwhile.
func (f *front) leavesNothing(t *testing.T, before int) {
	t.Helper()
	defer f.hurry()()
	await(t, "the end of all", func() bool { return f.server.Counts() == proxy.Counts{} })
	await(t, "the end of all descriptors, but for pipes", func() bool { return openFiles(t)-openPipes(t) <= before })
	if pipes, most := openPipes(t), 2*16*runtime.GOMAXPROCS(0); pipes > most {
		t.Errorf("%d ends of pipes are kept, want %d at most", pipes, most)
	}
}

// TestChaosIsCountedOut: clients and backends that leave at any moment, reloads, and now and then no descriptor to be had. At the end nothing is left.
func TestChaosIsCountedOut(t *testing.T) {
	silent, b := silentPort(t), erratic(t)
	_, port, _ := net.SplitHostPort(b.address)
	storage := t.TempDir()
	config := func(n int) string {
		locations := []string{
			`{path: /ws, websocket: "ws://two"}`,
			fmt.Sprintf(`{path: /relay, websocket: "ws://%s", mode: relay}`, []string{b.address, "localhost:" + port}[n%2]),
			`{path: /named, websocket: "ws://localhost:` + port + `"}`, `{path: /silent, websocket: "ws://` + silent + `"}`, httpTo(b.address),
		}
		return bothListeners + "tls: {storage: " + storage + "}\n" +
			[]string{"", "limits: {max_connections_per_client: 100}\n", "limits: {max_connections_per_client: 8}\n"}[n%3] +
			"timeouts: {connect: 300ms, handshake: 300ms, request_head: 1s, response_head: 1s, keepalive: 1s}\n" +
			fmt.Sprintf("upstreams: {two: {servers: [%q, %q, \"localhost:1\"]}}\n", silent, b.address) +
			secureSite(locations[min(1, n%3):]...)
	}
	f := startWith(t, config(0))
	f.server.SetCapacity(60)
	f.apply(t, config(0))
	before := openFiles(t) - openPipes(t)
	stop := make(chan struct{})
	var visitors sync.WaitGroup
	for seed := range uint64(12) {
		visitors.Go(func() {
			random := rand.New(rand.NewPCG(seed, 7))
			for {
				select {
				case <-stop:
					return
				default:
					f.visit(random)
				}
			}
		})
	}
	for n := range 100 {
		time.Sleep(30 * time.Millisecond)
		f.apply(t, config(n))
		if n%4 == 3 {
			scarce(t, 0, func() { time.Sleep(10 * time.Millisecond) })
		}
	}
	close(stop)
	visitors.Wait()
	f.leavesNothing(t, before)
	for _, fault := range []string{"panic in a callback", "internal fault"} {
		if _, found, ok := strings.Cut(f.log.String(), fault); ok {
			t.Errorf("%s%s", fault, found[:min(len(found), 2500)])
		}
	}
}
