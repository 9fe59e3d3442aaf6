package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wstunnel/internal/upstream"
)

// fleet are servers of an upstream that each answer with their number, from 0, and take every WebSocket. Nobody else listens at their IP address, be it at the port of one
// that has gone.
type fleet []*fleetServer

type fleetServer struct {
	*backend
	listener net.Listener
	tunnels  atomic.Int64
}

func startFleet(t *testing.T, n int) (all fleet) {
	t.Helper()
	for i := range n {
		l, err := net.Listen("tcp", "127.0.0.5:0")
		if err != nil {
			t.Fatal(err)
		}
		s := &fleetServer{listener: l}
		s.backend = startBackendOn(t, l, func(b *backend, conn net.Conn) { s.serve(i, conn) })
		all = append(all, s)
	}
	return all
}

func (s *fleetServer) serve(number int, conn net.Conn) {
	br := bufio.NewReader(conn)
	for {
		head, err := rawHead(br)
		if err != nil {
			return
		}
		s.note(head)
		if field(head, "Upgrade") != nil {
			s.tunnels.Add(1)
			defer s.tunnels.Add(-1)
			io.WriteString(conn, switching)
			io.Copy(io.Discard, br)
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d", number)
	}
}

// upstream is a configuration with an upstream of the fleet, whose servers have the given settings, and which has others.
func (fl fleet) upstream(settings string, ofServers ...string) string {
	var servers []string
	for i, s := range fl {
		of := ""
		if i < len(ofServers) && ofServers[i] != "" {
			of = ", " + ofServers[i]
		}
		servers = append(servers, "{address: \""+s.address+"\""+of+"}")
	}
	if settings != "" {
		settings = ", " + settings
	}
	return "upstreams: {fleet: {servers: [" + strings.Join(servers, ", ") + "]" + settings + "}}\n"
}

const (
	fleetPages = `{path: /, http: "http://fleet"}`
	fleetBoth  = `{path: /, proxy: fleet}`
)

// ask sends a request with more fields, and returns the answer.
func (c *client) ask(path string, fields ...string) answer {
	c.t.Helper()
	c.send("GET "+path+" HTTP/1.1\r\n", host, strings.Join(fields, ""), "\r\n")
	return c.expect(200)
}

// answered asks so often, and returns who answered.
func (f *front) answered(times int, path string, fields ...string) string {
	f.t.Helper()
	c, who := f.dial(), ""
	defer c.Close()
	for range times {
		who += c.ask(path, fields...).body
	}
	return who
}

func (fl fleet) openTunnels() (counts []int64) {
	for _, s := range fl {
		counts = append(counts, s.tunnels.Load())
	}
	return counts
}

// open opens a WebSocket.
func (f *front) open(fields ...string) *client {
	f.t.Helper()
	c := f.dial()
	c.send(strings.Replace(upgrade, "\r\n\r\n", "\r\n"+strings.Join(fields, "")+"\r\n", 1))
	c.expect(101)
	return c
}

func TestServersHaveTheirTurnsByWeight(t *testing.T) {
	fl := startFleet(t, 3)
	for _, tt := range []struct {
		weights []string
		want    string
	}{
		{nil, "012012012"},
		{[]string{"weight: 5", "weight: 1", "weight: 1"}, "0010200" + "0010200"},
		{[]string{"weight: 10", "weight: 20", "down: true"}, "101" + "101"},
		{[]string{"weight: 1000", "weight: 999", "backup: true"}, ""},
	} {
		f := start(t, fl.upstream("balance: round_robin", tt.weights...)+oneSite(fleetPages))
		if tt.want == "" {
			who := f.answered(200, "/")
			if n := strings.Count(who, "0"); n < 98 || n > 102 || strings.Contains(who, "2") {
				t.Errorf("%v: %s", tt.weights, who)
			}
			continue
		}
		if who := f.answered(len(tt.want), "/"); who != tt.want {
			t.Errorf("%v: %s, want %s", tt.weights, who, tt.want)
		}
	}
}

// TestTurnsStayOverAReload: a reload is no reason to begin with the first server.
func TestTurnsStayOverAReload(t *testing.T) {
	fl := startFleet(t, 3)
	yaml := fl.upstream("") + oneSite(fleetPages)
	f := start(t, yaml)
	who := ""
	for range 6 {
		who += f.answered(1, "/")
		f.apply(t, plainListener+yaml)
	}
	if who != "012012" {
		t.Errorf("got %s", who)
	}
}

func TestTunnelsGoToTheServerWithTheFewestForItsWeight(t *testing.T) {
	fl := startFleet(t, 2)
	yaml := fl.upstream("", "weight: 3") + oneSite(fleetBoth)
	f := start(t, yaml)
	var open []*client
	for range 8 {
		open = append(open, f.open())
	}
	await(t, "six tunnels and two", func() bool { return fmt.Sprint(fl.openTunnels()) == "[6 2]" })
	for _, c := range open {
		c.Close()
	}
	await(t, "the end of all", func() bool { return fmt.Sprint(fl.openTunnels()) == "[0 0]" && f.server.Counts().Live == 0 })
	f.apply(t, plainListener+fl.upstream("")+oneSite(fleetBoth))
	first := f.open()
	busy := 0
	if fl.openTunnels()[1] == 1 {
		busy = 1
	}
	f.apply(t, plainListener+fl.upstream("keepalive: 3")+oneSite(fleetBoth)) // which forgets no tunnel
	for i := range 6 {
		c := f.open()
		if fl.openTunnels()[busy] != 1 {
			t.Errorf("tunnel %d went to the server that has one", i)
		}
		c.Close()
		await(t, "its end", func() bool { return f.snapshot("fleet").Servers[1-busy].Tunnels == 0 })
	}
	first.Close()
}

func TestOneOfTwoRandomServersIsTheLessBusy(t *testing.T) {
	fl := startFleet(t, 3)
	f := start(t, fl.upstream("balance: random_two")+oneSite(fleetBoth))
	for range 30 {
		f.open()
	}
	if counts := fl.openTunnels(); min(counts[0], counts[1], counts[2]) < 7 || max(counts[0], counts[1], counts[2]) > 13 {
		t.Errorf("30 tunnels went to %v", counts)
	}
}

func TestBackupIsUsedOnlyWhileNoOtherServerIs(t *testing.T) {
	fl := startFleet(t, 2)
	f := start(t, fl.upstream("", "", "backup: true")+oneSite(fleetPages))
	if who := f.answered(4, "/"); who != "0000" {
		t.Fatalf("got %s", who)
	}
	fl[0].listener.Close()
	f.server.Skip(time.Minute) // kept connections end
	if who := f.answered(4, "/"); who != "1111" {
		t.Fatalf("got %s", who)
	}
	l, err := net.Listen("tcp", fl[0].address)
	if err != nil {
		t.Skip(err) // somebody else has the port by now
	}
	startBackendOn(t, l, func(_ *backend, conn net.Conn) { fl[0].serve(0, conn) })
	f.server.Skip(time.Minute)
	if who := f.answered(4, "/"); who != "0000" {
		t.Errorf("got %s", who)
	}
}

func TestWhatIsEqualGoesToTheSameServer(t *testing.T) {
	fl := startFleet(t, 4)
	for _, tt := range []struct{ hash, path, field string }{
		{"header X-User", "/", "X-User: %d\r\n"},
		{"cookie user", "/", "Cookie: a=b; user=%d\r\n"},
		{"query user", "/x?a=1&user=%d", ""},
		{"path", "/users/%d?q=1", ""},
	} {
		f := start(t, fl.upstream("balance: {hash: "+tt.hash+"}")+oneSite(fleetPages))
		all := ""
		for i := range 60 {
			path, field := tt.path, tt.field
			if strings.Contains(path, "%d") {
				path = fmt.Sprintf(path, i)
			} else {
				field = fmt.Sprintf(field, i)
			}
			who := f.answered(3, path, field)
			if who != strings.Repeat(who[:1], 3) {
				t.Errorf("%s: %d went to %s", tt.hash, i, who)
			}
			all += who[:1]
		}
		for n := range fl {
			if !strings.Contains(all, fmt.Sprint(n)) {
				t.Errorf("%s: no server %d among %s", tt.hash, n, all)
			}
		}
		if strings.HasPrefix(tt.hash, "path") {
			continue
		}
		if who := f.answered(4, "/"); who != "0123" && who != "1230" && who != "2301" && who != "3012" {
			t.Errorf("%s: what lacks it went to %s", tt.hash, who)
		}
	}
}

func TestClientsOfOneAddressGoToTheSameServer(t *testing.T) {
	fl := startFleet(t, 4)
	f := start(t, "trusted_proxies: [127.0.0.1]\n"+fl.upstream("balance: ip_hash")+oneSite(fleetPages))
	all := map[string]bool{}
	for i := range 80 {
		who := f.answered(2, "/", fmt.Sprintf("X-Forwarded-For: 192.0.2.%d\r\n", i))
		if who[0] != who[1] {
			t.Errorf("client %d went to %s", i, who)
		}
		all[who[:1]] = true
	}
	if len(all) != 4 {
		t.Errorf("servers of 80 clients: %v", all)
	}
	near := f.answered(1, "/", "X-Forwarded-For: 2001:db8::1\r\n") + f.answered(1, "/", "X-Forwarded-For: 2001:db8::ffff:0:2\r\n")
	if near[0] != near[1] {
		t.Errorf("two addresses of one /64 went to %s", near)
	}
}

// TestHashIsBoundedByTheLoad: what is equal goes elsewhere where its server has more than 1.25 times its share.
func TestHashIsBoundedByTheLoad(t *testing.T) {
	fl := startFleet(t, 4)
	f := start(t, fl.upstream("balance: {hash: path}")+oneSite(fleetBoth))
	for range 40 {
		f.open()
	}
	for i, n := range fl.openTunnels() {
		if n > 13 {
			t.Errorf("server %d has %d of 40 tunnels for one path", i, n)
		}
	}
}

// TestHashMovesOnlyWhatWasTheLostServers keys.
func TestHashMovesOnlyWhatWasTheLostServers(t *testing.T) {
	fl := startFleet(t, 4)
	f := start(t, fl.upstream("balance: {hash: path}")+oneSite(fleetPages))
	ask := func() (who string) {
		for i := range 60 {
			who += f.answered(1, fmt.Sprintf("/%d", i))
		}
		return who
	}
	before := ask()
	f.apply(t, plainListener+fl[:3].upstream("balance: {hash: path}")+oneSite(fleetPages))
	after := ask()
	for i := range before {
		if before[i] != after[i] && before[i] != '3' {
			t.Errorf("path %d moved from %c to %c", i, before[i], after[i])
		}
	}
	if !strings.Contains(before, "3") || strings.Contains(after, "3") {
		t.Errorf("%s became %s", before, after)
	}
}

// cookieOf returns the sticky cookie of an answer, and its attributes.
func cookieOf(a answer) (value, attributes string) {
	for _, line := range a.Header.Values("Set-Cookie") {
		if rest, ok := strings.CutPrefix(line, "at="); ok {
			value, attributes, _ = strings.Cut(rest, "; ")
		}
	}
	return value, attributes
}

// TestStickyClientStaysAtItsServer with polling and the upgrade that follows, as socket.io has it.
func TestStickyClientStaysAtItsServer(t *testing.T) {
	fl := startFleet(t, 3)
	yaml := fl.upstream("sticky: {cookie: at}") + oneSite(fleetBoth)
	f := start(t, yaml)
	seen := map[string]string{}
	for range 9 {
		c := f.dial()
		first := c.ask("/")
		cookie, attributes := cookieOf(first)
		if len(cookie) != 32 || attributes != "Path=/; HttpOnly; SameSite=Lax" {
			t.Fatalf("got the cookie %q, %q", cookie, attributes)
		}
		if other := seen[first.body]; other != "" && other != cookie {
			t.Errorf("server %s has two names", first.body)
		}
		seen[first.body] = cookie
		field := "Cookie: x=y; at=" + cookie + "\r\n"
		for range 4 {
			a := c.ask("/", field)
			if again, _ := cookieOf(a); a.body != first.body || again != "" {
				t.Errorf("went from %s to %s, with another cookie %q", first.body, a.body, again)
			}
		}
		f.apply(t, plainListener+yaml)
		await(t, "the end of the socket before", func() bool { return fmt.Sprint(fl.openTunnels()) == "[0 0 0]" })
		before := fl.openTunnels()
		socket := f.open(field)
		for i, n := range fl.openTunnels() {
			if (n > before[i]) != (fmt.Sprint(i) == first.body) {
				t.Errorf("the socket of server %s went to %d", first.body, i)
			}
		}
		socket.Close()
	}
	if len(seen) < 2 {
		t.Errorf("all clients went to %v", seen)
	}
}

func TestStickyCookieComesWithThe101Too(t *testing.T) {
	fl := startFleet(t, 2)
	f := start(t, fl.upstream("sticky: {cookie: at}")+oneSite(fleetBoth))
	c := f.dial()
	c.send(upgrade)
	cookie, _ := cookieOf(c.expect(101))
	busy := 0
	if fl.openTunnels()[1] == 1 {
		busy = 1
	}
	if who := f.answered(3, "/", "Cookie: at="+cookie+"\r\n"); who != strings.Repeat(fmt.Sprint(busy), 3) {
		t.Errorf("the cookie %q of server %d led to %s", cookie, busy, who)
	}
}

func TestStickyCookieThatNamesNoServerIsReplaced(t *testing.T) {
	fl := startFleet(t, 2)
	f := start(t, fl.upstream("balance: round_robin, sticky: {cookie: at}")+oneSite(fleetPages))
	c := f.dial()
	for _, forged := range []string{"", "x", strings.Repeat("0", 32), fl[0].address} {
		if cookie, _ := cookieOf(c.ask("/", "Cookie: at="+forged+"\r\n")); len(cookie) != 32 || cookie == forged {
			t.Errorf("%q became %q", forged, cookie)
		}
	}
	zero := c.ask("/")
	if zero.body != "0" {
		zero = c.ask("/")
	}
	cookie, _ := cookieOf(zero)
	fl[0].listener.Close()
	f.server.Skip(time.Minute)
	a := c.ask("/", "Cookie: at="+cookie+"\r\n")
	other, _ := cookieOf(a)
	if a.body != "1" || len(other) != 32 || other == cookie {
		t.Errorf("with server 0 down: server %s, cookie %q", a.body, other)
	}
}

func TestStickyCookieHasTheAttributesThatAreConfigured(t *testing.T) {
	fl := startFleet(t, 1)
	for settings, want := range map[string]string{
		"":                               "Path=/; HttpOnly; SameSite=Lax",
		"ttl: 1h":                        "Path=/; Max-Age=3600; HttpOnly; SameSite=Lax",
		"same_site: strict":              "Path=/; HttpOnly; SameSite=Strict",
		"same_site: none":                "Path=/; Secure; HttpOnly; SameSite=None",
		"secure: true":                   "Path=/; Secure; HttpOnly; SameSite=Lax",
		"ttl: 1d, secure: false":         "Path=/; Max-Age=86400; HttpOnly; SameSite=Lax",
		"secret: 0123456789abcdef012345": "Path=/; HttpOnly; SameSite=Lax",
	} {
		f := start(t, fl.upstream("sticky: {cookie: at, "+settings+"}")+oneSite(fleetPages))
		if _, got := cookieOf(f.dial().ask("/")); got != want {
			t.Errorf("%s: %q, want %q", settings, got, want)
		}
	}
	f := startTLS(t, fl.upstream("sticky: {cookie: at}")+secureSite(fleetPages))
	if _, got := cookieOf(f.dialSecure().ask("/")); got != "Path=/; Secure; HttpOnly; SameSite=Lax" {
		t.Errorf("over TLS: %q", got)
	}
}

// TestStickyCookieOutlivesTheProcess: its key is kept, or configured; with another key it means nothing.
func TestStickyCookieOutlivesTheProcess(t *testing.T) {
	fl := startFleet(t, 2)
	storage := t.TempDir()
	cookieWith := func(settings, storage string) string {
		f := start(t, "tls: {storage: "+storage+"}\n"+fl.upstream("balance: {hash: path}, sticky: {cookie: at"+settings+"}")+oneSite(fleetPages))
		cookie, _ := cookieOf(f.dial().ask("/"))
		return cookie
	}
	kept := cookieWith("", storage)
	if again := cookieWith("", storage); again != kept {
		t.Errorf("%q became %q in another process", kept, again)
	}
	if other := cookieWith("", t.TempDir()); other == kept {
		t.Error("another machine has the same key")
	}
	const secret = ", secret: 0123456789abcdef0123"
	if one, two := cookieWith(secret, t.TempDir()), cookieWith(secret, t.TempDir()); one != two || one == kept {
		t.Errorf("with one secret %q and %q", one, two)
	}
}

func TestServersHaveBoundsOfTheirOwn(t *testing.T) {
	fl := startFleet(t, 2)
	f := start(t, fl.upstream("queue: 30s", "max_connections: 1", "max_connections: 3")+oneSite(fleetBoth))
	open := f.open()
	for range 3 {
		f.open()
	}
	if counts := fmt.Sprint(fl.openTunnels()); counts != "[1 3]" {
		t.Errorf("tunnels: %s", counts)
	}
	c := f.dial()
	c.send(get)
	c.waits(f, 20*time.Second)
	await(t, "one in the queue", func() bool { return f.snapshot("fleet").Queued == 1 })
	open.Close()
	c.expect(200)
}

// snapshot returns what is known of an upstream.
func (f *front) snapshot(name string) upstream.Snapshot {
	f.t.Helper()
	for _, s := range f.server.Upstreams() {
		if s.Name == name {
			return s
		}
	}
	f.t.Fatal("no upstream", name)
	return upstream.Snapshot{}
}

func TestSnapshotTellsWhatServersHaveToDo(t *testing.T) {
	fl := startFleet(t, 2)
	f := start(t, fl.upstream("", "weight: 7", "backup: true")+oneSite(fleetBoth))
	socket := f.open()
	s := f.snapshot("fleet")
	first, second := s.Servers[0], s.Servers[1]
	if first.Address != fl[0].address || first.Weight != 7 || first.Tunnels != 1 || first.Active != 0 || first.Backup || first.State != "up" ||
		second.Address != fl[1].address || second.Tunnels != 0 || !second.Backup {
		t.Errorf("got %+v", s)
	}
	socket.Close()
	await(t, "no tunnel", func() bool { return f.snapshot("fleet").Servers[0].Tunnels == 0 })
	f.dial().ask("/")
	await(t, "nothing to do", func() bool { return f.snapshot("fleet").Servers[0].Active == 0 })
}
