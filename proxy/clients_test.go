package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"wstunnel/internal/ws"
)

// startEchoSocket is a backend that sends every short masked text back, and answers pings.
func startEchoSocket(t *testing.T) *backend {
	t.Helper()
	return startSocket(t, func(conn net.Conn, br *bufio.Reader) {
		for {
			var head [6]byte
			if _, err := io.ReadFull(br, head[:]); err != nil || head[0] != 0x81 && head[0] != 0x89 {
				return
			}
			payload := make([]byte, head[1]&0x7F)
			if _, err := io.ReadFull(br, payload); err != nil {
				return
			}
			for i := range payload {
				payload[i] ^= head[2+i&3]
			}
			answer := ws.OpText
			if head[0] == 0x89 {
				answer = ws.OpPong
			}
			conn.Write(ws.AppendFrame(nil, answer, payload, nil))
		}
	})
}

// expectEcho checks that a tunnel is open.
func (c *client) expectEcho(said string) {
	c.t.Helper()
	c.send(text(said))
	if op, payload := frame(c.t, c.br); op != ws.OpText || payload != said {
		c.t.Errorf("sent %q, got opcode %d with %q", said, op, payload)
	}
}

func (c *client) expectSwitch() {
	c.t.Helper()
	if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		c.t.Fatalf("got %q", head)
	}
}

func TestUpgradeRequestMayComeInPieces(t *testing.T) {
	f := start(t, oneSite(socketTo(startEchoSocket(t).address)))
	for _, piece := range []int{1, 7, 50} {
		c := f.dial()
		for rest := upgrade; rest != ""; {
			n := min(piece, len(rest))
			c.send(rest[:n])
			rest = rest[n:]
			f.server.Skip(0)
		}
		c.expectSwitch()
		c.expectEcho("hello")
	}
}

func TestUpgradeOnAConnectionThatWasUsedBefore(t *testing.T) {
	pages := startEcho(t)
	f := startTLS(t, secureSite(socketTo(startEchoSocket(t).address), httpTo(pages.address)))
	plain := f.dial()
	plain.send(strings.Replace(get, "example.com", "127.0.0.1", 1))
	plain.expect(404)
	for range 3 {
		c := f.dialSecure()
		c.send(get)
		c.expect(200)
		c.send(upgrade)
		c.expectSwitch()
		c.expectEcho(strings.Repeat("x", 100))
	}
}

func TestDeadServerOfAnUpstreamIsPassedOver(t *testing.T) {
	live := startEchoSocket(t)
	f := start(t, fmt.Sprintf("upstreams: {chat: {servers: [%q, %q]}}\n", closedPort(t), live.address)+
		oneSite(`{path: /ws, websocket: "ws://chat"}`))
	for range 4 {
		c := f.dial()
		c.send(upgrade)
		c.expectSwitch()
		c.expectEcho("hello")
	}
}

// TestBackendMayBeNamed takes a name that is not there of a kind for which no name server is asked (RFC 7686): it may lose the question.
func TestBackendMayBeNamed(t *testing.T) {
	b := startEchoSocket(t)
	_, port, _ := net.SplitHostPort(b.address)
	f := start(t, oneSite(socketTo("localhost:"+port), `{path: /nowhere, websocket: "ws://no-such-host.onion:9000"}`))
	c := f.dial()
	c.send(upgrade)
	c.expectSwitch()
	c.expectEcho("hello")
	c = f.dial()
	c.send(strings.Replace(upgrade, "/ws", "/nowhere", 1))
	c.expect(502)
}

func TestConnectionsAboveTheLimitAreRefused(t *testing.T) {
	f := start(t, "limits: {max_connections: 3}\n"+oneSite(socketTo(startEchoSocket(t).address)))
	var open []*client
	for range 3 {
		c := f.dial()
		c.send(upgrade)
		c.expectSwitch()
		open = append(open, c)
	}
	f.expectRefusal()
	open[1].expectEcho("still here")
	open[0].Close()
	await(t, "room for another connection", func() bool {
		conn, err := net.Dial("tcp", f.plain)
		if err != nil {
			return false
		}
		defer conn.Close()
		io.WriteString(conn, upgrade)
		line, _ := bufio.NewReader(conn).ReadString('\n')
		return strings.HasPrefix(line, "HTTP/1.1 101 ")
	})
	if !strings.Contains(f.log.String(), `"connections refused"`) {
		t.Error("the log does not say that connections were refused")
	}
}

func TestConnectionsOfOneClientAreLimited(t *testing.T) {
	f := start(t, "limits: {max_connections_per_client: 2}\n"+oneSite(socketTo(startEchoSocket(t).address)))
	for range 2 {
		c := f.dial()
		c.send(upgrade)
		c.expectSwitch()
	}
	f.expectRefusal()
	other := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
	conn, err := other.Dial("tcp", f.plain)
	if err != nil {
		t.Fatal(err)
	}
	c := clientOver(t, conn)
	c.send(upgrade)
	c.expectSwitch()
}

// TestConnectionsThatCameBeforeALimitDoNotCount: they make no room either when they go.
func TestConnectionsThatCameBeforeALimitDoNotCount(t *testing.T) {
	config := oneSite(socketTo(startEchoSocket(t).address))
	f := start(t, config)
	before := f.dial()
	before.send(upgrade)
	before.expectSwitch()
	f.apply(t, plainListener+"limits: {max_connections_per_client: 1}\n"+config)
	c := f.dial()
	c.send(upgrade)
	c.expectSwitch()
	before.Close()
	await(t, "the end of the first tunnel", func() bool { return f.server.TunnelCount() == 1 })
	f.expectRefusal()
	c.expectEcho("the one")
}

// TestBackendConnectionsAreBounded, since one HTTP/2 client may ask for many.
func TestBackendConnectionsAreBounded(t *testing.T) {
	release := make(chan bool)
	slow := startHeads(t, func(string) string {
		<-release
		return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	})
	f := startTLS(t, secureSite(socketTo(startEchoSocket(t).address), httpTo(slow.address)))
	f.server.SetCapacity(2)
	f.apply(t, bothListeners+"tls: {storage: "+t.TempDir()+"}\n"+secureSite(socketTo(startEchoSocket(t).address), httpTo(slow.address)))
	streams, _ := f.dialH2()
	ask := func(stream uint32) {
		streams.request(stream, ":method", "GET", ":scheme", "https", ":authority", "example.com", ":path", "/")
	}
	ask(1)
	ask(3)
	await(t, "two requests", func() bool { return slow.accepted() == 2 })
	ask(5)
	if status := streams.status(5); status != "503" {
		t.Errorf("a third request was answered with %s", status)
	}
	c := f.dialSecure()
	c.send(upgrade)
	c.expect(503)
	c.Close()
	alone := func() { await(t, "the last client's leaving", func() bool { return f.server.Counts().Clients == 1 }) }
	close(release)
	if status := streams.status(3); status != "200" {
		t.Errorf("the second request was answered with %s", status)
	}
	await(t, "room for a tunnel instead of an idle connection", func() bool {
		alone()
		c := f.dialSecure()
		defer c.Close()
		c.send(upgrade)
		line, _ := c.br.ReadString('\n')
		return strings.HasPrefix(line, "HTTP/1.1 101 ")
	})
}

// expectRefusal checks that a connection ends without an answer.
func (f *front) expectRefusal() {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.plain)
	if err != nil {
		return // reset at once
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	io.WriteString(conn, get)
	if got, err := io.ReadAll(conn); len(got) > 0 || os.IsTimeout(err) {
		f.t.Errorf("got %q, %v", got, err)
	}
}
