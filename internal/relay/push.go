package relay

import (
	"sync"
	"time"

	"wstunnel/internal/tunnel"
)

// maxWaiting is how many messages may wait for their place in one stream; [tunnel.MaxMessage] bounds their bytes.
const maxWaiting = 64

// pushes are the messages that wait for a place in what a peer is sent.
type pushes struct {
	mu      sync.Mutex
	waiting []waiting
	size    int  // of their frames
	busy    bool // a goroutine sees to them
	closed  bool // nothing goes that way any more
	alarm   Alarm
}

type waiting struct {
	frame []byte
	due   time.Duration // when it is dropped, on the clock
	tell  tunnel.Tell
}

// Push puts a message into the stream to one side, between two messages, and returns at once. tell is called with [tunnel.Queued] and then once more, or once.
func (s *Session) Push(m *tunnel.Message, tell tunnel.Tell) {
	c := s.client
	if m.To == tunnel.Backend {
		c = s.backend
	}
	c.enqueue(waiting{frame: m.Frame(), due: s.clock.Elapsed() + m.TTL, tell: tell})
}

func (c *endpoint) enqueue(w waiting) {
	q := &c.pushes
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		w.tell(tunnel.Closed, false)
		return
	case len(q.waiting) >= maxWaiting || len(q.waiting) > 0 && q.size+len(w.frame) > tunnel.MaxMessage:
		w.tell(tunnel.Full, false)
		return
	}
	w.tell(tunnel.Queued, false)
	q.waiting = append(q.waiting, w)
	q.size += len(w.frame)
	c.setPushAlarm()
	if !q.busy {
		q.busy = true
		go c.writePushesSoon()
	}
}

// writePushesSoon writes what waits when nobody else writes.
func (c *endpoint) writePushesSoon() {
	c.write.Lock()
	defer c.write.Unlock()
	c.pushes.mu.Lock()
	c.pushes.busy = false
	c.pushes.mu.Unlock()
	if err := c.writePushes(); err != nil {
		c.lost(err)
	}
}

// writePushes writes what waits, if this is the place for it. It is called with write held.
func (c *endpoint) writePushes() error {
	for c.out.AtMessageBoundary() && !c.closeSent.Load() && c.closeOrdered.Load() == nil {
		w, ok := c.takePush()
		if !ok {
			return nil
		}
		if err := c.put(w.frame); err != nil {
			w.tell(tunnel.Closed, true)
			return err
		}
		w.tell(tunnel.Written, true)
	}
	return nil
}

// takePush takes the first message that waits.
func (c *endpoint) takePush() (w waiting, ok bool) {
	q := &c.pushes
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) == 0 {
		return waiting{}, false
	}
	w, q.waiting = q.waiting[0], q.waiting[1:]
	q.size -= len(w.frame)
	c.setPushAlarm()
	return w, true
}

// setPushAlarm sets the alarm for the message whose time is up first. It is called with the mu of pushes held.
func (c *endpoint) setPushAlarm() {
	q := &c.pushes
	if len(q.waiting) == 0 {
		q.waiting = nil
		if q.alarm != nil {
			q.alarm.Stop()
		}
		return
	}
	if q.alarm == nil {
		q.alarm = c.session.clock.Alarm(c.dropOverdue)
	}
	due := q.waiting[0].due
	for _, w := range q.waiting[1:] {
		due = min(due, w.due)
	}
	q.alarm.Set(max(1, due-c.session.clock.Elapsed()))
}

// dropOverdue forgets the messages whose time is up.
func (c *endpoint) dropOverdue() {
	q := &c.pushes
	q.mu.Lock()
	defer q.mu.Unlock()
	now, kept := c.session.clock.Elapsed(), q.waiting[:0:0]
	for _, w := range q.waiting {
		if w.due > now {
			kept = append(kept, w)
			continue
		}
		q.size -= len(w.frame)
		w.tell(tunnel.Expired, true)
	}
	q.waiting = kept
	c.setPushAlarm()
}

// endPushes forgets what waits: nothing goes that way any more.
func (c *endpoint) endPushes() {
	q := &c.pushes
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	for _, w := range q.waiting {
		w.tell(tunnel.Closed, true)
	}
	q.waiting, q.size = nil, 0
	c.setPushAlarm()
}
