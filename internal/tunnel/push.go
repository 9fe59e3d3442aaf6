package tunnel

import (
	"time"

	"wstunnel/internal/reactor"
	"wstunnel/internal/ws"
)

// Message is a text or binary message to be put between the messages of streams. It is not modified, and may be put into many.
type Message struct {
	// To is the side that gets it.
	To      Side
	Op      ws.Opcode // text or binary
	Payload []byte    // MaxMessage bytes at most; of a text, UTF-8
	// TTL is how long it may wait for its place in a stream; then it is dropped. It is more than zero.
	TTL time.Duration

	frame []byte // of what goes to clients, all of whom get the same bytes
}

// NewMessage makes a message.
func NewMessage(to Side, op ws.Opcode, payload []byte, ttl time.Duration) *Message {
	m := &Message{To: to, Op: op, Payload: payload, TTL: ttl}
	if to == Client {
		m.frame = newFrame(to, op, payload)
	}
	return m
}

// Frame returns the bytes for one stream: a client's, or masked afresh for a backend (RFC 6455, section 5.3). They are not to be modified.
func (m *Message) Frame() []byte {
	if m.frame != nil {
		return m.frame
	}
	return newFrame(m.To, m.Op, m.Payload)
}

// Outcome is what became of a message in one stream.
type Outcome uint8

// The outcomes. Queued is followed by another one.
const (
	// Written: the system, or what waits for it in the connection, has all of it.
	Written Outcome = iota
	// Queued: it waits for its place.
	Queued
	// Moved: it waits in another process, which goes on with the tunnel.
	Moved
	// Full: too much waits already.
	Full
	// Expired: it had no place in time.
	Expired
	// Closed: nothing goes that way any more.
	Closed
	// Broken: what comes the same way broke RFC 6455, so that nobody knows where messages begin.
	Broken
	Outcomes // how many there are
)

// Tell is told what becomes of a message in a stream, and whether [Queued] was told of it before. It must not block.
type Tell func(o Outcome, waited bool)

// waiting is a message in the queue for a stream.
type waiting struct {
	frame []byte
	due   time.Duration // when it is dropped, on the loop's clock; zero for never
	tell  Tell          // may be nil
}

// How many tunnels of a loop get a message before others have their turn: fewer where it is long.
const (
	pushesAtOnce    = 64
	pushBytesAtOnce = 512 << 10 // in all of them together
)

// Push puts a message into the streams of tunnels, and returns at once. For each of them tell is called: once, or with [Queued] first. For
// one tunnel, messages keep the order of calls of which each is made when tell was called for the one before.
func Push(all []*Tunnel, m *Message, tell Tell) {
	byLoop := map[*reactor.Loop][]*Tunnel{}
	for _, t := range all {
		byLoop[t.loop] = append(byLoop[t.loop], t)
	}
	for loop, some := range byLoop {
		pushSome(loop, some, m, tell)
	}
}

// pushSome puts a message into the streams of some tunnels of a loop, a few in each turn.
func pushSome(loop *reactor.Loop, some []*Tunnel, m *Message, tell Tell) {
	posted := loop.Post(func() {
		n := min(len(some), pushesAtOnce, max(1, pushBytesAtOnce/(len(m.Payload)+maxFrameHead)))
		for _, t := range some[:n] {
			t.push(m, tell)
		}
		if n < len(some) {
			pushSome(loop, some[n:], m, tell)
		}
	})
	if !posted {
		for range some {
			tell(Closed, false)
		}
	}
}

// push puts a message into the stream to a side.
func (t *Tunnel) push(m *Message, tell Tell) {
	if t.over() {
		tell(Closed, false)
		return
	}
	t.client.conn.Do(func() {
		from := &t.client
		if m.To == Client {
			from = &t.backend
		}
		if t.held != nil {
			tell(t.pushLate(from, m, tell), false)
			return
		}
		tell(t.queue(from, waiting{frame: m.Frame(), due: t.now() + m.TTL, tell: tell}), false)
	})
}

// pushLate keeps a message for whoever goes on with the tunnel, behind those that wait in the stream already.
func (t *Tunnel) pushLate(from *endpoint, m *Message, tell Tell) Outcome {
	waiting, size := 1, int(from.backlog.Load())+len(m.Payload)
	if from.pending != nil {
		waiting += len(from.pending.data)
	}
	for _, f := range t.held.late.Frames {
		if f.To == m.To {
			waiting++
			size += len(f.Frame)
		}
	}
	if waiting > maxWaiting || size > maxBacklog {
		return Full
	}
	t.held.late.Frames = append(t.held.late.Frames, LateFrame{To: m.To, Op: m.Op, Frame: m.Frame(), TTL: m.TTL, tell: tell})
	return Queued
}

// queue puts a message in, now if this is the place for it, unless too much waits.
func (t *Tunnel) queue(from *endpoint, w waiting) Outcome {
	switch {
	case t.over() || from.ended:
		return Closed
	case from.takesNoFrames():
		return from.refusal()
	case from.pending != nil && len(from.pending.data) >= maxWaiting || !from.reserve(w.frame):
		return Full
	}
	return t.enqueue(from, w)
}

// queueLate is queue for a message that was taken in while the tunnel was held. In a process that has taken the tunnel over, those of both together may be more than
// would be taken in at once.
func (t *Tunnel) queueLate(from *endpoint, w waiting) Outcome {
	switch {
	case t.over() || from.ended:
		return Closed
	case from.takesNoFrames():
		return from.refusal()
	}
	from.backlog.Add(int32(len(w.frame)))
	return t.enqueue(from, w)
}

// enqueue puts a message in that is in the backlog. Its teller is told of what comes after [Queued] only.
func (t *Tunnel) enqueue(from *endpoint, w waiting) Outcome {
	fate, tell := Queued, w.tell
	w.tell = func(o Outcome, _ bool) { fate = o }
	x := from.flow.queue()
	x.data = append(x.data, w)
	from.boundary()
	if fate != Queued {
		if fate == Written {
			t.touch()
		}
		return fate
	}
	x.data[len(x.data)-1].tell = tell // it is the last of those that wait
	t.schedule()
	return Queued
}

// refusal is what becomes of messages in a stream that takes no frames.
func (s *flow) refusal() Outcome {
	if s.scan.Err() != nil {
		return Broken
	}
	return Closed
}

// dropMessages forgets the messages that are queued.
func (s *flow) dropMessages(why Outcome) {
	if s.pending == nil {
		return
	}
	dropped := s.pending.data
	s.pending.data = nil
	for _, m := range dropped {
		s.backlog.Add(-int32(len(m.frame)))
		if m.tell != nil {
			m.tell(why, true)
		}
	}
}

// overdueAt returns when the first message is to be dropped, or never.
func (s *flow) overdueAt(never time.Duration) time.Duration {
	if s.pending == nil {
		return never
	}
	for _, m := range s.pending.data {
		if m.due > 0 {
			never = min(never, m.due)
		}
	}
	return never
}

// dropOverdue forgets the messages whose time is up.
func (s *flow) dropOverdue(now time.Duration) {
	if s.pending == nil || len(s.pending.data) == 0 {
		return
	}
	kept := s.pending.data[:0:0]
	for _, m := range s.pending.data {
		if m.due == 0 || m.due > now {
			kept = append(kept, m)
			continue
		}
		s.backlog.Add(-int32(len(m.frame)))
		if m.tell != nil {
			m.tell(Expired, true)
		}
	}
	s.pending.data = kept
	s.forgetIdle()
}

// tellMoved says that what waits goes on in another process.
func (t *Tunnel) tellMoved(late Late) {
	for _, s := range t.endpoints() {
		s.dropMessages(Moved)
	}
	late.drop(Moved)
}

// drop tells what became of the messages.
func (l *Late) drop(why Outcome) {
	for _, f := range l.Frames {
		if f.tell != nil {
			f.tell(why, true)
		}
	}
}
