package proxy_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
)

// TestPrivateFieldsPassNowhereOnTheWire: in hints, heads and trailers of answers, to whatever was asked, and in heads and trailers of requests.
func TestPrivateFieldsPassNowhereOnTheWire(t *testing.T) {
	const private = "X-Wstunnel-User: anna\r\nx-wstunnel-later: 1\r\nGrip-Channel: all\r\n"
	b := startBackend(t, func(b *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		head, err := rawHead(br)
		b.note(head)
		if err != nil {
			return
		}
		if strings.HasPrefix(head, "POST") {
			for line := ""; err == nil && line != "0\r\n"; {
				line, err = br.ReadString('\n')
			}
			trailers, _ := rawHead(br)
			b.note(trailers)
		}
		io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n"+private+"\r\n")
		switch {
		case strings.Contains(head, "/refused"):
			io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nConnection: close\r\nContent-Length: 2\r\n"+private+"\r\nno")
		default:
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\nTrailer: X-Wstunnel-User, X-Sum\r\n"+private+"\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n"+private+"\r\n")
		}
	})
	f := start(t, streaming+oneSite(`{path: /, websocket: "ws://`+b.address+`", http: "http://`+b.address+`"}`))
	for what, request := range map[string]string{
		"a page":              "GET / HTTP/1.1\r\nHost: example.com\r\nTE: trailers\r\nConnection: close, te\r\n\r\n",
		"a refused handshake": strings.Replace(upgrade, "GET /ws ", "GET /refused ", 1),
		"an upload": "POST / HTTP/1.1\r\nHost: example.com\r\nTE: trailers\r\nConnection: close, te\r\nTransfer-Encoding: chunked\r\nTrailer: X-Wstunnel-User\r\n\r\n" +
			"4\r\nbody\r\n0\r\nX-Wstunnel-User: root\r\nGrip-Channel: root\r\nX-Mine: 1\r\n\r\n",
	} {
		c := f.dial()
		c.send(request)
		text := ""
		for err := error(nil); err == nil && !strings.HasSuffix(text, "\r\nno") && !strings.Contains(text, "\r\n0\r\n"); {
			var b byte
			b, err = c.br.ReadByte()
			text += strings.ToLower(string(b))
		}
		for rest := c.br.Buffered(); rest > 0; rest-- { // trailers
			b, _ := c.br.ReadByte()
			text += strings.ToLower(string(b))
		}
		if !strings.Contains(text, "link: </a.css>") || strings.Contains(text, "wstunnel-") || strings.Contains(text, "grip") {
			t.Errorf("%s is answered with\n%s", what, text)
		}
	}
	if seen := strings.Join(b.seen(), ""); !strings.Contains(seen, "X-Mine: 1") {
		t.Errorf("the backend was sent no trailers: %s", seen)
	}
	for _, head := range b.seen() {
		if strings.Contains(head, "root") {
			t.Errorf("the backend was sent\n%s", head)
		}
	}
}
