package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestSilentConnectionsCostLittle: 10,000 of them, or what the limit on open files allows, most with a part of a head, are held
// and then cut.
func TestSilentConnectionsCostLittle(t *testing.T) {
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	n := int(min(10_000, files.Cur*9/20))
	f := start(t, "timeouts: {request_head: 1m}\n"+oneSite(socketTo(startEchoSocket(t).address)))
	goroutines := runtime.NumGoroutine()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	conns := make([]net.Conn, 0, n)
	defer func() {
		for _, conn := range conns {
			conn.Close()
		}
	}()
	for i := range n {
		conn, err := net.Dial("tcp", f.plain)
		if err != nil {
			t.Fatalf("after %d connections: %v", i, err)
		}
		conns = append(conns, conn)
		io.WriteString(conn, []string{"", "GET /ws HTTP/1.1\r\nHost: exam", "\r", "\r\n", "\r\nGET /ws"}[i%5])
	}
	c := f.dial()
	c.send(upgrade)
	c.expectSwitch()
	c.expectEcho("among them all")
	runtime.GC()
	runtime.ReadMemStats(&after)
	most, perConnection := int64(1500), 0
	if portable {
		most, perConnection = 2000, 1
	}
	if each := (int64(after.HeapAlloc) - int64(before.HeapAlloc)) / int64(n); each > most {
		t.Errorf("a silent connection costs %d bytes, the test's own end included", each)
	}
	const echoing = 1 // for the backend's end of the tunnel
	// The loops have both ends of the tunnel too, and the listener.
	await(t, fmt.Sprintf("no more than %d goroutines for %d silent connections", (n+3)*perConnection, n), func() bool { // some live for a moment
		return runtime.NumGoroutine()-goroutines-echoing <= (n+3)*perConnection
	})
	f.server.Skip(time.Minute)
	for i, conn := range conns {
		conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
			t.Fatalf("connection %d is still open: %v", i, err)
		}
	}
	c.expectEcho("and after them")
}

// TestClientsConnectionsAreSupervised, those of tunnels over TLS too, and their small frames are not held back.
func TestClientsConnectionsAreSupervised(t *testing.T) {
	f := startTLS(t, secureSite(socketTo(startEchoSocket(t).address)))
	for _, c := range []*client{f.dial(), f.dialSecure()} {
		c.send(upgrade)
		c.expectSwitch()
		fd := socketOf(t, c.RemoteAddr(), c.LocalAddr())
		type options struct{ noDelay, idle, user int }
		var got options
		got.noDelay, _ = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY)
		got.idle, _ = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE)
		got.user, _ = unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT)
		want := options{1, 60, 150_000}
		if portable {
			want.user = 0
		}
		if got != want {
			t.Errorf("the connection of %s has %+v", c.LocalAddr(), got)
		}
	}
}

// socketOf returns this process's descriptor of a TCP connection.
func socketOf(t *testing.T, local, remote net.Addr) int {
	t.Helper()
	is := func(sa unix.Sockaddr, err error, want net.Addr) bool {
		a, ok := sa.(*unix.SockaddrInet4)
		return err == nil && ok && netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)).String() == want.String()
	}
	for fd := range 1000 {
		own, err := unix.Getsockname(fd)
		if !is(own, err, local) {
			continue
		}
		if peer, err := unix.Getpeername(fd); is(peer, err, remote) {
			return fd
		}
	}
	t.Fatalf("no socket at %s for %s", local, remote)
	return -1
}

// inSockets returns how many bytes the system holds on the way between two sockets of this process.
func inSockets(t *testing.T, from, to net.Addr) int {
	t.Helper()
	unsent, err := unix.IoctlGetInt(socketOf(t, from, to), unix.SIOCOUTQ)
	if err != nil {
		t.Fatal(err)
	}
	unread, err := unix.IoctlGetInt(socketOf(t, to, from), unix.SIOCINQ)
	if err != nil {
		t.Fatal(err)
	}
	return unsent + unread
}

// TestClientsThatLeaveAtOnceLeaveNoDialsBehind: the backend's machine does not answer.
func TestClientsThatLeaveAtOnceLeaveNoDialsBehind(t *testing.T) {
	f := start(t, oneSite(socketTo(silentPort(t))))
	before := openFiles(t)
	const clients = 50
	for range clients {
		c := f.dial()
		c.send(upgrade)
		c.waits(f, 0)
		c.Conn.(*net.TCPConn).SetLinger(0)
		c.Close()
	}
	await(t, "the end of their dials", func() bool { return openFiles(t) <= before })
	await(t, "their lines in the log", func() bool { return strings.Count(f.log.String(), `"status":499`) == clients })
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}

// openPipes counts descriptors of pipes, which loops keep for the next splice.
func openPipes(t *testing.T) (n int) {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if name, _ := os.Readlink("/proc/self/fd/" + file.Name()); strings.HasPrefix(name, "pipe:") {
			n++
		}
	}
	return n
}

// panicky is a log that panics at one message.
type panicky struct {
	io.Writer
	at string
}

func (p panicky) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(p.at)) {
		panic("injected")
	}
	return p.Writer.Write(line)
}

// TestPanicWhileATunnelOpensEndsThatConnectionOnly, and leaves no trace of it.
func TestPanicWhileATunnelOpensEndsThatConnectionOnly(t *testing.T) {
	backendGone := make(chan struct{}, 1)
	b := startSocket(t, func(_ net.Conn, br *bufio.Reader) {
		io.Copy(io.Discard, br)
		backendGone <- struct{}{}
	})
	f := startLogging(t, plainListener+"limits: {max_connections: 1}\n"+oneSite(socketTo(b.address)),
		func(w io.Writer) io.Writer { return panicky{w, "tunnel opened"} }, same)
	for range 3 { // each would find no room if the one before still counted
		c := f.dial()
		c.SetDeadline(time.Now().Add(patience))
		c.send(upgrade)
		if _, err := io.Copy(io.Discard, c.br); os.IsTimeout(err) {
			t.Fatal("the connection stays open")
		}
		c.Close()
		<-backendGone
		await(t, "nothing to be left", func() bool { return f.server.Counts().Clients == 0 && f.server.TunnelCount() == 0 })
	}
	await(t, "the lines in the log", func() bool { return strings.Count(f.log.String(), "panic in a callback") == 3 })
}

// TestReloadWhileABackendRefusesAHandshake takes the location away meanwhile. The handshake keeps to the configuration that it began under, and
// nothing is left of the backend's connection.
func TestReloadWhileABackendRefusesAHandshake(t *testing.T) {
	asked, answer, ended := make(chan bool), make(chan bool), make(chan error, 1)
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		rawHead(br)
		close(asked)
		<-answer
		io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
		_, err := br.ReadByte()
		ended <- err
	})
	f := start(t, oneSite(socketTo(b.address)))
	c := f.dial()
	c.send(upgrade)
	<-asked
	f.apply(t, plainListener+oneSite(`{path: /other, http: "http://`+b.address+`"}`))
	close(answer)
	c.expect(403)
	if err := <-ended; os.IsTimeout(err) {
		t.Error("the connection to the backend stays open")
	}
}

// TestDialsUnderWayAreBounded: they have descriptors too.
func TestDialsUnderWayAreBounded(t *testing.T) {
	const capacity = 4
	config := bothListeners + "tls: {storage: " + t.TempDir() + "}\n" + secureSite(httpTo(silentPort(t)))
	f := startWith(t, config)
	f.server.SetCapacity(capacity)
	f.apply(t, config)
	streams, _ := f.dialH2()
	before := openFiles(t)
	const requests = 60
	for i := range uint32(requests) {
		streams.request(2*i+1, ":method", "GET", ":scheme", "https", ":authority", "example.com", ":path", "/")
	}
	await(t, "refusals", func() bool { return strings.Count(f.log.String(), `"status":503`) == requests-capacity })
	if grown := openFiles(t) - before; grown > capacity {
		t.Errorf("%d descriptors more, of %d connections to backends that are allowed", grown, capacity)
	}
}

func TestClientThatIsDroppedForWantOfDescriptorsIsToldOfInTheLog(t *testing.T) {
	f := start(t, oneSite(httpTo(startEcho(t).address)))
	await(t, "a word about the client", func() bool {
		c := f.dial()
		defer c.Close()
		await(t, "the connection", func() bool { return f.server.Counts().Clients > 0 })
		awaitQuiet(t)
		scarce(t, 0, func() {
			c.SetReadDeadline(time.Now().Add(time.Second)) // where another closes a file meanwhile, the backend has none for the connection
			c.send(get)
			c.br.ReadByte()
		})
		return strings.Contains(f.log.String(), "too many open files")
	})
}

func TestLogTellsHowLongAHandshakeTookThatFailed(t *testing.T) {
	mute := startBackend(t, func(_ *backend, conn net.Conn) { io.Copy(io.Discard, conn) })
	f := start(t, "timeouts: {handshake: 300ms}\n"+oneSite(socketTo(mute.address)))
	c := f.dial()
	c.send(upgrade)
	c.expect(504)
	await(t, "the line in the log", func() bool { return strings.Contains(f.log.String(), `"status":504`) })
	_, duration, _ := strings.Cut(f.log.String(), `"duration_ms":`)
	var ms float64
	if fmt.Sscanf(duration, "%f", &ms); ms < 250 {
		t.Errorf("after 300 ms the log says %v ms", ms)
	}
}
