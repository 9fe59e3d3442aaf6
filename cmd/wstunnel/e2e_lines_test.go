//go:build linux

package main_test

import (
	"bufio"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// lines is a connection to the control socket.
type lines struct {
	net.Conn
	t  *testing.T
	br *bufio.Reader
}

// socketOf returns the control socket of a configuration by [withSocket].
func socketOf(yaml string) string {
	path, _, _ := strings.Cut(strings.TrimPrefix(yaml, "admin: {socket: "), "}")
	path, _, _ = strings.Cut(path, ",")
	return path
}

func dialLines(t *testing.T, yaml string) *lines {
	t.Helper()
	conn, err := net.Dial("unix", socketOf(yaml))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return &lines{conn, t, bufio.NewReader(conn)}
}

// readLine waits for a line anew, however long the connection has been open.
func (l *lines) readLine() (string, error) {
	l.SetDeadline(time.Now().Add(patience))
	return l.br.ReadString('\n')
}

// rest waits for the end, likewise.
func (l *lines) rest() (string, error) {
	l.SetDeadline(time.Now().Add(patience))
	rest, err := io.ReadAll(l.br)
	return string(rest), err
}

// says sends a line and requires how the one that answers begins.
func (l *lines) says(order, want string) {
	l.t.Helper()
	l.SetDeadline(time.Now().Add(patience))
	io.WriteString(l, order+"\n")
	if got, err := l.readLine(); err != nil || !strings.HasPrefix(got, want) || strings.HasPrefix(want, "OK") && got != want+"\n" {
		l.t.Errorf("%.60q is answered with %.200q, %v; want %q", order, got, err, want)
	}
}

func TestControlSocketSpeaksInLines(t *testing.T) {
	yaml := withSocket(t, settings(`{path: /ws, websocket: "ws://`+startTagging(t)+`"}`))
	f := startFront(t, yaml)
	anna := f.dialSocket(t, "ws", "/ws?user=anna&groups=lobby")
	berta := f.dialSocket(t, "wss", "/ws?user=berta")
	c := controlOf(t, yaml)
	c.awaitTunnels(2)
	l := dialLines(t, yaml)
	l.says("COUNT", "OK 2")
	io.WriteString(l, "LIST WEBSOCKETS\r\n")
	var ids []string
	for {
		line, err := l.readLine()
		if err != nil {
			t.Fatal(err)
		}
		if line == "\n" {
			break
		}
		ids = append(ids, decode[struct{ ID string }](t, line).ID)
	}
	if len(ids) != 2 {
		t.Fatalf("listed are %q", ids)
	}
	l.says("SEND USER anna hello, you", "OK 1")
	anna.says(t, "hello, you")
	l.says("JOIN "+ids[1]+" lobby", "OK 1")
	l.says("SEND GROUP lobby to both", "OK 2")
	anna.says(t, "to both")
	berta.says(t, "to both")
	l.says("LEAVE "+ids[1]+" lobby", "OK 1")
	l.says("SEND GROUP lobby to one", "OK 1")
	l.says("SEND MESSAGE "+ids[1]+" you", "OK 1")
	berta.says(t, "you")
	l.says("SEND USER nobody x", "OK 0")
	l.says("SEND MESSAGE 999999-00000000 x", "ERR 404 no such tunnel")
	l.says("SEND USER anna \xff", "ERR 422 the text is not UTF-8")
	l.says("KICK "+ids[1]+" 1006", "ERR 422 close code 1006")
	l.says("KICK "+ids[1]+" 4001 out with you", "OK 1")
	berta.awaitClose(4001)
	l.says("WHO ARE YOU", "ERR 400 unknown order")
	l.says(strings.Repeat("x", 300<<10), "ERR 413 a line has more than")
	half := dialLines(t, yaml)
	io.WriteString(half, "COU")
	half.Conn.(*net.UnixConn).CloseWrite()
	if got, err := half.rest(); err != nil || got != "ERR 400 the line has no end\n" {
		t.Errorf("half a line is answered with %q, %v", got, err)
	}
	c.awaitTunnels(1) // a drain counts one that is on its way out
	dialLines(t, yaml).says("DRAIN", "OK 1")
}

// TestPHPSaysSomethingToABrowser as docs/push.md has it.
func TestPHPSaysSomethingToABrowser(t *testing.T) {
	yaml := withSocket(t, settings(`{path: /ws, websocket: "ws://`+startTagging(t)+`"}`))
	f := startFront(t, yaml)
	anna := f.dialSocket(t, "wss", "/ws?user=anna")
	controlOf(t, yaml).awaitTunnels(1)
	out, err := exec.Command("php", "-r", `
$w = stream_socket_client('unix://`+socketOf(yaml)+`');
fwrite($w, "SEND USER anna you have mail\n");
echo fgets($w);
`).CombinedOutput()
	if err != nil || string(out) != "OK 1\n" {
		t.Fatalf("PHP printed %q, %v", out, err)
	}
	anna.says(t, "you have mail")
}
