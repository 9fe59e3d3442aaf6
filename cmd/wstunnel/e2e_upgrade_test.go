//go:build linux

package main_test

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// upgradable is a wstunnel whose binary can be replaced. Its processes share one output.
type upgradable struct {
	*front
	binary string
	pids   []int // of the main processes, one after the other
}

// startUpgradable runs a copy of the binary.
func startUpgradable(t *testing.T, yaml string) *upgradable {
	t.Helper()
	return startUpgradableFrom(t, yaml)
}

func startUpgradableFrom(t *testing.T, yaml string, env ...string) *upgradable {
	t.Helper()
	u := &upgradable{front: &front{config: filepath.Join(t.TempDir(), "config.yaml")}, binary: filepath.Join(t.TempDir(), "wstunnel")}
	u.install(t)
	yaml = withSocket(t, yaml)
	u.write(t, yaml)
	cmd := exec.Command(u.binary, "run", u.config)
	cmd.Env = append(os.Environ(), env...)
	r, w, err := os.Pipe() // which does not end with the first process
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	u.program = start(t, cmd)
	w.Close()
	go func() {
		io.Copy(u.out, r)
		r.Close()
	}()
	u.http = u.awaitLog(t, 0, "listening").text("address")
	if n := strings.Count(yaml, "- address:"); n > 1 {
		u.https = u.awaitLogs(t, 0, n, "listening")[n-1].text("address")
	}
	awaitControl(t, yaml)
	u.pids = []int{u.cmd.Process.Pid}
	t.Cleanup(func() {
		if strings.Contains(u.out.String(), "goroutine ") {
			t.Errorf("wstunnel printed a stack trace:\n%s", u.out)
		}
	})
	return u
}

// install puts a new copy of the binary into its place.
func (u *upgradable) install(t *testing.T) {
	t.Helper()
	f, err := build()
	if err != nil {
		t.Fatal(err)
	}
	beside := u.binary + ".new"
	out, err := os.OpenFile(beside, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, io.NewSectionReader(f, 0, 1<<40)); err != nil {
		t.Fatal(err)
	}
	out.Close()
	if err := os.Rename(beside, u.binary); err != nil {
		t.Fatal(err)
	}
}

// installScript puts a script in the place of the binary.
func (u *upgradable) installScript(t *testing.T, script string) {
	t.Helper()
	beside := u.binary + ".new"
	if err := os.WriteFile(beside, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(beside, u.binary); err != nil {
		t.Fatal(err)
	}
}

// upgrade runs wstunnel upgrade with a new binary in place.
func (u *upgradable) upgrade(t *testing.T) {
	t.Helper()
	u.install(t)
	u.expectOrder(t, 0, []string{"has taken over"}, "upgrade")
	pid := u.status(t).PID
	if pid == u.pids[len(u.pids)-1] {
		t.Errorf("process %d still serves", pid)
	}
	u.pids = append(u.pids, pid)
}

// yaml returns the configuration.
func (u *upgradable) yaml(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(u.config)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// serverStatus is what the control socket tells.
type serverStatus struct {
	PID          int `json:"pid"`
	Tunnels      int `json:"tunnels"`
	Predecessors []struct {
		PID, Tunnels, Secure int
	} `json:"predecessors"`
}

func (u *upgradable) status(t *testing.T) (s serverStatus) {
	t.Helper()
	socket := socketOf(u.yaml(t))
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	resp, err := client.Get("http://wstunnel/v1/status")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// isAlive reports whether a process runs.
func isAlive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ")
}

// stopLast ends the process that serves now.
func (u *upgradable) stopLast(t *testing.T) {
	t.Helper()
	last := u.pids[len(u.pids)-1]
	syscall.Kill(last, syscall.SIGTERM)
	for _, pid := range u.pids {
		eventually(t, fmt.Sprintf("process %d ends", pid), func() bool { return !isAlive(pid) })
	}
}

func TestUpgradeKeepsTunnels(t *testing.T) {
	php, pages := startSocketPHP(t, ""), startPages(t)
	u := startUpgradable(t, settings(`{path: /ws, websocket: "ws://`+php.address+`"}`, `{path: /, http: "http://`+pages.address+`"}`))
	plain, secure := u.dialSocket(t, "ws", "/ws"), u.dialSocket(t, "wss", "/ws")
	u.expectOrder(t, 0, []string{"reloaded: process " + strconv.Itoa(u.pids[0])}, "upgrade") // nothing new is installed
	stop, failures, asked := u.keepAsking(t, "/echo.php")
	for i := range 3 {
		u.upgrade(t)
		plain.echo(fmt.Sprintf("after upgrade %d", i))
		plain.echo(strings.Repeat("long", 100_000))
		secure.echo(fmt.Sprintf("where it was after upgrade %d", i))
		if s := u.status(t); s.Tunnels != 1 {
			t.Errorf("the process that serves has %d tunnels", s.Tunnels)
		}
		fresh := u.dialSocket(t, "ws", "/ws")
		fresh.echo("fresh")
		fresh.Close()
		eventually(t, "its end", func() bool { return u.status(t).Tunnels == 1 })
	}
	stop()
	if n := failures.Load(); n > 0 || asked.Load() == 0 {
		t.Errorf("%d of %d requests failed", n, asked.Load())
	}
	eventually(t, "the middle processes end", func() bool {
		s := u.status(t)
		return len(s.Predecessors) == 1 && s.Predecessors[0].PID == u.pids[0] && s.Predecessors[0].Secure == 1
	})
	u.expectOrder(t, 0, []string{"left in process " + strconv.Itoa(u.pids[0]), "with TLS: 1"}, "status")
	secure.Close()
	for _, pid := range u.pids[:3] {
		eventually(t, "the old processes end", func() bool { return !isAlive(pid) })
	}
	eventually(t, "the one that serves knows of their end", func() bool { return len(u.status(t).Predecessors) == 0 })
	plain.echo("at the end")
	u.stopLast(t)
}

// keepAsking asks for a page over and over, on connections that it keeps, and on new ones.
func (u *upgradable) keepAsking(t *testing.T, path string) (stop func(), failures, asked *atomic.Int64) {
	t.Helper()
	failures, asked = &atomic.Int64{}, &atomic.Int64{}
	ctx, cancel := context.WithCancel(t.Context())
	var work sync.WaitGroup
	for i := range 4 {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: i%2 == 0}}
		work.Go(func() {
			for ctx.Err() == nil {
				resp, err := client.Post("http://"+u.http+path, "text/plain", strings.NewReader("body")) // which Go's client does not repeat
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				asked.Add(1)
				if err != nil || resp.StatusCode != 200 {
					failures.Add(1)
					t.Logf("a request failed: %v", err)
				}
			}
			client.CloseIdleConnections()
		})
	}
	return func() { cancel(); work.Wait() }, failures, asked
}

// TestUpgradeAtFullSpeedLosesNoMessage: numbered messages with checksums in both directions, while the binary is upgraded five times.
func TestUpgradeAtFullSpeedLosesNoMessage(t *testing.T) {
	address, conns := socketBackend(t)
	u := startUpgradable(t, "listen: [{address: '127.0.0.1:0'}]\nsites: [{hosts: [_], locations: [{path: /ws, ping: 1s, websocket: 'ws://"+address+"'}]}]\n")
	stop := make(chan struct{})
	results := make(chan error, 100)
	var messages atomic.Int64
	const tunnels = 6
	for i := range tunnels {
		client := u.dialSocket(t, "ws", "/ws").Conn
		backend := <-conns
		for _, ends := range [][2]*websocket.Conn{{client, backend}, {backend, client}} {
			go func() { results <- sendNumbered(ends[0], uint64(i), stop) }()
			go func() { results <- readNumbered(ends[1], &messages) }()
		}
	}
	for range 5 {
		before := messages.Load()
		u.upgrade(t)
		eventually(t, "messages go on", func() bool { return messages.Load() > before+100 })
	}
	if s := u.status(t); s.Tunnels != tunnels {
		t.Errorf("%d tunnels are left of %d", s.Tunnels, tunnels)
	}
	close(stop)
	for range 4 * tunnels {
		select {
		case err := <-results:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(patience):
			t.Fatal("a tunnel stands still")
		}
	}
	t.Logf("%d messages", messages.Load())
	u.stopLast(t)
}

// sendNumbered sends messages of all sizes as fast as they go, and a Close at the end.
func sendNumbered(c *websocket.Conn, seed uint64, stop <-chan struct{}) error {
	random := rand.New(rand.NewPCG(seed, 3))
	for n := uint64(0); ; n++ {
		select {
		case <-stop:
			return c.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, ""), time.Now().Add(patience))
		default:
		}
		p := make([]byte, 12+[]int{0, 100, 3000, 60_000, 150_000}[random.IntN(5)])
		for i := range p {
			p[i] = byte(n) ^ byte(i)
		}
		binary.BigEndian.PutUint64(p, n)
		binary.BigEndian.PutUint32(p[8:], crc32.ChecksumIEEE(p[12:]))
		if err := c.WriteMessage(websocket.BinaryMessage, p); err != nil {
			return fmt.Errorf("message %d: %w", n, err)
		}
	}
}

// readNumbered checks such messages up to the Close.
func readNumbered(c *websocket.Conn, count *atomic.Int64) error {
	c.SetCloseHandler(func(int, string) error { return nil })
	for n := uint64(0); ; n++ {
		_, p, err := c.ReadMessage()
		if websocket.IsCloseError(err, websocket.CloseNormalClosure) {
			return nil
		}
		switch {
		case err != nil:
			return fmt.Errorf("behind %d messages: %w", n, err)
		case binary.BigEndian.Uint64(p) != n:
			return fmt.Errorf("message %d instead of %d", binary.BigEndian.Uint64(p), n)
		case crc32.ChecksumIEEE(p[12:]) != binary.BigEndian.Uint32(p[8:]):
			return fmt.Errorf("message %d is not what was sent", n)
		}
		count.Add(1)
	}
}

// TestOldProcessEndsByOrderOfTheNew: a drain, or a stop of the main process, reaches what is left in an old one, whose clients are told.
func TestOldProcessEndsByOrderOfTheNew(t *testing.T) {
	for _, order := range []string{"drain", "drain of the site", "stop"} {
		t.Run(order, func(t *testing.T) {
			u := startUpgradable(t, "drain: {spread: 1s}\n"+settings(`{path: /ws, websocket: "ws://`+startSocketPHP(t, "").address+`"}`))
			secure := u.dialSocket(t, "wss", "/ws")
			u.upgrade(t)
			secure.echo("in the old process")
			told := secure.awaitEnds()[0]
			switch order {
			case "drain":
				u.expectOrder(t, 0, []string{"no new tunnels"}, "drain")
			case "drain of the site":
				u.expectOrder(t, 0, []string{"no new tunnels"}, "drain", "--site", "_")
			default:
				syscall.Kill(u.pids[1], syscall.SIGTERM)
			}
			select {
			case err := <-told:
				if !websocket.IsCloseError(err, goingAway) {
					t.Errorf("the tunnel ended with %v", err)
				}
			case <-time.After(patience):
				t.Fatal("the old process keeps its tunnel")
			}
			eventually(t, "the old process ends", func() bool { return !isAlive(u.pids[0]) })
			u.stopLast(t)
		})
	}
}

// TestWhatHoldsForTheServerHoldsAfterAnUpgrade: drains, and sessions of TLS.
func TestWhatHoldsForTheServerHoldsAfterAnUpgrade(t *testing.T) {
	u := startUpgradable(t, settings(`{path: /, respond: {status: 200, body: here}}`))
	sessions := tls.NewLRUClientSessionCache(1)
	ask := func() (resumed bool) {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: u.roots(t), ClientSessionCache: sessions}}}
		resp, err := client.Get("https://" + u.https + "/")
		if err != nil {
			t.Fatal(err)
		}
		readAll(t, resp)
		return resp.TLS.DidResume
	}
	if ask() {
		t.Error("the first session was resumed")
	}
	u.expectOrder(t, 0, nil, "drain")
	u.upgrade(t)
	u.expectOrder(t, 0, []string{"not ready", "being drained: everything"}, "status")
	u.expectOrder(t, 0, []string{"taken back"}, "drain", "--end")
	if !ask() {
		t.Error("the session was not resumed")
	}
	u.stopLast(t)
}
