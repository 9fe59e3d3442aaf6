//go:build linux && !portable

package proxy_test

import (
	"bufio"
	"crypto/tls"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"
)

// deaf is a client over HTTP/2 that takes nothing of a long answer, be it for want of its system's room.
func (f *front) deaf() *h2Client {
	c, _ := f.dialH2()
	c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
	c.WriteWindowUpdate(0, 1<<30)
	c.request(1, getPath("/")...)
	await(f.t, "the answer", func() bool { return f.server.Counts().Kept > 0 })
	return c
}

// TestClientThatTakesNothingIsLeftThoughItPings: what it says is no sign that it takes what it is sent.
func TestClientThatTakesNothingIsLeftThoughItPings(t *testing.T) {
	f := startTLS(t, secureSite(httpTo(startBackend(t, endless).address)))
	c := f.deaf()
	awaitFlat(func() uint64 { return uint64(f.server.Counts().Kept) }) // the buffers are full
	for range 5 {
		c.WritePing(false, [8]byte{})
		f.server.Skip(10 * time.Second)
	}
	if n := f.server.Counts().Clients; n != 1 {
		t.Errorf("%d clients, though it had a minute to take something", n)
	}
	for range 8 {
		c.WritePing(false, [8]byte{})
		f.server.Skip(10 * time.Second)
	}
	await(t, "the connection's end", func() bool { return f.server.Counts().Clients == 0 })
}

// zeros are without an end.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestClientThatTakesItsAnswerSlowlyIsServed.
func TestClientThatTakesItsAnswerSlowlyIsServed(t *testing.T) {
	var sent counted
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		rawHead(bufio.NewReader(conn))
		io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
		io.Copy(io.MultiWriter(conn, &sent), zeros{})
	})
	f := startTLS(t, "spool_max: off\n"+secureSite(httpTo(b.address)))
	c := f.deaf()
	awaitFlat(func() uint64 { return uint64(sent.Load()) })
	for range 6 {
		c.WritePing(false, [8]byte{})
		f.server.Skip(40 * time.Second)
		for before := sent.Load(); sent.Load() == before; { // its system says so in steps, and a little later
			c.conn.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.CopyN(io.Discard, c.conn, 64<<10); err != nil {
				t.Fatal(err)
			}
		}
	}
	if n := f.server.Counts().Clients; n != 1 {
		t.Errorf("%d clients", n)
	}
}

// TestClientThatTakesNoAnswersIsNotReadOn: what it has answered to it is bounded by what it takes.
func TestClientThatTakesNoAnswersIsNotReadOn(t *testing.T) {
	if !alone(t) {
		return
	}
	const clients, most = 4, 3 << 19
	f := startTLS(t, "access_log: off\n"+secureSite(`{path: /files/, static: "`+t.TempDir()+`"}`))
	narrow := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error { // so that little is on its way
		return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10) })
	}}
	before := heap()
	for range clients {
		conn, err := tls.DialWithDialer(&narrow, "tcp", f.secure, &tls.Config{ServerName: "example.com", InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		c, _ := speakH2(t, conn)
		go func() {
			head := append([]string{":method", "HEAD"}, getPath("/files?" + strings.Repeat("long", 700))[2:]...) // is redirected
			for i := uint32(1); c.request(i, head...) == nil; i += 2 {
			}
		}()
	}
	held := awaitFlat(func() uint64 {
		now := heap()
		return now - min(before, now)
	})
	if held/clients > most {
		t.Errorf("each holds %d bytes", held/clients)
	}
	if n := f.server.Counts().Clients; n != clients {
		t.Errorf("%d of %d clients are left", n, clients)
	}
}

// TestOneConnectionKeepsNotAllThatSlowClientsMay, however many answers it does not take. Of each there is a read more than that, or what is on its way to a file.
func TestOneConnectionKeepsNotAllThatSlowClientsMay(t *testing.T) {
	for spooled, each := range map[string]int64{"off": 128 << 10, "1MiB": 384 << 10} {
		f := startTLS(t, "buffer: {response: 1MiB}\nspool_max: "+spooled+"\n"+secureSite(httpTo(startBackend(t, endless).address)))
		c, _ := f.dialH2()
		c.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0})
		const streams = 50
		for i := range uint32(streams) {
			c.request(2*i+1, getPath("/")...)
		}
		await(t, "that much is kept", func() bool { return f.server.Counts().Kept >= 4<<20 })
		awaitFlat(func() uint64 { return uint64(f.server.Counts().Kept) })
		if kept := f.server.Counts().Kept; kept > 4<<20+streams*each {
			t.Errorf("spool_max %s: %d bytes are kept", spooled, kept)
		}
		c.conn.Close()
		await(t, "nothing kept", func() bool { return f.server.Counts().Kept == 0 })
	}
}
