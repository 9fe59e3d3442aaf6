package handover

import (
	"errors"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

// TestTunnelsAreHandedOverAtFullSpeed, forth and back many times, while both peers send as fast as they can.
func TestTunnelsAreHandedOverAtFullSpeed(t *testing.T) {
	p, q := newProcess(t), newProcess(t)
	forth, _ := p.connect(q)
	back, _ := q.connect(p)
	const tunnels, rounds = 4, 20
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
	g, _ := p.connect(q)
	q.refuse = errors.New("no room")
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
