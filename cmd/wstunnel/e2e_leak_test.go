//go:build linux

package main_test

import (
	"fmt"
	"io"
	stdlog "log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wstunnel/internal/config"
	"wstunnel/internal/logs"
	"wstunnel/proxy"
	"wstunnel/tls"
)

// The tunnels are opened and closed in waves, so that a hard limit of 4,096 descriptors will do.
const (
	waves    = 5
	waveSize = 1000
)

// usage is what a process holds.
type usage struct {
	descriptors, threads int
	pss                  int // KiB
}

func usageOf(t *testing.T, pid int) usage {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/", pid)
	fds, err := os.ReadDir(dir + "fd")
	if err != nil {
		t.Fatal(err)
	}
	return usage{len(fds), procNumber(t, dir+"status", "Threads"), procNumber(t, dir+"smaps_rollup", "Pss")}
}

// procNumber reads the number in a line of a file under /proc.
func procNumber(t *testing.T, file, key string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^` + key + `:\s+(\d+)`).FindSubmatch(text)
	if found == nil {
		t.Fatalf("%s has no %s", file, key)
	}
	n, _ := strconv.Atoi(string(found[1]))
	return n
}

func TestFiveThousandTunnelsLeaveNothingBehind(t *testing.T) {
	address := echoBackend(t)
	f := startFront(t, settings(
		`{path: /ws, websocket: "ws://`+address+`"}`, `{path: /relay, mode: relay, websocket: "ws://`+address+`"}`))
	pid := f.cmd.Process.Pid
	idle := usageOf(t, pid)
	f.wave(t) // pools, caches and the heap take the size that they will have
	f.awaitDescriptors(t, idle.descriptors)
	warm := restingUsage(t, pid)
	for range waves {
		f.wave(t)
	}
	f.awaitDescriptors(t, idle.descriptors)
	after := restingUsage(t, pid)
	// 1 KiB left behind by each tunnel would be 5 MiB. What was a burst's is given back when there is a processor for that.
	mostMemory := warm.pss + 4<<10
	for end := time.Now().Add(patience); after.pss > mostMemory && time.Now().Before(end); {
		after = restingUsage(t, pid)
	}
	t.Logf("idle %+v, after the first thousand %+v, after %d more %+v", idle, warm, waves*waveSize, after)
	if after.threads > warm.threads+4 {
		t.Errorf("threads grew from %d to %d", warm.threads, after.threads)
	}
	if after.pss > mostMemory {
		t.Errorf("memory grew from %d to %d KiB", warm.pss, after.pss)
	}
	closed := f.out.awaitMatches(t, 0, `"msg":"tunnel closed"`, (waves+1)*waveSize)
	if opened := f.out.awaitMatches(t, 0, `"msg":"tunnel opened"`, len(closed)); len(opened) != len(closed) {
		t.Errorf("%d tunnels were opened, %d closed", len(opened), len(closed))
	}
}

// restingUsage returns what a process uses when it has given back the memory that a burst took, which it does after
// a second or two of quiet.
func restingUsage(t *testing.T, pid int) usage {
	t.Helper()
	time.Sleep(3 * time.Second)
	return usageOf(t, pid)
}

// awaitDescriptors waits until the process has no more descriptors than when it was idle.
func (f *front) awaitDescriptors(t *testing.T, idle int) {
	t.Helper()
	eventually(t, fmt.Sprintf("down to %d descriptors", idle), func() bool {
		return usageOf(t, f.cmd.Process.Pid).descriptors <= idle
	})
}

// wave opens waveSize tunnels that are all open at the same time, uses and closes them.
func (f *front) wave(t *testing.T) {
	t.Helper()
	plain, ws := f.webSocketDialer(t, "ws")
	secure, wss := f.webSocketDialer(t, "wss")
	var conns [waveSize]*websocket.Conn
	inParallel(waveSize, func(i int) {
		// One in ten is over TLS and one in ten is relayed, both of which cost the test more than the server.
		dialer, url := plain, ws+"/ws"
		switch i % 10 {
		case 0:
			dialer, url = secure, wss+"/ws"
		case 1:
			url = ws + "/relay"
		}
		conn, _, err := dialer.Dial(url, nil)
		if err != nil {
			t.Errorf("tunnel %d: %v", i, err)
			return
		}
		conns[i] = conn
	})
	inParallel(waveSize, func(i int) {
		if conns[i] != nil {
			defer conns[i].Close()
			if err := endOneWay(conns[i], i/10); err != nil {
				t.Errorf("tunnel %d: %v", i, err)
			}
		}
	})
	if t.Failed() {
		t.FailNow()
	}
}

// inParallel calls f for 0 to n-1, a few at a time.
func inParallel(n int, f func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range 16 {
		wg.Go(func() {
			for i := range next {
				f(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

// endOneWay uses a tunnel and ends it in one of the ways in which tunnels end.
func endOneWay(conn *websocket.Conn, way int) error {
	conn.SetReadDeadline(time.Now().Add(patience))
	message := []byte(strings.Repeat("x", 1+way%7*1000))
	if err := conn.WriteMessage(websocket.BinaryMessage, message); err != nil {
		return err
	}
	if _, got, err := conn.ReadMessage(); err != nil || len(got) != len(message) {
		return fmt.Errorf("echo of %d bytes: %d, %w", len(message), len(got), err)
	}
	switch way % 4 {
	case 0: // the client closes
		conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(1000, ""))
		_, _, err := conn.ReadMessage()
		if !websocket.IsCloseError(err, 1000) {
			return err
		}
	case 1: // the backend closes
		conn.WriteMessage(websocket.TextMessage, []byte("close"))
		_, _, err := conn.ReadMessage()
		if !websocket.IsCloseError(err, 4000) {
			return err
		}
	case 2: // the client ends its stream; Close does that
	case 3: // the client resets the connection
		if tcp, ok := conn.NetConn().(interface{ SetLinger(int) error }); ok {
			return tcp.SetLinger(0)
		}
	}
	return nil
}

// echoBackend is a WebSocket server for more connections than stream_select can watch. It closes when told so.
func echoBackend(t *testing.T) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var u websocket.Upgrader
		conn, err := u.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			kind, message, err := conn.ReadMessage()
			switch {
			case err != nil:
				return
			case string(message) == "close":
				conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(4000, "as told"))
			default:
				conn.WriteMessage(kind, message)
			}
		}
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

func TestTunnelsLeaveNoGoroutineBehind(t *testing.T) {
	address := echoBackend(t)
	before := runtime.NumGoroutine()
	f, server := startInProcess(t, settings(
		`{path: /ws, websocket: "ws://`+address+`"}`, `{path: /relay, mode: relay, websocket: "ws://`+address+`"}`))
	idle := runtime.NumGoroutine()
	for still := 0; still < 20; still++ { // its listeners come to rest
		time.Sleep(10 * time.Millisecond)
		if now := runtime.NumGoroutine(); now != idle {
			idle, still = now, 0
		}
	}
	for range waves {
		f.wave(t)
	}
	awaitGoroutines(t, "the tunnels", idle)
	eventually(t, "no tunnel is left", func() bool { return server.TunnelCount() == 0 }) // on epoll the last end of one is heard of by no goroutine of its own
	if err := server.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	awaitGoroutines(t, "the server", before)
}

// startInProcess runs the server as a library.
func startInProcess(t *testing.T, yaml string) (*front, *proxy.Server) {
	t.Helper()
	f := &front{config: filepath.Join(t.TempDir(), "config.yaml")}
	f.write(t, yaml)
	cfg, err := config.Load(f.config)
	if err != nil {
		t.Fatal(err)
	}
	stdlog.SetOutput(io.Discard) // websocketproxy writes there
	t.Cleanup(func() { stdlog.SetOutput(os.Stderr) })
	log := logs.New(io.Discard, logs.JSON)
	certificates, err := tls.NewManager(log.Logger()).Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	server := proxy.New(log, nil)
	if err := server.Apply(cfg, certificates); err != nil {
		t.Fatal(err)
	}
	f.http, f.https = server.Addresses()[0].String(), server.Addresses()[1].String()
	return f, server
}

// awaitGoroutines waits until there are at most so many, and prints those that are left.
func awaitGoroutines(t *testing.T, after string, most int) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for runtime.NumGoroutine() > most {
		if time.Now().After(deadline) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines are left after %s, there were %d before:\n%s",
				runtime.NumGoroutine(), after, most, stacks[:runtime.Stack(stacks, true)])
		}
		time.Sleep(10 * time.Millisecond)
	}
}
