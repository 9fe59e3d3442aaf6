package handover

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"wstunnel/internal/reactor"
	"wstunnel/internal/tunnel"
)

// Errors of a [Giver].
var (
	// ErrGone: the other process has ended, or ended the link.
	ErrGone = errors.New("the other process is gone")
	// ErrSilent: it did not answer in time.
	ErrSilent = errors.New("the other process did not answer in time")
)

// patience is how long the other process may take to answer what needs no work to speak of, and to read what it is sent.
const patience = 10 * time.Second

// Giver is the older process's end. Its methods are safe for concurrent use, once Greet has returned.
type Giver struct {
	link   *link
	clock  *reactor.Clock
	kill   func()
	gone   chan struct{}      // closed when the other process is gone
	news   chan *message      // hello, ready, failed
	drain  chan time.Duration // orders
	scopes chan Drain         // orders to drain a part
	calls  chan Call

	mu      sync.Mutex // guards what follows
	last    uint32
	waiting map[uint32]chan *message // by transaction
}

// NewGiver returns the older process's end of a link, which it owns. kill ends the other process whatever it does, and returns when it is known to do
// nothing any more.
func NewGiver(end *os.File, clock *reactor.Clock, kill func()) (*Giver, error) {
	l, err := newLink(end)
	if err != nil {
		return nil, err
	}
	g := &Giver{
		link: l, clock: clock, kill: sync.OnceFunc(kill), gone: make(chan struct{}), news: make(chan *message, 1), drain: make(chan time.Duration, 1), scopes: make(chan Drain, maxScopes),
		calls: make(chan Call, maxCalls), waiting: map[uint32]chan *message{},
	}
	go g.receive()
	return g, nil
}

// receive deals with what comes until the other process is gone. One that says what nobody understands is ended: what it has adopted it would keep.
func (g *Giver) receive() {
	defer close(g.gone)
	defer g.link.close()
	for {
		m, err := g.link.receive()
		if err == nil {
			if m.kind != callMessage { // no other has any to be kept
				m.drop()
			}
			err = g.heed(m)
		}
		switch {
		case errors.Is(err, io.EOF):
			return
		case err != nil:
			g.kill()
			return
		}
	}
}

var errUnexpected = errors.New("a message that nobody expects")

// heed deals with a message.
func (g *Giver) heed(m *message) error {
	switch m.kind {
	case helloMessage, readyMessage, failedMessage:
		select {
		case g.news <- m:
		default:
			return errUnexpected
		}
	case adoptedMessage, refusedMessage:
		g.answer(m)
	case drainMessage:
		var within time.Duration
		if err := decode(m.body, func(c *coder) { c.duration(&within) }); err != nil {
			return err
		}
		select {
		case g.drain <- within:
		default: // one is under way
		}
	case scopeMessage:
		var scope Drain
		if err := decode(m.body, scope.pass); err != nil {
			return err
		}
		select {
		case g.scopes <- scope:
		default: // so many wait that nobody takes them
		}
	case callMessage:
		return g.takeCall(m)
	default:
		return errUnexpected
	}
	return nil
}

const (
	maxScopes = 64 // orders to drain a part that wait
	maxCalls  = 64 // connections that wait
)

// takeCall has a connection wait for whoever takes it. One that can't is closed: the other process sees that.
func (g *Giver) takeCall(m *message) error {
	defer m.drop()
	var call Call
	if err := decode(m.body, call.pass); err != nil {
		return err
	}
	if len(m.descriptors) == 0 { // lost on its way
		return nil
	}
	call.Descriptor = m.descriptors[0]
	select {
	case g.calls <- call:
		m.descriptors = m.descriptors[1:]
	default:
	}
	return nil
}

// answer gives an answer to whoever waits for it; nobody does where it comes too late.
func (g *Giver) answer(m *message) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if waiter := g.waiting[m.transaction]; waiter != nil {
		delete(g.waiting, m.transaction)
		waiter <- m
	}
}

// begin starts a transaction, whose answer comes on the channel.
func (g *Giver) begin() (transaction uint32, answer chan *message) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last++
	answer = make(chan *message, 1)
	g.waiting[g.last] = answer
	return g.last, answer
}

func (g *Giver) forget(transaction uint32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.waiting, transaction)
}

// Gone is closed when the other process has ended, or has ended the link.
func (g *Giver) Gone() <-chan struct{} { return g.gone }

// Drains gives the orders to end all that is left, each with the time that there is for it.
func (g *Giver) Drains() <-chan time.Duration { return g.drain }

// Scopes gives the orders to drain a part of what is left.
func (g *Giver) Scopes() <-chan Drain { return g.scopes }

// Calls gives connections of the other process to this one, and to older ones.
func (g *Giver) Calls() <-chan Call { return g.calls }

// Close ends the link, when no tunnel is on its way.
func (g *Giver) Close() { g.link.conn.Close() }

// next waits for what the other process says of itself, within a time.
func (g *Giver) next(within time.Duration) (*message, error) {
	late := make(chan struct{})
	alarm := g.clock.AfterFunc(within, func() { close(late) })
	defer alarm.Stop()
	select {
	case m := <-g.news:
		return m, nil
	case <-late:
		return nil, ErrSilent
	case <-g.gone:
		select {
		case m := <-g.news:
			return m, nil
		default:
			return nil, ErrGone
		}
	}
}

// sendError is [ErrGone] where the other process takes nothing any more.
func sendError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return ErrSilent
	}
	if errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) || errors.Is(err, net.ErrClosed) {
		return ErrGone
	}
	return err
}

// Greet says who we are, and returns who the other process is.
func (g *Giver) Greet(us Hello) (them Hello, err error) {
	us.Version = Version
	body, err := encoded(us.pass)
	if err != nil {
		return them, err
	}
	if err := g.link.send(&message{kind: helloMessage, body: body}, patience); err != nil {
		return them, sendError(err)
	}
	m, err := g.next(patience)
	if err != nil {
		return them, err
	}
	if m.kind == failedMessage {
		return them, failure(m)
	}
	if err := decode(m.body, them.pass); m.kind != helloMessage || err != nil {
		return them, fmt.Errorf("the other process speaks no hand-over: %v", err)
	}
	return them, them.check()
}

// failure is what the other process says that went wrong.
func failure(m *message) error {
	var why string
	if err := decode(m.body, func(c *coder) { text(c, &why, maxText) }); err != nil {
		return fmt.Errorf("the other process failed and does not say why: %w", err)
	}
	return errors.New(why)
}

// Offer sends what there is before any tunnel, and waits until the other process serves. An error is the other's own, [ErrSilent] where it takes
// longer than a time, or [ErrGone].
func (g *Giver) Offer(o *Offer, within time.Duration) error {
	var addresses []string
	var descriptors []int
	for i, l := range o.Listeners {
		addresses, descriptors = append(addresses, l.Address), append(descriptors, l.Descriptor)
		if len(addresses) < listenersAtOnce && i < len(o.Listeners)-1 {
			continue
		}
		if err := g.sendDescriptors(listenersOffer, descriptors, func(c *coder) { passAddresses(c, &addresses) }); err != nil {
			return err
		}
		addresses, descriptors = nil, nil
	}
	if err := g.sendDescriptors(offerEnd, nil, o.pass); err != nil {
		return err
	}
	m, err := g.next(within)
	switch {
	case err != nil:
		return err
	case m.kind == failedMessage:
		return failure(m)
	case m.kind != readyMessage:
		return fmt.Errorf("the other process said %d instead of being ready", m.kind)
	}
	return nil
}

func (g *Giver) sendDescriptors(k kind, descriptors []int, pass func(*coder)) error {
	body, err := encoded(pass)
	if err == nil {
		err = g.link.send(&message{kind: k, body: body, descriptors: descriptors}, patience)
	}
	return sendError(err)
}

// Move gives a held tunnel to the other process, in a transaction. Where it returns an error, the tunnel goes on where it was.
func (g *Giver) Move(t *Tunnel, held *tunnel.Held) error {
	defer unix.Close(held.Client)
	defer unix.Close(held.Backend)
	t.State = *held.State
	body, err := t.encode()
	if err != nil {
		held.Resume()
		return fmt.Errorf("its state: %w", err)
	}
	transaction, answer := g.begin()
	if err := g.offer(transaction, answer, body, held); err != nil {
		g.forget(transaction)
		held.Resume()
		return err
	}
	return g.commit(transaction, held)
}

// offer sends a tunnel and waits for its adoption. When it returns an error, the other process has not adopted it, and will not.
func (g *Giver) offer(transaction uint32, answer chan *message, body []byte, held *tunnel.Held) error {
	m := &message{kind: tunnelMessage, transaction: transaction, body: body, descriptors: []int{held.Client, held.Backend}}
	if err := g.link.send(m, patience); err != nil {
		g.giveUp()
		return fmt.Errorf("%w: %w", ErrGone, err)
	}
	late := make(chan struct{})
	alarm := g.clock.AfterFunc(patience, func() { close(late) })
	defer alarm.Stop()
	select {
	case m = <-answer:
	case <-g.gone:
		select {
		case m = <-answer: // which was the last that it said
		default:
			return ErrGone
		}
	case <-late:
		g.withdraw(transaction)
		return ErrSilent
	}
	if m.kind == refusedMessage {
		return fmt.Errorf("refused: %w", failure(m))
	}
	return nil
}

// commit leaves an adopted tunnel to the other process.
func (g *Giver) commit(transaction uint32, held *tunnel.Held) error {
	type outcome struct {
		late tunnel.Late
		left bool
	}
	done := make(chan outcome, 1)
	held.Leave(func(late tunnel.Late, left bool) { done <- outcome{late, left} })
	o := <-done
	if !o.left {
		g.withdraw(transaction)
		return tunnel.ErrClosing
	}
	body, err := lateBody(&o.late)
	if err != nil { // more was asked of it in this moment than a message holds
		body, _ = lateBody(&tunnel.Late{Order: o.late.Order})
	}
	if err := g.link.send(&message{kind: commitMessage, transaction: transaction, body: body}, patience); err != nil {
		g.giveUp()
	}
	return nil
}

// withdraw takes a tunnel back. When it returns, the other process has not got it.
func (g *Giver) withdraw(transaction uint32) {
	if err := g.link.send(&message{kind: withdrawMessage, transaction: transaction}, patience); err != nil {
		g.giveUp()
	}
}

// giveUp ends the other process, which takes nothing any more: what it has adopted without our word it would keep.
func (g *Giver) giveUp() {
	g.kill()
	<-g.gone
}

// Done tells the other process that it is the main one.
func (g *Giver) Done() error {
	return sendError(g.link.send(&message{kind: doneMessage}, patience))
}

// Report tells the other process what is left.
func (g *Giver) Report(s *Status) error {
	body, err := encoded(s.pass)
	if err != nil {
		return err
	}
	return sendError(g.link.send(&message{kind: statusMessage, body: body}, patience))
}
