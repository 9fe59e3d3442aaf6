package proxy_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/handover"
	"wstunnel/internal/logs"
	"wstunnel/internal/reactor"
	"wstunnel/internal/ws"
	"wstunnel/proxy"
	"wstunnel/tls"
)

// succession is two servers, of which the second takes over from the first.
type succession struct {
	old, young *front
	giver      *handover.Giver
	over       chan error // the second has heard the first's end
}

// host is what the second server does with what comes.
type successor struct{ *proxy.Server }

func (successor) Main()                {}
func (successor) Left(handover.Status) {}

// succeed starts a server that takes the listeners over from another one, with a configuration of its own.
func succeed(t *testing.T, old *front, yaml string) *succession {
	t.Helper()
	listeners, err := old.server.Listeners()
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]net.Listener{}
	for _, l := range listeners {
		file := os.NewFile(uintptr(l.Descriptor), l.Address)
		if given[l.Address], err = net.FileListener(file); err != nil {
			t.Fatal(err)
		}
		file.Close()
	}
	young := &front{t: t, log: &logBuffer{}}
	own := logs.New(young.log, logs.JSON)
	cfg, err := config.Parse("wstunnel.yaml", []byte(yaml), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	certs, err := tls.NewManager(own.Logger()).Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	young.server = proxy.New(own, nil)
	young.server.Inherit(proxy.Inheritance{Listeners: given, LastID: old.server.LastID()})
	if err := young.server.Apply(cfg, certs); err != nil {
		t.Fatal(err)
	}
	young.plain = young.server.Addresses()[0].String()
	t.Cleanup(young.stop)
	s := &succession{old: old, young: young, over: make(chan error, 1)}
	ours, theirs, err := handover.Pair()
	if err != nil {
		t.Fatal(err)
	}
	taker, err := handover.NewTaker(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if s.giver, err = handover.NewGiver(ours, reactor.NewClock(), taker.Close); err != nil {
		t.Fatal(err)
	}
	go func() { s.over <- taker.Run(successor{young.server}) }()
	t.Cleanup(func() {
		s.giver.Close()
		<-s.giver.Gone()
		<-s.over
	})
	return s
}

// handOver stops the old server's accepting and hands its tunnels over.
func (s *succession) handOver(t *testing.T, want int) {
	t.Helper()
	s.old.server.StopAccepting()
	if n, err := s.old.server.HandOver(s.giver); n != want || err != nil {
		t.Fatalf("%d tunnels went, %v; want %d", n, err, want)
	}
}

func echoSocket(t *testing.T) *backend {
	t.Helper()
	return startSocket(t, echoMessages)
}

// echoMessages sends back each message, unmasked.
func echoMessages(conn net.Conn, br *bufio.Reader) {
	for {
		head, err := br.Peek(14) // with the mask and a header's longest length: no message here is that short
		if err != nil {
			return
		}
		size, skip := int(head[1]&0x7F), 2
		switch size {
		case 126:
			size, skip = int(binary.BigEndian.Uint16(head[2:])), 4
		case 127:
			size, skip = int(binary.BigEndian.Uint64(head[2:])), 10
		}
		mask := [4]byte(head[skip:])
		br.Discard(skip + 4)
		payload := make([]byte, size)
		if _, err := io.ReadFull(br, payload); err != nil {
			return
		}
		for i := range payload {
			payload[i] ^= mask[i%4]
		}
		io.WriteString(conn, serverText(string(payload)))
	}
}

// socket opens a tunnel.
func (f *front) socket() *client {
	f.t.Helper()
	c := f.dial()
	c.send(upgrade)
	if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		f.t.Fatal(head)
	}
	return c
}

func (c *client) echoes(message string) {
	c.t.Helper()
	message += ", and no shorter"
	c.send(text(message))
	want := serverText(message)
	if got := mustRead(c.t, c.br, len(want)); got != want {
		c.t.Fatalf("%d bytes came back otherwise", len(got))
	}
}

func TestAnotherServerTakesTunnelsOver(t *testing.T) {
	b := echoSocket(t)
	yaml := plainListener + "limits: {max_connections_per_client: 100}\n" +
		fmt.Sprintf("upstreams: {one: {servers: [%q], max_connections: 3, queue: 1ms}}\n", b.address) + oneSite(`{path: /ws, websocket: "ws://one"}`)
	old := startWith(t, yaml)
	clients := []*client{old.socket(), old.socket(), old.socket()}
	for _, c := range clients {
		c.echoes("before")
	}
	s := succeed(t, old, yaml)
	was := s.old.server.Tunnels()
	s.handOver(t, 3)
	for i, c := range clients {
		c.echoes(strings.Repeat("after ", i*50_000))
	}
	await(t, "the old server to count nothing", func() bool { return s.old.server.Counts() == (proxy.Counts{}) })
	if n := s.young.server.Counts(); n.Clients != 3 || n.ByClient != 1 || n.Live != 3 {
		t.Errorf("the young server counts %+v", n)
	}
	await(t, "all messages to be counted", func() bool {
		return !slices.ContainsFunc(s.young.server.Tunnels(), func(now proxy.TunnelStatus) bool { return now.ToClient.Messages != 2 })
	})
	for i, now := range s.young.server.Tunnels() {
		then := was[i]
		if now.ToBackend.Messages != 2 || now.ToClient.Messages != 2 || !now.Since.Equal(then.Since) {
			t.Errorf("%+v", now)
		}
		now.Stats, now.Since = then.Stats, then.Since
		if !reflect.DeepEqual(now, then) {
			t.Errorf("%+v was %+v", now, then)
		}
	}
	c := s.young.dial()
	c.send(upgrade)
	c.expect(503) // max_connections holds on
	clients[0].Close()
	await(t, "the end in the log", func() bool { return strings.Count(s.young.log.String(), `"tunnel closed"`) == 1 })
	await(t, "its place", func() bool { return s.young.server.Counts().Live == 2 }) // which is given back behind that line
	s.young.socket().echoes("a new one")
	if strings.Contains(s.old.log.String(), `"tunnel closed"`) {
		t.Error("the old server has logged an end")
	}
	for _, other := range clients[1:] {
		other.Close()
	}
}

// TestOldServerWindsDown: requests under way are answered, kept connections have one more, tunnels that open meanwhile are handed over.
func TestOldServerWindsDown(t *testing.T) {
	b := echoSocket(t)
	asked, answer := make(chan struct{}, 2), make(chan struct{})
	slow := startBackend(t, func(_ *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		for {
			head, err := rawHead(br)
			if err != nil {
				return
			}
			if strings.Contains(head, "/slow") {
				asked <- struct{}{}
				<-answer
			}
			io.WriteString(conn, ok)
		}
	})
	yaml := plainListener + oneSite(socketTo(b.address), httpTo(slow.address))
	old := startWith(t, yaml)
	kept, idle, fresh, busy := old.dial(), old.dial(), old.dial(), old.dial()
	for _, c := range []*client{kept, idle} {
		c.send(get)
		c.expect(200)
	}
	busy.send("GET /slow HTTP/1.1\r\nHost: example.com\r\n\r\n")
	<-asked
	await(t, "all connections", func() bool { return old.server.Counts().Clients == 4 })
	s := succeed(t, old, yaml)
	s.handOver(t, 0)
	reports := make(chan proxy.Left, 100)
	done := make(chan error, 1)
	go func() { done <- s.old.server.WindDown(t.Context(), s.giver, func(l proxy.Left) { reports <- l }) }()
	if first := <-reports; first != (proxy.Left{Connections: 4}) {
		t.Errorf("at first there is left %+v", first)
	}
	kept.send(get)
	if a := kept.expect(200); !a.Close {
		t.Error("a kept connection is not told that it ends")
	}
	kept.rest()
	late := fresh
	late.send(upgrade)
	if head := late.head(); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		t.Fatal(head)
	}
	close(answer)
	if a := busy.expect(200); a.body == "" {
		t.Error("the answer that was under way is empty")
	}
	await(t, "the end", func() bool {
		s.old.server.Skip(time.Second)
		return len(done) > 0
	})
	if err := <-done; err != nil {
		t.Error(err)
	}
	late.echoes("in its new home")
	if n := len(s.young.server.Tunnels()); n != 1 {
		t.Errorf("the young server has %d tunnels", n)
	}
	if rest := idle.rest(); rest != "" {
		t.Errorf("the idle connection ended behind %q", rest)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := s.old.server.Shutdown(ctx); err != nil {
		t.Error(err)
	}
	s.old.stopped = true
	late.echoes("still")
	s.young.socket().echoes("new")
	late.Close()
}

// TestServerAcceptsAgain when who was to take over is gone.
func TestServerAcceptsAgain(t *testing.T) {
	b := echoSocket(t)
	yaml := plainListener + oneSite(socketTo(b.address))
	old := startWith(t, yaml)
	c := old.socket()
	s := succeed(t, old, yaml)
	s.giver.Close()
	<-s.giver.Gone()
	s.old.server.StopAccepting()
	if n, err := s.old.server.HandOver(s.giver); n != 0 || !errors.Is(err, handover.ErrGone) {
		t.Errorf("%d tunnels went, %v", n, err)
	}
	s.young.stop()
	if err := s.old.server.AcceptAgain(); err != nil {
		t.Fatal(err)
	}
	c.echoes("where it was")
	for range 20 {
		s.old.socket().echoes("accepted")
	}
	if err := s.old.try(t, yaml); err != nil {
		t.Error(err)
	}
}

// TestSecureTunnelStays, and so does one that is relayed.
func TestSecureTunnelStays(t *testing.T) {
	b := echoSocket(t)
	secure := startSecureSocket(t, echoMessages)
	yaml := plainListener + oneSite(`{path: /ws, tls_verify: false, websocket: "wss://`+secure.address+`"}`, `{path: /relay, mode: relay, websocket: "ws://`+b.address+`"}`)
	old := startWith(t, yaml)
	overTLS, relayed := old.socket(), old.dial()
	relayed.send(strings.Replace(upgrade, "/ws", "/relay", 1))
	relayed.head()
	s := succeed(t, old, yaml)
	s.handOver(t, 0)
	overTLS.echoes("here")
	relayed.echoes("there")
	ctx, cancel := context.WithCancel(t.Context())
	reports := make(chan proxy.Left, 10)
	done := make(chan error, 1)
	go func() { done <- s.old.server.WindDown(ctx, s.giver, func(l proxy.Left) { reports <- l }) }()
	if left := <-reports; left != (proxy.Left{Tunnels: 2, Secure: 1, Relayed: 1}) {
		t.Errorf("left is %+v", left)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestServerThatStopsTakesNoTunnel, and says so at once: the other process waits for that, and this one for its word about those that it has.
func TestServerThatStopsTakesNoTunnel(t *testing.T) {
	b := echoSocket(t)
	yaml := plainListener + oneSite(socketTo(b.address))
	old := startWith(t, yaml)
	c, _ := old.openTunnel()
	s := succeed(t, old, yaml)
	old.server.StopAccepting() // so that the next one is the young server's
	silent, _ := s.young.openTunnel()
	stopped := s.young.beginShutdown()
	if op, _ := frame(t, silent.br); op != ws.OpClose { // which is not answered
		t.Fatalf("got a frame %d", op)
	}
	s.handOver(t, 0)
	select {
	case <-stopped:
		t.Error("it was refused behind the stop")
	default:
	}
	c.echoes("where it was")
	s.young.server.Hurry()
	s.young.server.Skip(10 * time.Second)
	<-stopped
}
