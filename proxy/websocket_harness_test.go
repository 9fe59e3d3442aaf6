package proxy_test

import (
	"bufio"
	"io"
	"net"
	"net/textproto"
	"strings"
	"testing"

	"wstunnel/internal/ws"
)

// The handshake of RFC 6455, section 1.3.
const (
	sampleKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	sampleAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// upgradeLines are the headers of a handshake.
const upgradeLines = "Upgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Key: " + sampleKey + "\r\nSec-WebSocket-Version: 13\r\n"

// upgrade is a handshake on /ws.
const upgrade = "GET /ws HTTP/1.1\r\nHost: example.com\r\n" + upgradeLines + "\r\n"

// switching is the answer to it.
const switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
	"Sec-WebSocket-Accept: " + sampleAccept + "\r\n\r\n"

// startSocket is a backend that answers handshakes and hands the connection over; br may hold early bytes.
func startSocket(t *testing.T, serve func(conn net.Conn, br *bufio.Reader)) *backend {
	t.Helper()
	return startBackend(t, socketServer(serve))
}

// startSecureSocket is startSocket over TLS.
func startSecureSocket(t *testing.T, serve func(conn net.Conn, br *bufio.Reader)) *backend {
	t.Helper()
	return startSecureBackend(t, socketServer(serve))
}

func socketServer(serve func(conn net.Conn, br *bufio.Reader)) func(*backend, net.Conn) {
	return func(b *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		head, err := rawHead(br)
		b.note(head)
		if err != nil {
			return
		}
		io.WriteString(conn, switching)
		serve(conn, br)
	}
}

// text is a client's text message.
func text(message string) string {
	return string(ws.AppendFrame(nil, ws.OpText, []byte(message), &[4]byte{1, 2, 3, 4}))
}

// serverText is a backend's text message.
func serverText(message string) string {
	return string(ws.AppendFrame(nil, ws.OpText, []byte(message), nil))
}

// mustRead reads n bytes.
func mustRead(t *testing.T, r io.Reader, n int) string {
	t.Helper()
	p := make([]byte, n)
	if n, err := io.ReadFull(r, p); err != nil {
		t.Fatalf("read %q, then %v", p[:n], err)
	}
	return string(p)
}

// frame reads one short frame and returns its opcode and unmasked payload.
func frame(t *testing.T, r io.Reader) (ws.Opcode, string) {
	t.Helper()
	head := mustRead(t, r, 2)
	size := int(head[1] & 0x7F)
	if size > 125 {
		t.Fatalf("frame header % x", head)
	}
	mask := "\x00\x00\x00\x00"
	if head[1]&0x80 != 0 {
		mask = mustRead(t, r, 4)
	}
	payload := []byte(mustRead(t, r, size))
	for i := range payload {
		payload[i] ^= mask[i&3]
	}
	return ws.Opcode(head[0] & 0xF), string(payload)
}

// field returns the values of a header in a raw head, by its name in any spelling.
func field(head, name string) []string {
	h, _ := textproto.NewReader(bufio.NewReader(strings.NewReader(afterFirstLine(head)))).ReadMIMEHeader()
	return h.Values(name)
}

func afterFirstLine(head string) string {
	_, rest, _ := strings.Cut(head, "\n")
	return rest
}

// answerOrSwitch answers a page with ok and a handshake with a 101.
func answerOrSwitch(head string) string {
	if field(head, "Upgrade") != nil {
		return switching
	}
	return ok
}
