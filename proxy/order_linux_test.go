//go:build !portable

package proxy_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestPairsOfRequestsKeepTheirOrder: two connections of a client, new ones or used ones, send at the same time, to a backend that takes one
// request after the other.
func TestPairsOfRequestsKeepTheirOrder(t *testing.T) {
	for name, kept := range map[string]bool{"new connections": false, "kept connections": true} {
		t.Run(name, func(t *testing.T) { checkOrder(t, kept) })
	}
}

func checkOrder(t *testing.T, kept bool) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const pairs = 200
	seen := make(chan string, 2*pairs)
	ended := make(chan bool)
	go func() {
		defer close(ended)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conn.SetDeadline(time.Now().Add(patience))
			head, _ := rawHead(bufio.NewReader(conn))
			seen <- strings.Fields(head + " - -")[1]
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
			conn.Close()
		}
	}()
	f := start(t, oneSite(`{path: /, http: {url: "http://`+l.Addr().String()+`", keepalive: off}}`))
	swapped := 0
	first, second := f.dial(), f.dial()
	for i := range pairs {
		if i > 0 && !kept {
			first.Close()
			second.Close()
			first, second = f.dial(), f.dial()
		}
		first.send(strings.Replace(get, "/ ", "/first ", 1))
		second.send(strings.Replace(get, "/ ", "/second ", 1))
		first.expect(200)
		second.expect(200)
		if <-seen == "/second" {
			swapped++
		}
		<-seen
	}
	l.Close()
	<-ended
	if swapped > pairs/100 {
		t.Errorf("%d of %d pairs arrived in the wrong order", swapped, pairs)
	}
}
