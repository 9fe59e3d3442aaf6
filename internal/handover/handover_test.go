package handover

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wstunnel/internal/reactor"
	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

// TestTunnelsAreHandedOverAtFullSpeed, forth and back many times, while both peers send as fast as they can.
func TestTunnelsAreHandedOverAtFullSpeed(t *testing.T) {
	p, q := newProcess(t), newProcess(t)
	forth, _ := p.connect(q)
	back, _ := q.connect(p)
	const tunnels, rounds = 2, 10
	var talks []*conversation
	for id := range uint64(tunnels) {
		client, backend := p.open(id, tunnel.Options{Ping: time.Minute, IdleTimeout: time.Hour})
		talks = append(talks, converse(client, backend, id))
	}
	var moving sync.WaitGroup
	for id := range uint64(tunnels) {
		moving.Go(func() {
			for range rounds {
				if err := p.move(forth, id); err != nil {
					t.Errorf("tunnel %d: %v", id, err)
					return
				}
				if id%2 == 0 {
					q.find(id).Inject(tunnel.Client, ws.OpPing, []byte("between"))
				}
				if err := q.move(back, id); err != nil {
					t.Errorf("tunnel %d on its way back: %v", id, err)
					return
				}
			}
		})
	}
	moving.Wait()
	var messages uint64
	for _, c := range talks {
		messages += c.finish(t)
	}
	t.Logf("%d messages in %d moves", messages, 2*tunnels*rounds)
	for range tunnels {
		r := p.end()
		if r.Cause != tunnel.CauseClose || r.ToBackend.Bytes == 0 || r.ToBackend.Opaque || r.ToClient.Opaque {
			t.Errorf("it ended with %+v", r)
		}
		messages -= r.ToBackend.Messages + r.ToClient.Messages
	}
	if messages != 0 {
		t.Errorf("%d messages more came than were counted", int64(messages))
	}
}

func TestRefusedTunnelGoesOnWhereItWas(t *testing.T) {
	p, q := newProcess(t), newProcess(t)
	refusal := errors.New("no room")
	q.refuse.Store(&refusal)
	g, _ := p.connect(q)
	client, backend := p.open(1, tunnel.Options{})
	talk := converse(client, backend, 1)
	for range 100 {
		if err := p.move(g, 1); err == nil || err.Error() != "refused: no room" {
			t.Fatal(err)
		}
	}
	talk.finish(t)
}

// TestSilentProcessDoesNotGetATunnel that it takes too long to adopt, though it does so in the end.
func TestSilentProcessDoesNotGetATunnel(t *testing.T) {
	p, q := newProcess(t), newProcess(t)
	q.stall = make(chan struct{})
	g, _ := p.connect(q)
	client, backend := p.open(1, tunnel.Options{})
	talk := converse(client, backend, 1)
	moved := make(chan error, 1)
	go func() { moved <- p.move(g, 1) }()
	var err error
	for err == nil {
		p.clock.Skip(patience)
		select {
		case err = <-moved:
		case <-time.After(10 * time.Millisecond):
		}
	}
	if !errors.Is(err, ErrSilent) {
		t.Fatal(err)
	}
	close(q.stall)
	eventually(t, "the tunnel is given back", func() bool { return q.has(1) && q.find(1) == nil })
	talk.finish(t)
	if r := p.end(); r.Cause != tunnel.CauseClose {
		t.Errorf("it ended with %+v", r)
	}
}

// TestDeadProcessLeavesTunnels: those that it was given and has not confirmed go on where they were.
func TestDeadProcessLeavesTunnels(t *testing.T) {
	p := newProcess(t)
	client, backend := p.open(1, tunnel.Options{})
	talk := converse(client, backend, 1)
	for range 10 {
		ours, theirs, err := Pair()
		if err != nil {
			t.Fatal(err)
		}
		g, err := NewGiver(ours, p.clock, func() {})
		if err != nil {
			t.Fatal(err)
		}
		q, err := newLink(theirs)
		if err != nil {
			t.Fatal(err)
		}
		go func() { // it dies with the tunnel in its hands
			if m, err := q.receive(); err == nil {
				m.drop()
			}
			q.close()
		}()
		if err := p.move(g, 1); !errors.Is(err, ErrGone) {
			t.Fatal(err)
		}
	}
	talk.finish(t)
}

// TestOrphanGoesOnWithWhatItHas: the older process dies when a tunnel is adopted, and before its word to go on.
func TestOrphanGoesOnWithWhatItHas(t *testing.T) {
	p, q := newProcess(t), newProcess(t)
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	taker, err := NewTaker(theirs)
	if err != nil {
		t.Fatal(err)
	}
	over := make(chan error, 1)
	go func() { over <- taker.Run(q) }()
	l, err := newLink(ours)
	if err != nil {
		t.Fatal(err)
	}
	client, backend := p.open(1, tunnel.Options{})
	talk := converse(client, backend, 1)
	held := make(chan *tunnel.Held, 1)
	p.find(1).Hold(func(h *tunnel.Held, _ error) { held <- h })
	h := <-held
	record := &Tunnel{ID: 1, State: *h.State}
	body, err := record.encode()
	if err != nil {
		t.Fatal(err)
	}
	if err := l.send(&message{kind: tunnelMessage, transaction: 7, body: body, descriptors: []int{h.Client, h.Backend}}, patience); err != nil {
		t.Fatal(err)
	}
	if m, err := l.receive(); err != nil || m.kind != adoptedMessage || m.transaction != 7 {
		t.Fatal(m, err)
	}
	unix.Close(h.Client)
	unix.Close(h.Backend)
	left := make(chan bool, 1)
	h.Leave(func(_ tunnel.Late, ok bool) { left <- ok }) // as the kernel closes what a dead process had
	if !<-left {
		t.Fatal("it could not be left")
	}
	l.close()
	if err := <-over; err != nil {
		t.Error(err)
	}
	talk.finish(t)
}

// TestNonsenseEndsTheLink: a younger process that says what nobody understands is ended before anything goes on elsewhere.
func TestNonsenseEndsTheLink(t *testing.T) {
	p := newProcess(t)
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	killed := make(chan struct{})
	g, err := NewGiver(ours, p.clock, func() { close(killed) })
	if err != nil {
		t.Fatal(err)
	}
	q, err := newLink(theirs)
	if err != nil {
		t.Fatal(err)
	}
	defer q.close()
	client, backend := p.open(1, tunnel.Options{})
	talk := converse(client, backend, 1)
	go q.send(&message{kind: 99}, patience)
	if err := p.move(g, 1); !errors.Is(err, ErrGone) {
		t.Error(err)
	}
	<-killed
	talk.finish(t)
}

// TestProcessThatSaysNothingIsNotWaitedFor longer than it may take, neither for its hello nor until it serves.
func TestProcessThatSaysNothingIsNotWaitedFor(t *testing.T) {
	clock := reactor.NewClock()
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	g, err := NewGiver(ours, clock, func() {})
	if err != nil {
		t.Fatal(err)
	}
	silent := func(what string, ask func() error) {
		t.Helper()
		done := make(chan error, 1)
		go func() { done <- ask() }()
		for len(done) == 0 {
			clock.Skip(time.Second)
			time.Sleep(time.Millisecond)
		}
		if err := <-done; !errors.Is(err, ErrSilent) {
			t.Errorf("%s: %v", what, err)
		}
	}
	silent("hello", func() error { _, err := g.Greet(Hello{}); return err })
	taker, err := NewTaker(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := taker.Greet(Hello{Program: "v2", PID: 7}); err != nil {
		t.Fatal(err)
	}
	if them, err := g.Greet(Hello{}); err != nil || them != (Hello{Version: Version, Program: "v2", PID: 7}) {
		t.Fatal(them, err)
	}
	silent("ready", func() error { return g.Offer(&Offer{}, time.Minute) })
	taker.Fail(errors.New("a mistake\nand another"))
	if err := g.Offer(&Offer{}, time.Minute); err == nil || err.Error() != "a mistake\nand another" {
		t.Error(err)
	}
	taker.Close()
	<-g.Gone()
}

// TestListenersGoOver many of them, in more than one message.
func TestListenersGoOver(t *testing.T) {
	p := newProcess(t)
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	taker, err := NewTaker(theirs)
	if err != nil {
		t.Fatal(err)
	}
	g, err := NewGiver(ours, p.clock, taker.Close)
	if err != nil {
		t.Fatal(err)
	}
	l, err := listen(t).(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	want := &Offer{LastID: 5, Secrets: []Secret{{"tickets", []byte("key")}}, Drains: []Drain{{Site: "example.com"}}, Left: []Status{{PID: 7, Relayed: 1, Program: "1.0", Started: time.Unix(1, 0)}}}
	for i := range 2*listenersAtOnce + 1 {
		want.Listeners = append(want.Listeners, Listener{fmt.Sprintf("127.0.0.1:%d", i), int(l.Fd())})
	}
	offered := make(chan error, 1)
	go func() { offered <- g.Offer(want, waitFor) }()
	got, err := taker.Offered()
	if err != nil {
		t.Fatal(err)
	}
	for i, l := range got.Listeners {
		if l.Address != want.Listeners[i].Address {
			t.Errorf("listener %d is %s", i, l.Address)
		}
		unix.Close(l.Descriptor)
	}
	if len(got.Listeners) != len(want.Listeners) || got.LastID != 5 || string(got.Secrets[0].Value) != "key" || got.Drains[0].Site != "example.com" {
		t.Errorf("got %+v", got)
	}
	if err := taker.Ready(); err != nil {
		t.Error(err)
	}
	if err := <-offered; err != nil {
		t.Error(err)
	}
	taker.Close()
	<-g.Gone()
}

// TestCallsGoOver, each with a connection; when so many wait that nobody takes them, the next ones are closed.
func TestCallsGoOver(t *testing.T) {
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	taker, err := NewTaker(theirs)
	if err != nil {
		t.Fatal(err)
	}
	g, err := NewGiver(ours, reactor.NewClock(), taker.Close)
	if err != nil {
		t.Fatal(err)
	}
	call := func() *os.File {
		t.Helper()
		mine, yours, err := Pair()
		if err != nil {
			t.Fatal(err)
		}
		defer yours.Close()
		if err := taker.Call(Call{PID: 7, Descriptor: int(yours.Fd())}); err != nil {
			t.Fatal(err)
		}
		return mine
	}
	asking := call()
	defer asking.Close()
	asking.WriteString("hello")
	got := <-g.Calls()
	if got.PID != 7 {
		t.Errorf("it is for process %d", got.PID)
	}
	said := make([]byte, 9)
	if n, err := unix.Read(got.Descriptor, said); err != nil || string(said[:n]) != "hello" {
		t.Errorf("came %q, %v", said[:n], err)
	}
	unix.Close(got.Descriptor)
	for range maxCalls {
		defer call().Close()
	}
	beyond := call()
	defer beyond.Close()
	if n, err := beyond.Read(said); n != 0 || err != io.EOF {
		t.Errorf("read %d bytes, %v", n, err)
	}
	for range maxCalls {
		unix.Close((<-g.Calls()).Descriptor)
	}
	if err := taker.link.send(&message{kind: callMessage, body: []byte{7}}, patience); err != nil { // whose connection was lost on its way
		t.Error(err)
	}
	last := call()
	defer last.Close()
	unix.Close((<-g.Calls()).Descriptor)
	taker.Close()
	<-g.Gone()
}
