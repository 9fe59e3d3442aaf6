package reactor

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A TLS handshake is a goroutine's work: it takes a processor for a good part of a millisecond. The loop feeds it, and the descriptor never leaves the loop.

// maxHandshakeBytes bounds what a peer may send in a handshake before it is taken.
const maxHandshakeBytes = 128 << 10

// turnLength is how long a handshake computes before it gives its turn up to others: it waits for something, a certificate perhaps.
const turnLength = 20 * time.Millisecond

// ErrHandshakeTimeout says that a handshake took too long.
var ErrHandshakeTimeout = fmt.Errorf("TLS handshake: %w", os.ErrDeadlineExceeded)

// feed is what a handshake reads from and writes to while it runs on a goroutine of its own.
type feed struct {
	conn          *Conn
	local, remote net.Addr // while the handshake runs, the descriptor may be closed

	mu      sync.Mutex
	come    sync.Cond // that something has come, or the end
	in      []byte    // ciphertext that has come and is not taken
	err     error     // behind in
	turn    *turn
	out     []byte // ciphertext on its way to the loop
	ticket  []byte // which is kept back
	posted  bool   // the loop has been asked to send out
	expired bool
}

// Handshake does the TLS handshake of a plain connection: secure makes a *tls.Conn of the transport that it is given, by tls.Server or tls.Client. One
// handshake fewer computes at a time than Go may use processors, but one at least; the others wait their turn. The context is that of the handshake, and timeout bounds it. done is
// called once, on the loop, with the connection paused and its handler still to be replaced: it reads and writes plaintext from then on, or
// err says why not; then it is still open, and plain. It is not called if the connection was closed or its loop has ended.
func (c *Conn) Handshake(ctx context.Context, secure func(net.Conn) *tls.Conn, timeout time.Duration, done func(tls.ConnectionState, error)) {
	t := &transport{conn: c}
	f := &feed{conn: c}
	f.local, f.remote = addresses(c.fd)
	f.come.L = &f.mu
	t.feed.Store(f)
	t.secure = secure(t)
	ctx, cancel := context.WithCancel(ctx)
	h := &handshaking{conn: c, feed: f, cancel: cancel}
	h.timer.On = h
	c.loop.Set(&h.timer, timeout)
	c.Handle(h)
	c.Resume()
	loop := c.loop
	go func() {
		defer cancel()
		f.turn = loop.group.takeTurn()
		err := loop.group.shake(ctx, t.secure)
		f.turn.end()
		loop.Post(func() { h.finish(t, err, done) })
	}()
}

// turn is a handshake's right to compute.
type turn struct {
	group *Group
	alarm *Alarm
	once  sync.Once
}

// takeTurn waits for a turn.
func (g *Group) takeTurn() *turn {
	g.waiting.Add(1)
	g.handshakes <- struct{}{}
	g.waiting.Add(-1)
	t := &turn{group: g}
	t.alarm = g.clock.AfterFunc(turnLength, t.pass)
	return t
}

// HandshakesWaiting returns how many handshakes wait for their turn. It is safe for concurrent use.
func (g *Group) HandshakesWaiting() int { return int(g.waiting.Load()) }

// end gives the turn to the next; it may be called more than once.
func (t *turn) end() {
	t.alarm.Stop()
	t.pass()
}

func (t *turn) pass() { t.once.Do(func() { <-t.group.handshakes }) }

// shake does a handshake. A panic in it, in a certificate's source perhaps, is the end of that connection only.
func (g *Group) shake(ctx context.Context, conn *tls.Conn) (err error) {
	defer func() {
		if fault := recover(); fault != nil {
			g.log.Error("internal fault", "fault", fault, "stack", string(debug.Stack()))
			err = fmt.Errorf("internal fault: %v", fault)
		}
	}()
	return conn.HandshakeContext(ctx)
}

// read takes what has come. While it waits, another handshake may compute.
func (f *feed) read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.in) == 0 && f.err == nil {
		f.turn.end()
		for len(f.in) == 0 && f.err == nil {
			f.come.Wait()
		}
		f.mu.Unlock()
		f.turn = f.conn.loop.group.takeTurn()
		f.mu.Lock()
	}
	if len(f.in) == 0 {
		return 0, f.err
	}
	n := copy(p, f.in)
	f.in = f.in[n:]
	return n, nil
}

// write has the loop send.
func (f *feed) write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.expired {
		return 0, f.err
	}
	before, ticket := cutTicket(p)
	f.out = append(append(f.out, f.ticket...), before...)
	f.ticket = bytes.Clone(ticket)
	if !f.posted {
		f.posted = true
		f.conn.loop.Post(f.send)
	}
	return len(p), nil
}

// send sends what the handshake has written; it runs on the loop.
func (f *feed) send() {
	f.mu.Lock()
	out := f.out
	f.out, f.posted = nil, false
	f.mu.Unlock()
	if len(out) > 0 && !f.conn.closed {
		if err := f.conn.send(out); err != nil {
			f.end(err)
		}
	}
}

// end makes the handshake fail, once it has taken what has come.
func (f *feed) end(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil {
		f.err = err
	}
	f.come.Signal()
}

// handshaking is the handler of a connection in its handshake.
type handshaking struct {
	conn   *Conn
	feed   *feed
	cancel context.CancelFunc // of whatever the handshake waits for
	timer  Timer
}

// Readable feeds the handshake.
func (h *handshaking) Readable(c *Conn) {
	n, err := receive(c.fd, c.loop.buf)
	f := h.feed
	switch {
	case n > 0 && err == nil:
		f.mu.Lock()
		f.in = append(f.in, c.loop.buf[:n]...)
		full := len(f.in) >= maxHandshakeBytes
		f.come.Signal()
		f.mu.Unlock()
		if full {
			c.Pause()
		}
	case err == nil:
		c.Pause()
		f.end(io.EOF)
	case !errors.Is(err, unix.EAGAIN):
		c.Pause()
		f.end(os.NewSyscallError("read", err))
	}
}

// Drained is of no interest.
func (h *handshaking) Drained(*Conn) {}

// Failed makes the handshake fail.
func (h *handshaking) Failed(c *Conn, err error) {
	c.Pause()
	h.feed.end(err)
	if errors.Is(err, net.ErrClosed) {
		h.feed.expire(err)
		h.cancel()
	}
}

// Expired makes the handshake fail.
func (h *handshaking) Expired() {
	h.feed.expire(ErrHandshakeTimeout)
	h.cancel()
}

// expire makes the handshake fail at once.
func (f *feed) expire(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.in, f.err, f.expired = nil, err, true
	f.come.Signal()
}

// finish hands the connection on.
func (h *handshaking) finish(t *transport, err error, done func(tls.ConnectionState, error)) {
	c := h.conn
	c.loop.Stop(&h.timer)
	if c.closed {
		return
	}
	c.Pause()
	h.feed.send()
	f := h.feed
	f.mu.Lock()
	if len(f.in) > 0 {
		t.left = f.in
	}
	t.leftErr, t.ticket = f.err, f.ticket
	expired := f.expired
	f.mu.Unlock()
	t.feed.Store(nil)
	if err != nil {
		if expired {
			err = ErrHandshakeTimeout
		}
		c.Do(func() { done(tls.ConnectionState{}, err) })
		return
	}
	c.tls = t
	c.Do(func() { done(t.secure.ConnectionState(), nil) })
}
