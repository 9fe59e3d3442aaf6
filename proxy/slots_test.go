package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"wstunnel/proxy"
)

// TestConnectionThatBreaksGivesItsPlaceBack: max_connections counts those that are open.
func TestConnectionThatBreaksGivesItsPlaceBack(t *testing.T) {
	tests := map[string]string{
		"before the answer": "",
		"in the head":       "HTTP/1.1 200 OK\r\nConte",
		"in the body":       "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
		"no HTTP":           "SSH-2.0-x\r\n",
	}
	for name, text := range tests {
		t.Run(name, func(t *testing.T) {
			b := startBackend(t, func(b *backend, conn net.Conn) {
				head, _ := rawHead(bufio.NewReader(conn))
				if b.note(head); len(b.seen()) < 4 {
					io.WriteString(conn, text)
					return
				}
				io.WriteString(conn, ok)
			})
			f := start(t, fmt.Sprintf("upstreams: {one: {servers: [%q], max_connections: 1, queue: 300ms}}\n", b.address)+
				oneSite(`{path: /, http: "http://one"}`))
			for i := range 3 {
				c := f.dial()
				c.send("POST / HTTP/1.1\r\nConnection: close\r\n", host, "\r\n")
				if text == "" && i == 0 { // the server is asked whether it speaks FastCGI
					await(t, "the question", func() bool { return b.accepted() == 2 })
					f.server.Skip(time.Second)
				}
				c.rest()
			}
			c := f.dial()
			c.send(get)
			c.expect(200)
			c.Close()
			await(t, "the counts", func() bool {
				n := f.server.Counts()
				return n == proxy.Counts{Backends: n.Idle, Idle: n.Idle}
			})
		})
	}
}
