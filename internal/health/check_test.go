package health

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wstunnel/internal/config"
	"wstunnel/internal/pebble"
)

// check is one as it is configured by default.
func check(kind config.CheckKind, change ...func(*config.Check)) *config.Check {
	c := &config.Check{Kind: kind, Interval: 10 * time.Second, Timeout: 3 * time.Second, Rise: 2, Fall: 3}
	if kind != config.CheckTCP {
		c.Path = "/"
	}
	if kind == config.CheckHTTP {
		c.Expect = []config.StatusSpan{{From: 200, To: 399}}
	}
	for _, f := range change {
		f(c)
	}
	return c
}

// awaitChecks waits until so many checks of a server have been made.
func (g *tested) awaitChecks(m *Member, n uint64) Status {
	g.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		s := m.Status()
		if s.Checks >= n {
			return s
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("%d checks have been made, want %d", s.Checks, n)
		}
	}
}

// awaitQuiet waits until no check is under way, which a turn of the clock would end.
func (g *tested) awaitQuiet() {
	g.t.Helper()
	quiet := func() bool {
		g.mu.Lock()
		defer g.mu.Unlock()
		return !slices.ContainsFunc(g.members, func(m *Member) bool { return m.stopCheck != nil })
	}
	for deadline := time.Now().Add(patience); !quiet(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			g.t.Fatal("a check does not end")
		}
	}
}

// next has the next check made.
func (g *tested) next(m *Member) Status {
	g.t.Helper()
	g.awaitQuiet()
	n := m.Status().Checks
	g.clock.Skip(10 * time.Second)
	return g.awaitChecks(m, n+1)
}

// listen begins a server that does serve with each connection, and returns it.
func listen(t *testing.T, network, address string, serve func(net.Conn)) Server {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serve(c)
		}
	}()
	return Server{Network: network, Address: l.Addr().String(), Host: "backend.example"}
}

// closed is a server that is not there, and whose port nobody else takes.
func closed(t *testing.T) Server {
	l := pebble.Listen(t)
	defer l.Close()
	return Server{Network: "tcp", Address: l.Addr().String()}
}

// site is a server of HTTP and WebSocket, which is ill at will.
func site(t *testing.T, begin func(*httptest.Server), handler http.HandlerFunc) Server {
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	begin(s)
	t.Cleanup(s.Close)
	return Server{Network: "tcp", Address: s.Listener.Addr().String(), Host: "backend.example"}
}

func TestChecksTakeAServerOutAndInAgain(t *testing.T) {
	var ill atomic.Bool
	s := site(t, (*httptest.Server).Start, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RequestURI() != "/health?full=1" || r.Host != "www.example" || r.Header.Get("User-Agent") != "wstunnel-health" {
			t.Errorf("asked for %s of %s by %s", r.RequestURI, r.Host, r.UserAgent())
		}
		if ill.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	other := listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		io.Copy(io.Discard, io.LimitReader(c, 10))
		io.WriteString(c, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n")
		c.Close()
	})
	g := newTested(t, Options{SlowStart: 30 * time.Second, Check: check(config.CheckHTTP, func(c *config.Check) {
		c.Path, c.Host = "/health?full=1", "www.example"
	})}, s, other)
	m := g.members[0]
	g.awaitChecks(m, 1)
	g.awaitChecks(g.members[1], 1)
	ill.Store(true)
	g.next(m)
	if status := g.next(m); status.State != Up || status.FailedChecks != 2 || status.LastCheck != "/health?full=1 was answered with 503" {
		t.Errorf("behind two bad checks its status is %+v", status)
	}
	if status := g.next(m); status.State != Down || m.Up() {
		t.Errorf("behind three bad checks its status is %+v", status)
	}
	g.next(m)
	if got, want := g.awaitLogged(1), `level=WARN msg="server is down" upstream=chat server=`+s.Address+
		` reason="3 checks in a row failed, the last one: /health?full=1 was answered with 503"`+"\n"; got != want {
		t.Errorf("logged is\n%s\nwant\n%s", got, want)
	}
	ill.Store(false)
	if g.next(m); m.Up() {
		t.Error("it is up behind one good check, with rise: 2")
	}
	if g.next(m); !m.Up() || m.Share() != 0.1 {
		t.Errorf("behind two good checks it is up: %v, with a share of %v", m.Up(), m.Share())
	}
	if got, want := g.awaitLogged(1), `level=INFO msg="server is up" upstream=chat server=`+s.Address+` reason="2 checks in a row succeeded"`+"\n"; got != want {
		t.Errorf("logged is\n%s\nwant\n%s", got, want)
	}
	if got := g.awaitTold(2); !slices.Equal(got, []string{s.Address + " down", s.Address + " up"}) || !g.members[1].Up() {
		t.Errorf("told are %v", got)
	}
}

// TestWhatChecksFind of servers of all kinds.
func TestWhatChecksFind(t *testing.T) {
	upgrader := websocket.Upgrader{}
	codes := make(chan int, 10)
	open := func(w http.ResponseWriter, r *http.Request) {
		c, err := upgrader.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		_, _, err = c.ReadMessage()
		if e, ok := err.(*websocket.CloseError); ok {
			codes <- e.Code
		}
	}
	raw := func(answer string) Server {
		return listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
			c.Read(make([]byte, 4096))
			io.WriteString(c, answer)
			c.Close()
		})
	}
	hung := listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) { t.Cleanup(func() { c.Close() }) })
	socket := filepath.Join(t.TempDir(), "s")
	unixSocket := listen(t, "unix", socket, func(c net.Conn) { c.Close() })
	overTLS := site(t, (*httptest.Server).StartTLS, open)
	overTLS.TLS = &tls.Config{InsecureSkipVerify: true}
	untrusted := overTLS
	untrusted.TLS = &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "backend.example"}
	redirecting := site(t, (*httptest.Server).Start, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/login", http.StatusFound) })
	only204 := check(config.CheckHTTP, func(c *config.Check) {
		c.Expect = []config.StatusSpan{{From: 204, To: 204}, {From: 301, To: 303}}
	})
	impatient := func(kind config.CheckKind) *config.Check {
		return check(kind, func(c *config.Check) { c.Timeout = 30 * time.Millisecond })
	}
	const switching = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
	for _, c := range []struct {
		name   string
		check  *config.Check
		server Server
		want   string // what the check's error ends in; empty for a good one
	}{
		{"a port", check(config.CheckTCP), hung, ""},
		{"no port", check(config.CheckTCP), closed(t), "connecting: connection refused"},
		{"a socket", check(config.CheckTCP), unixSocket, ""},
		{"no socket", check(config.CheckTCP), Server{Network: "unix", Address: socket + "x"}, "connecting: no such file or directory"},
		{"TLS", check(config.CheckTCP), overTLS, ""},
		{"TLS that is not trusted", check(config.CheckTCP), untrusted, "not backend.example"},
		{"a redirect", check(config.CheckHTTP), redirecting, ""},
		{"a status in a list", only204, redirecting, ""},
		{"a status not in a list", only204, raw("HTTP/1.1 200 OK\r\n\r\n"), "/ was answered with 200"},
		{"HTTP of a process that hangs", impatient(config.CheckHTTP), hung, "no answer within 30ms"},
		{"TLS of a process that hangs", impatient(config.CheckHTTP), Server{Network: "tcp", Address: hung.Address, TLS: &tls.Config{InsecureSkipVerify: true}}, "no answer within 30ms"},
		{"no HTTP", check(config.CheckHTTP), raw("220 mail.example ESMTP\r\n"), "which is no status line of HTTP/1"},
		{"silence", check(config.CheckHTTP), raw(""), "the server closed the connection without a word"},
		{"half a head", check(config.CheckHTTP), raw("HTTP/1.1 200 OK\r\n"), "of the response head: unexpected EOF"},
		{"a WebSocket", check(config.CheckWebSocket), site(t, (*httptest.Server).Start, open), ""},
		{"a WebSocket over TLS", check(config.CheckWebSocket), overTLS, ""},
		{"a page for a WebSocket", check(config.CheckWebSocket), redirecting, "the handshake at / was answered with 302"},
		{"a WebSocket of a process that hangs", impatient(config.CheckWebSocket), hung, "no answer within 30ms"},
		{"a WebSocket without Accept", check(config.CheckWebSocket), raw(switching + "\r\n"), "the key asks for"},
		{"a WebSocket with a cached Accept", check(config.CheckWebSocket), raw(switching + "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"), "the key asks for"},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newTested(t, Options{Check: c.check}, c.server)
			s := g.awaitChecks(g.members[0], 1)
			if c.want == "" && s.LastCheck != "" || c.want != "" && !strings.Contains(s.LastCheck, c.want) {
				t.Errorf("the check says %q, want %q", s.LastCheck, c.want)
			}
		})
	}
	for range 2 {
		if code := <-codes; code != websocket.CloseNormalClosure {
			t.Errorf("a checked WebSocket was closed with %d", code)
		}
	}
}

// TestCheckThatHangsEndsByItsTimeout as the clock has it, and takes the server out.
func TestCheckThatHangsEndsByItsTimeout(t *testing.T) {
	var accepted atomic.Int64
	hung := listen(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		defer c.Close()
		accepted.Add(1)
		io.Copy(io.Discard, c)
	})
	g := newTested(t, Options{Check: check(config.CheckWebSocket, func(c *config.Check) { c.Timeout = time.Hour })}, hung, closed(t))
	m := g.members[0]
	g.members[1].Answered()
	for n := int64(1); n <= 3; n++ {
		for deadline := time.Now().Add(patience); accepted.Load() < n; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("it was not checked")
			}
		}
		if g.clock.Skip(time.Hour - time.Minute); m.Status().Checks != uint64(n-1) {
			t.Fatal("a check ended before its time")
		}
		g.clock.Skip(time.Minute)
		if s := g.awaitChecks(m, uint64(n)); s.LastCheck != "no answer within 1h0m0s" {
			t.Errorf("the check says %q", s.LastCheck)
		}
		g.clock.Skip(10 * time.Second)
	}
	if m.Up() {
		t.Error("a server that hangs is up")
	}
}

// TestNothingIsTakenOutByChecksBeforeTheFirstAnswer: all servers of a machine may start after this process; the first one serves at once.
func TestNothingIsTakenOutByChecksBeforeTheFirstAnswer(t *testing.T) {
	late := closed(t)
	g := newTested(t, Options{SlowStart: time.Minute, Check: check(config.CheckTCP, func(c *config.Check) { c.Fall = 2 })}, late, closed(t))
	m := g.members[0]
	g.awaitChecks(m, 1)
	g.awaitChecks(g.members[1], 1)
	for range 3 {
		g.next(m)
	}
	for g.members[1].Status().Checks < 4 {
		g.next(g.members[1])
	}
	g.wantUp("at a boot", true, true)
	if s := m.Status(); s.State != Unseen || !strings.HasSuffix(s.LastCheck, "refused") {
		t.Errorf("its status is %+v", s)
	}
	line := `level=WARN msg="server has not answered since the start" upstream=chat server=%s reason="2 checks in a row failed, the last one: connecting: connection refused"` + "\n"
	if got := g.awaitLogged(2); len(got) != len(fmt.Sprintf(line, late.Address))+len(fmt.Sprintf(line, g.members[1].address)) || !strings.Contains(got, fmt.Sprintf(line, late.Address)) {
		t.Errorf("logged is\n%s", got)
	}
	listen(t, "tcp", late.Address, func(c net.Conn) { c.Close() })
	if s := g.next(m); s.State != Up || m.Share() != 1 {
		t.Errorf("when it is there its status is %+v", s)
	}
	g.next(g.members[1])
	g.wantUp("when one has answered", true, false)
	if got := g.awaitTold(1); !slices.Equal(got, []string{g.members[1].address + " down"}) {
		t.Errorf("told are %v", got)
	}
}

// TestFirstServerThatReturnsServes behind one good check, which comes within a second.
func TestFirstServerThatReturnsServes(t *testing.T) {
	var ill atomic.Bool
	s := site(t, (*httptest.Server).Start, func(w http.ResponseWriter, _ *http.Request) {
		if ill.Load() {
			w.WriteHeader(http.StatusInternalServerError)
		}
	})
	g := newTested(t, Options{Check: check(config.CheckHTTP, func(c *config.Check) { c.Fall = 1 })}, s)
	m := g.members[0]
	g.awaitChecks(m, 1)
	ill.Store(true)
	g.next(m)
	g.wantUp("with a bad check", false)
	ill.Store(false)
	g.clock.Skip(time.Second)
	g.awaitChecks(m, 3)
	g.wantUp("with a good check", true)
}

// TestChecksFollowReloads: they begin, change and end with the configuration.
func TestChecksFollowReloads(t *testing.T) {
	missing := closed(t)
	g := newTested(t, Options{}, missing)
	m := g.members[0]
	if g.clock.Skip(time.Minute); m.Status().Checks != 0 {
		t.Fatal("it is checked")
	}
	m.Answered()
	once := check(config.CheckTCP, func(c *config.Check) { c.Fall, c.Interval = 1, time.Hour })
	g.Set(Options{Check: once}, []Server{missing})
	g.awaitChecks(m, 1)
	g.wantUp("with a bad check", false)
	g.Set(Options{Check: check(config.CheckTCP)}, []Server{missing})
	g.next(m)
	g.wantUp("with another check", false)
	g.Set(Options{}, []Server{missing})
	g.wantUp("without a check", true)
	if got := g.logged(); !strings.Contains(got, `reason="it is no longer checked"`) {
		t.Errorf("logged is\n%s", got)
	}
	made := m.Status().Checks
	if g.clock.Skip(time.Hour); m.Status().Checks != made {
		t.Error("it is still checked")
	}
}
