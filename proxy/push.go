package proxy

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"wstunnel/internal/metrics"
	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

// Why no message is put into a tunnel.
const (
	pushable uint8 = iota
	pushOff        // the backend wants none
	foreign        // its messages are made by extensions that nobody here knows
)

const (
	// MaxPush is how many bytes a pushed message may have.
	MaxPush = tunnel.MaxMessage
	// PushTTL is how long one waits for its place in a stream where nothing else is said.
	PushTTL = 10 * time.Second
)

// NewMessage makes a message to clients: a text, which has to be UTF-8, or a binary one. A TTL of zero is [PushTTL].
func NewMessage(data []byte, binary bool, ttl time.Duration) *tunnel.Message {
	op := ws.OpText
	if binary {
		op = ws.OpBinary
	}
	return tunnel.NewMessage(tunnel.Client, op, data, cmp.Or(ttl, PushTTL))
}

// Errors of what is for one tunnel.
var (
	ErrGone       = errors.New("the tunnel has ended")
	ErrPushOff    = errors.New("its backend has said that nothing is to be pushed into the tunnel")
	ErrExtensions = errors.New("the tunnel has extensions other than permessage-deflate, so that no message can be put between its own")
	ErrBroken     = errors.New("the tunnel's stream broke the protocol, so that nobody knows where its messages begin")
	ErrFull       = errors.New("too much waits for its place in the tunnel already")
	ErrExpired    = errors.New("the message had no place in the tunnel in time, and is dropped")
)

// Audience says whose tunnels get a message: those of any of these users and groups, and those that are named by their keys. None gets it twice.
type Audience struct {
	Keys, Users, Groups []string
	// Site, where it is not empty, leaves out the tunnels of others.
	Site string
	// Among, where it is not nil, leaves out the tunnels of all sites but these.
	Among []string
	// Settled leaves out those that are on their way to another process. They count as dropped.
	Settled bool
}

// Pushed is what became of a message.
type Pushed struct {
	// Matched is how many tunnels it was for: Written, Queued and Dropped together.
	Matched, Written, Queued, Dropped int
}

// pusher is a live connection that takes messages, but for a [tunnel.Tunnel].
type pusher interface {
	Push(m *tunnel.Message, tell tunnel.Tell)
}

// Push puts a message into tunnels. It returns when each loop has dealt with it, or, with wait, when the message is written to each or dropped.
func (s *Server) Push(ctx context.Context, to Audience, m *tunnel.Message, wait bool) (Pushed, error) {
	d := &pushing{server: s, changed: make(chan struct{}, 1)}
	whole, others := s.tunnels.audience(to, d)
	d.waiting = len(whole) + len(others)
	tunnel.Push(whole, m, d.tell)
	for _, p := range others {
		p.Push(m, d.tell)
	}
	err := d.await(ctx, wait)
	return d.pushed(), err
}

// PushTo puts a message into one tunnel. It fails with what keeps the message from it.
func (s *Server) PushTo(ctx context.Context, key string, m *tunnel.Message, wait bool) (Pushed, error) {
	s.tunnels.mu.Lock()
	t, err := s.tunnels.known(key)
	why := pushable
	if err == nil {
		why = t.unpushable
	}
	s.tunnels.mu.Unlock()
	switch {
	case err != nil:
		return Pushed{}, err
	case why == pushOff:
		return Pushed{}, ErrPushOff
	case why == foreign:
		return Pushed{}, ErrExtensions
	}
	d := &pushing{server: s, waiting: 1, changed: make(chan struct{}, 1)}
	switch c := t.conn.(type) {
	case *tunnel.Tunnel:
		tunnel.Push([]*tunnel.Tunnel{c}, m, d.tell)
	case pusher:
		c.Push(m, d.tell)
	}
	if err := d.await(ctx, wait); err != nil {
		return d.pushed(), err
	}
	return d.pushed(), d.refusal()
}

// audience returns the tunnels that get a message. Those that take none are counted as dropped.
func (ts *tunnels) audience(to Audience, d *pushing) (whole []*tunnel.Tunnel, others []pusher) {
	several := len(to.Keys)+len(to.Users)+len(to.Groups) > 1
	seen := map[*liveTunnel]bool{}
	add := func(t *liveTunnel) {
		if t.conn == nil || !t.isOf(to.Site, to.Among) || seen[t] {
			return
		}
		if several {
			seen[t] = true
		}
		if to.Settled && t.moving {
			d.unpushable++
			return
		}
		switch c := t.conn.(type) {
		case *tunnel.Tunnel:
			if t.unpushable == pushable {
				whole = append(whole, c)
				return
			}
		case pusher:
			if t.unpushable == pushable {
				others = append(others, c)
				return
			}
		}
		d.unpushable++
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	for _, key := range to.Keys {
		if t, err := ts.known(key); err == nil {
			add(t)
		}
	}
	for _, user := range to.Users {
		for m := ts.users[user]; m != nil; m = m.next {
			add(m.tunnel)
		}
	}
	for _, group := range to.Groups {
		for m := ts.groups[group]; m != nil; m = m.next {
			add(m.tunnel)
		}
	}
	return whole, others
}

// pushing is a message on its way into tunnels.
type pushing struct {
	server     *Server
	unpushable int

	mu       sync.Mutex
	waiting  int // tunnels of which nothing is told yet
	queued   int
	outcomes [tunnel.Outcomes]int
	changed  chan struct{}
}

// tell takes what became of the message in one of the tunnels.
func (d *pushing) tell(o tunnel.Outcome, waited bool) {
	if o != tunnel.Queued {
		d.server.pushes.count(o)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if waited {
		d.queued--
	} else {
		d.waiting--
	}
	if o == tunnel.Queued {
		d.queued++
	} else {
		d.outcomes[o]++
	}
	if d.waiting == 0 {
		select {
		case d.changed <- struct{}{}:
		default:
		}
	}
}

// await waits until every tunnel was told of, or, with all, until nothing is queued any more.
func (d *pushing) await(ctx context.Context, all bool) error {
	for {
		d.mu.Lock()
		over := d.waiting == 0 && (d.queued == 0 || !all)
		d.mu.Unlock()
		if over {
			return nil
		}
		select {
		case <-d.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// pushed sums up what is known by now.
func (d *pushing) pushed() Pushed {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := Pushed{Written: d.outcomes[tunnel.Written], Queued: d.waiting + d.queued + d.outcomes[tunnel.Moved], Dropped: d.unpushable}
	for _, o := range []tunnel.Outcome{tunnel.Full, tunnel.Expired, tunnel.Closed, tunnel.Broken} {
		p.Dropped += d.outcomes[o]
	}
	p.Matched = p.Written + p.Queued + p.Dropped
	return p
}

// refusal is why the message was dropped where it was for one tunnel.
func (d *pushing) refusal() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for o, err := range map[tunnel.Outcome]error{tunnel.Full: ErrFull, tunnel.Expired: ErrExpired, tunnel.Closed: ErrGone, tunnel.Broken: ErrBroken} {
		if d.outcomes[o] > 0 {
			return err
		}
	}
	return nil
}

// pushCounts are what became of pushed messages, in all tunnels since the start.
type pushCounts [tunnel.Outcomes]atomic.Uint64

func (c *pushCounts) count(o tunnel.Outcome) { c[o].Add(1) }

// collect writes them.
func (c *pushCounts) collect(w *metrics.Writer) {
	w.Family("wstunnel_pushed_messages_total", metrics.Counter, "Messages that were pushed into tunnels, once for each, by what became of them.")
	for o, name := range map[tunnel.Outcome]string{
		tunnel.Written: "written", tunnel.Moved: "moved", tunnel.Full: "queue full", tunnel.Expired: "expired", tunnel.Closed: "closed", tunnel.Broken: "broken",
	} {
		w.Count(c[o].Load(), "outcome", name)
	}
}
