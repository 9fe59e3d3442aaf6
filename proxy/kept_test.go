package proxy_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
)

// longPath is a path of 60 KB below /ws.
var longPath = "/ws/" + strings.Repeat("long-segment/", 60_000/13)

// TestIdleTunnelKeepsNoLongPath: what it keeps of a path is little, in either mode and whoever opened it.
func TestIdleTunnelKeepsNoLongPath(t *testing.T) {
	for name, options := range map[string]string{"tunnel": "", "relay": "mode: relay, "} {
		t.Run(name, func(t *testing.T) {
			b := startBackend(t, func(_ *backend, conn net.Conn) { // one that notes no heads
				rawHead(bufio.NewReader(conn))
				io.WriteString(conn, switching)
				io.Copy(io.Discard, conn)
			})
			f := startTLS(t, secureSite(`{path: /ws, `+options+`websocket: "ws://`+b.address+`"}`))
			each := func(path string) uint64 {
				const n = 50
				open := f.server.TunnelCount()
				before := heap()
				for range n {
					c := dial(t, f.plain)
					c.send(strings.Replace(upgrade, "/ws", path, 1))
					c.head()
				}
				await(t, "the tunnels", func() bool { return f.server.TunnelCount() == open+n })
				after := heap()
				return (after - min(before, after)) / n
			}
			each("/ws") // what is made once
			short, long := each("/ws"), each(longPath)
			if long > short+uint64(len(longPath)/2) { // buffers of both ends, which are not always there, are among it
				t.Errorf("a tunnel keeps %d bytes, with a path of %d bytes %d", short, len(longPath), long)
			}
			if got := f.server.Tunnels(); got[len(got)-1].Path != longPath[:256] {
				t.Errorf("the path of a tunnel is told as %q", got[len(got)-1].Path)
			}
		})
	}
}

// TestStringsInTheLogAreShort, however long a peer makes them.
func TestStringsInTheLogAreShort(t *testing.T) {
	b := startHeads(t, always("HTTP/1.1 101 Switching Protocols\r\nUpgrade: "+strings.Repeat("u", 60_000)+"\r\n\r\n"))
	f := start(t, oneSite(both(b.address)))
	for _, request := range []string{
		strings.Replace(upgrade, "/ws", longPath, 1),
		strings.Replace(get, "/ ", longPath+" ", 1),
		strings.Repeat("M", 60_000) + " / HTTP/1.1\r\n" + host + "\r\n",
		"GET / HTTP/1.1\r\nHost: " + strings.Repeat("h", 60_000) + "\r\n\r\n",
	} {
		c := f.dial()
		c.send(request)
		c.answer("GET")
	}
	await(t, "four lines", func() bool { return strings.Count(f.log.String(), `"msg":"request`) == 4 })
	for line := range strings.Lines(f.log.String()) {
		for _, text := range strings.Split(line, `"`) {
			if len(text) > 1<<10 {
				t.Errorf("a string of %d bytes: %.100s", len(text), text)
			}
		}
	}
}
