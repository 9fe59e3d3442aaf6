package handover

import (
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"wstunnel/internal/tunnel"
)

// Taker is the younger process's end. Its methods are called one at a time, but for Drain, DrainScope, Call and Fail, which are safe for concurrent use.
type Taker struct {
	link *link
}

// Host is what a younger process does with what it is given.
type Host interface {
	// Adopt makes a tunnel of a record, in which nothing moves yet. It owns the descriptors; where it fails, it closes them such that
	// their peers see nothing of it.
	Adopt(t *Tunnel, client, backend int) (Adopted, error)
	// Main says that this is the main process from now on.
	Main()
	// Left says what is left in the older process.
	Left(s Status)
}

// Adopted is a tunnel that was taken. One of its methods is called, once.
type Adopted interface {
	// Begin lets it go on, with what was asked of it meanwhile.
	Begin(late tunnel.Late)
	// Discard forgets it, since the older process goes on with it.
	Discard()
}

// NewTaker returns the younger process's end of a link, which it owns.
func NewTaker(end *os.File) (*Taker, error) {
	l, err := newLink(end)
	if err != nil {
		return nil, err
	}
	return &Taker{l}, nil
}

// Greet says who we are, and returns who the other process is.
func (t *Taker) Greet(us Hello) (them Hello, err error) {
	us.Version = Version
	body, err := encoded(us.pass)
	if err != nil {
		return them, err
	}
	if err := t.link.send(&message{kind: helloMessage, body: body}, patience); err != nil {
		return them, err
	}
	m, err := t.link.receive()
	if err != nil {
		return them, err
	}
	m.drop()
	if err := decode(m.body, them.pass); m.kind != helloMessage || err != nil {
		return them, fmt.Errorf("the other process speaks no hand-over: %v", err)
	}
	return them, them.check()
}

// Offered returns what the other process has before any tunnel. The descriptors are the caller's.
func (t *Taker) Offered() (*Offer, error) {
	o := &Offer{}
	for {
		m, err := t.link.receive()
		if err == nil {
			err = o.take(m)
		}
		if err != nil {
			o.drop()
			return nil, fmt.Errorf("taking over: %w", err)
		}
		if m.kind == offerEnd {
			return o, nil
		}
	}
}

// take takes one of the messages of an offer.
func (o *Offer) take(m *message) error {
	if m.lost {
		m.drop()
		return unix.EMFILE
	}
	if m.kind == listenersOffer {
		var addresses []string
		if err := decode(m.body, func(c *coder) { passAddresses(c, &addresses) }); err != nil || len(addresses) != len(m.descriptors) {
			m.drop()
			return errors.Join(errors.New("not a socket for each address"), err)
		}
		for i, address := range addresses {
			o.Listeners = append(o.Listeners, Listener{address, m.descriptors[i]})
		}
		return nil
	}
	m.drop()
	if m.kind != offerEnd {
		return fmt.Errorf("message %d within an offer", m.kind)
	}
	return decode(m.body, o.pass)
}

func (o *Offer) drop() {
	for _, l := range o.Listeners {
		unix.Close(l.Descriptor)
	}
}

// Ready says that this process serves.
func (t *Taker) Ready() error { return t.link.send(&message{kind: readyMessage}, patience) }

// Fail says that this process ends instead, and why.
func (t *Taker) Fail(why error) {
	what := why.Error()
	what = what[:min(len(what), maxText)]
	body, _ := encoded(func(c *coder) { text(c, &what, maxText) })
	t.link.send(&message{kind: failedMessage, body: body}, patience)
}

// Drain has the older process end what is left in it, within a time.
func (t *Taker) Drain(within time.Duration) error {
	body, err := encoded(func(c *coder) { c.duration(&within) })
	if err != nil {
		return err
	}
	return t.link.send(&message{kind: drainMessage, body: body}, patience)
}

// DrainScope has the older process drain a part of what is left in it.
func (t *Taker) DrainScope(scope Drain) error {
	body, err := encoded(scope.pass)
	if err != nil {
		return err
	}
	return t.link.send(&message{kind: scopeMessage, body: body}, patience)
}

// callPatience is how long an older process may leave calls unread.
const callPatience = time.Second

// Call gives an older process one end of a connection, of which it keeps a copy. That it has come there is told by an answer only. It fails with [ErrGone] and [ErrSilent].
func (t *Taker) Call(call Call) error {
	body, err := encoded(call.pass)
	if err != nil {
		return err
	}
	return sendError(t.link.send(&message{kind: callMessage, body: body, descriptors: []int{call.Descriptor}}, callPatience))
}

// Close ends the link.
func (t *Taker) Close() { t.link.close() }

// Run takes what comes until the other process is gone, which is no error, or says what nobody understands. What was adopted without the other's
// last word begins in the first case, and is discarded in the second: then the other goes on.
func (t *Taker) Run(host Host) error {
	defer t.link.close()
	adopted := map[uint32]Adopted{}
	for {
		m, err := t.link.receive()
		if err == nil {
			err = t.heed(m, host, adopted)
		}
		if err == nil {
			continue
		}
		orphaned := errors.Is(gone(err), io.EOF)
		for _, a := range adopted {
			if orphaned {
				a.Begin(tunnel.Late{})
			} else {
				a.Discard()
			}
		}
		if orphaned {
			return nil
		}
		return err
	}
}

// heed deals with a message.
func (t *Taker) heed(m *message, host Host, adopted map[uint32]Adopted) error {
	if m.kind == tunnelMessage {
		return t.adopt(m, host, adopted)
	}
	m.drop()
	switch m.kind {
	case commitMessage:
		var late tunnel.Late
		if err := decode(m.body, func(c *coder) { passLate(c, &late) }); err != nil {
			return err
		}
		if a := adopted[m.transaction]; a != nil {
			delete(adopted, m.transaction)
			a.Begin(late)
		}
	case withdrawMessage:
		if a := adopted[m.transaction]; a != nil {
			delete(adopted, m.transaction)
			a.Discard()
		}
	case doneMessage:
		host.Main()
	case statusMessage:
		var s Status
		if err := decode(m.body, s.pass); err != nil {
			return err
		}
		host.Left(s)
	default:
		return fmt.Errorf("message %d is not known", m.kind)
	}
	return nil
}

// adopt takes a tunnel and says so, or why not.
func (t *Taker) adopt(m *message, host Host, adopted map[uint32]Adopted) error {
	a, err := adoptFrom(m, host)
	answer := &message{kind: adoptedMessage, transaction: m.transaction}
	if err != nil {
		what := err.Error()
		what = what[:min(len(what), maxText)]
		answer.kind = refusedMessage
		answer.body, _ = encoded(func(c *coder) { text(c, &what, maxText) })
	} else {
		adopted[m.transaction] = a
	}
	t.link.send(answer, 0) // the other process reads, or is gone, which receiving will tell
	return nil
}

func adoptFrom(m *message, host Host) (Adopted, error) {
	if m.lost {
		m.drop()
		return nil, unix.EMFILE
	}
	record, err := decodeTunnel(m.body)
	if err == nil && len(m.descriptors) != 2 {
		err = fmt.Errorf("%d descriptors instead of 2", len(m.descriptors))
	}
	if err != nil {
		m.drop()
		return nil, err
	}
	return host.Adopt(record, m.descriptors[0], m.descriptors[1])
}
