//go:build !portable

package proxy_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
)

// readChars returns how many bytes the process has read with read(2). Neither splice(2) nor recvfrom(2) counts there.
func readChars(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Skip(err)
	}
	var n int64
	for line := range strings.Lines(string(text)) {
		fmt.Sscanf(line, "rchar: %d", &n)
	}
	return n
}

// receive reads n bytes with recvfrom(2).
func receive(conn net.Conn, n int) (err error) {
	raw, _ := conn.(syscall.Conn).SyscallConn()
	buf := make([]byte, 256<<10)
	readErr := raw.Read(func(fd uintptr) bool {
		for n > 0 {
			var got int
			got, _, err = syscall.Recvfrom(int(fd), buf[:min(n, len(buf))], 0)
			if err == syscall.EAGAIN {
				return false
			}
			if err == nil && got == 0 {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				return true
			}
			n -= got
		}
		return true
	})
	if err == nil {
		err = readErr
	}
	return err
}

const bulk = 64 << 20

// bulkHeader is the header of a binary frame with a payload of bulk bytes.
func bulkHeader(masked bool) []byte {
	head := binary.BigEndian.AppendUint64([]byte{0x82, 127}, bulk)
	if masked {
		head[1] |= 0x80
		head = append(head, 0, 0, 0, 0)
	}
	return head
}

func sendBulk(conn net.Conn) {
	piece := make([]byte, 256<<10)
	for range bulk / len(piece) {
		if _, err := conn.Write(piece); err != nil {
			return
		}
	}
}

func TestBulkOfATunnelStaysInTheKernel(t *testing.T) {
	received := make(chan error, 1)
	b := startSocket(t, func(conn net.Conn, br *bufio.Reader) {
		head := bulkHeader(true)
		io.ReadFull(br, make([]byte, len(head)))
		received <- receive(conn, bulk-br.Buffered())
		conn.Write(bulkHeader(false))
		sendBulk(conn)
	})
	c := start(t, oneSite(socketTo(b.address))).dial()
	c.send(upgrade)
	c.head()
	before := readChars(t)
	c.Write(bulkHeader(true))
	sendBulk(c)
	if err := <-received; err != nil {
		t.Fatal(err)
	}
	toBackend := readChars(t) - before
	io.ReadFull(c.br, make([]byte, len(bulkHeader(false))))
	if err := receive(c.Conn, bulk-c.br.Buffered()); err != nil {
		t.Fatal(err)
	}
	toClient := readChars(t) - before - toBackend
	if toBackend > bulk/8 || toClient > bulk/8 {
		t.Errorf("of %d bytes each way, %d and %d were copied through the process", bulk, toBackend, toClient)
	}
}

// TestBulkThatIsCopiedIsSeen proves the measure of the test above.
func TestBulkThatIsCopiedIsSeen(t *testing.T) {
	b := startBackend(t, func(_ *backend, conn net.Conn) { sendBulk(conn) })
	before := readChars(t)
	if n, _ := io.Copy(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{dial(t, b.address)}); n != bulk {
		t.Fatalf("read %d bytes", n)
	}
	if n := readChars(t) - before; n < bulk {
		t.Errorf("counted %d bytes of %d", n, bulk)
	}
}
