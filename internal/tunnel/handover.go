package tunnel

import (
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"wstunnel/internal/reactor"
	"wstunnel/internal/ws"
)

// CauseMoved is the cause of the end that a tunnel has in a process that another one has taken it from: its connections live on there.
const CauseMoved Cause = "handed over"

// Errors of [Tunnel.Hold]: the tunnel stays where it is.
var (
	// ErrUnmovable: an end is over TLS, or one of many streams of a connection.
	ErrUnmovable = errors.New("an end of the tunnel is no plain connection")
	// ErrClosing: a closing handshake of ours is under way, or the tunnel has ended.
	ErrClosing = errors.New("the tunnel is being closed")
	// ErrHeld: it is on its way already, or has not arrived.
	ErrHeld = errors.New("the tunnel is being handed over")
)

// Held is a tunnel in which nothing moves, so that another process can go on with it. It ends with one call of Resume or Leave.
type Held struct {
	State *State
	// Client and Backend are copies of the descriptors of both ends. They are the caller's to close.
	Client, Backend int

	t    *Tunnel
	ends [2]*reactor.Held // client, backend
	late Late
}

// Late is what was asked of a tunnel while it was held, to be done by whoever goes on with it.
type Late struct {
	Frames []LateFrame
	Order  *CloseOrder // nil for none
}

// LateFrame is a frame to be put into the stream to one side, masked as it has to be.
type LateFrame struct {
	To    Side
	Op    ws.Opcode
	Frame []byte
	// TTL is how long a message may wait for its place; zero for no bound.
	TTL time.Duration

	tell Tell // may be nil
}

// CloseOrder is what [Tunnel.Close] is told.
type CloseOrder struct {
	Code    uint16
	Reason  string
	Cause   Cause
	Timeout time.Duration
	// ClientFirst says that it was a [Tunnel.Drain].
	ClientFirst bool
}

// Movable reports whether both ends are plain connections. It is safe for concurrent use.
func (t *Tunnel) Movable() bool {
	for _, s := range t.endpoints() {
		if c, plain := s.conn.(*reactor.Conn); !plain || !c.Plain() {
			return false
		}
	}
	return true
}

// Hold stops both directions and calls then on the loop, which must not be kept, with all that another process has to know, or with
// [ErrUnmovable], [ErrClosing], [ErrHeld] or a reason of the system's; then the tunnel goes on. It is safe for concurrent use.
func (t *Tunnel) Hold(then func(*Held, error)) {
	posted := t.loop.Post(func() {
		var held *Held
		err := ErrClosing
		if !t.over() {
			t.client.conn.Do(func() { held, err = t.hold() })
		}
		then(held, err)
	})
	if !posted {
		then(nil, ErrClosing)
	}
}

func (t *Tunnel) hold() (*Held, error) {
	switch {
	case !t.Movable():
		return nil, ErrUnmovable
	case t.order.Load() != nil:
		return nil, ErrClosing
	case t.held != nil:
		return nil, ErrHeld
	}
	for _, s := range t.endpoints() {
		if err := s.spill(); err != nil {
			t.lost(s.other(), err)
			return nil, ErrClosing
		}
	}
	t.loop.Stop(&t.timer)
	h := &Held{t: t, State: t.state(), ends: [2]*reactor.Held{t.client.conn.(*reactor.Conn).Hold(), t.backend.conn.(*reactor.Conn).Hold()}}
	h.State.Client.Unsent, h.State.Backend.Unsent = h.ends[0].Unsent(), h.ends[1].Unsent()
	t.held = h
	if err := h.copyDescriptors(); err != nil {
		h.resume()
		return nil, err
	}
	return h, nil
}

func (h *Held) copyDescriptors() (err error) {
	if h.Client, err = h.ends[0].Descriptor(); err != nil {
		return err
	}
	if h.Backend, err = h.ends[1].Descriptor(); err != nil {
		unix.Close(h.Client)
	}
	return err
}

// spill takes what is in the pipe out of it, to wait in memory.
func (s *endpoint) spill() error {
	if s.pipe == nil {
		return nil
	}
	to := s.other().conn.(*reactor.Conn)
	if err := s.pipe.Spill(to); err != nil {
		return err
	}
	s.dropPipe()
	if s.ended {
		to.CloseWrite()
	}
	return nil
}

// Resume lets the tunnel go on where it was, and does what was asked of it meanwhile. It is safe for concurrent use.
func (h *Held) Resume() {
	t := h.t
	t.loop.Post(func() { t.client.conn.Do(h.resume) })
}

func (h *Held) resume() {
	t := h.t
	if t.held != h || t.over() {
		return
	}
	for _, end := range h.ends {
		end.Resume()
	}
	t.goOn(h.late.Frames)
}

// goOn starts what stood still, and does what was asked for meanwhile.
func (t *Tunnel) goOn(late []LateFrame) {
	t.held = nil
	for _, frame := range late {
		t.putLate(frame)
	}
	for _, s := range t.endpoints() {
		if !t.over() && !s.ended && s.other().conn.Pending() == 0 && s.boundary() && s.other().conn.Pending() == 0 {
			s.conn.Resume()
		}
	}
	if t.over() {
		return
	}
	if t.order.Load() != nil {
		t.startClosing()
	}
	t.settle()
}

// putLate queues a frame.
func (t *Tunnel) putLate(late LateFrame) {
	from := &t.client
	if late.To == Client {
		from = &t.backend
	}
	switch {
	case late.TTL > 0:
		if o := t.queueLate(from, waiting{frame: late.Frame, due: t.now() + late.TTL, tell: late.tell}); o != Queued && late.tell != nil {
			late.tell(o, true)
		}
		return
	case t.over() || from.ended || !from.reserve(late.Frame):
		return
	}
	from.inject(late.Op, late.Frame)
	from.boundary()
}

// Leave ends the tunnel here, since another process goes on with it: its peers see nothing of it. It gives then what was asked of the tunnel meanwhile, and
// false where the tunnel has ended already. The tunnel's end is told, with [CauseMoved]. It is safe for concurrent use.
func (h *Held) Leave(then func(late Late, left bool)) {
	t := h.t
	posted := t.loop.Post(func() {
		if t.held != h || t.over() {
			then(Late{}, false)
			return
		}
		for _, end := range h.ends {
			end.Leave()
		}
		if o := t.order.Load(); o != nil {
			h.late.Order = &CloseOrder{Code: o.code, Reason: o.reason, Cause: o.cause, Timeout: o.timeout, ClientFirst: o.clientFirst}
		}
		t.result = &Result{By: Proxy, Cause: CauseMoved}
		late := h.late
		t.tellMoved(late)
		t.held = nil
		t.finish()
		then(late, true)
	})
	if !posted {
		then(Late{}, false)
	}
}

// Adopted is a tunnel that another process has held. Nothing moves in it before Begin.
type Adopted struct {
	t *Tunnel
}

// Adopt makes a tunnel on a loop, which is running it, of the descriptors and the state of one that another process has held. It owns both descriptors; where the
// state is none that a tunnel can be in, it closes them such that their peers see nothing of it. done is that of [Join].
func Adopt(loop *reactor.Loop, client, backend int, s *State, done func(Result)) (*Adopted, error) {
	t := &Tunnel{loop: loop, done: done}
	err := t.restore(s)
	ours, clientErr := loop.Inherit(reactor.Inherited{Descriptor: client, Unsent: s.Client.Unsent, Ending: s.Backend.Ended, Near: s.Client.Near}, &t.client)
	theirs, backendErr := loop.Inherit(reactor.Inherited{Descriptor: backend, Unsent: s.Backend.Unsent, Ending: s.Client.Ended, Near: s.Backend.Near}, &t.backend)
	if err := errors.Join(err, clientErr, backendErr); err != nil {
		for _, c := range []*reactor.Conn{ours, theirs} {
			if c != nil {
				c.Discard()
			}
		}
		return nil, err
	}
	t.client.conn, t.backend.conn = ours, theirs
	t.held = &Held{t: t}
	return &Adopted{t}, nil
}

// Tunnel returns the tunnel, which may be asked for frames and its end, but does not heed that before Begin.
func (a *Adopted) Tunnel() *Tunnel { return a.t }

// Begin lets the tunnel go on, with what was asked of it while it was held. It is called on its loop.
func (a *Adopted) Begin(late Late) {
	t := a.t
	if t.over() {
		return
	}
	t.client.conn.Do(func() {
		for _, s := range t.endpoints() {
			s.conn.(*reactor.Conn).Begin()
		}
		if o := late.Order; o != nil {
			t.order.CompareAndSwap(nil, &closeOrder{code: o.Code, reason: o.Reason, cause: o.Cause, timeout: o.Timeout, clientFirst: o.ClientFirst})
		}
		t.goOn(append(late.Frames, t.held.late.Frames...))
	})
}

// Discard forgets the tunnel, since the other process goes on with it after all: its peers see nothing of it. It is called on its loop.
func (a *Adopted) Discard() {
	t := a.t
	if t.over() {
		return
	}
	for _, s := range t.endpoints() {
		s.conn.(*reactor.Conn).Discard()
	}
	t.result = &Result{By: Proxy, Cause: CauseMoved}
	t.finish()
}
