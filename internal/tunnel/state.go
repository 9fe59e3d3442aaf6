package tunnel

import (
	"errors"
	"time"

	"wstunnel/internal/reactor"
	"wstunnel/internal/ws"
)

// State is all that there is to know of a live tunnel, but for its two descriptors, so that another process can go on with it. Times are
// ages, since clocks are a process's own.
type State struct {
	Idle, HalfClose, Close time.Duration // the timeouts of Options
	Quiet                  time.Duration // since the last byte moved
	Ended                  *Result       // what is to be told as the cause of its end, or nil; By, Cause and Code alone
	Pings                  *PingState    // nil where none are sent
	Client, Backend        EndState
}

// EndState is one end of a tunnel, with the direction that comes from it.
type EndState struct {
	Scan            ws.ScannerState
	Bytes, Messages uint64
	Opaque          bool
	CloseSeen       bool // its Close frame went by
	Bulk            bool // the last bytes were spliced
	Ended           bool // nothing more is read from it
	Near            bool // dialled on this machine itself
	// Unsent is what this end has yet to take.
	Unsent []byte
	// Control and Data are frames that wait for a place in what comes from this end, and Held is the beginning of a frame that may be
	// the awaited pong.
	Control    [][]byte
	Data       []WaitingMessage
	Held       []byte
	AwaitsPong bool
}

// WaitingMessage is a message that waits for a place.
type WaitingMessage struct {
	Frame []byte
	TTL   time.Duration // that it has left; zero for no bound
}

// PingState is what is known of the sides by pings.
type PingState struct {
	Interval        time.Duration
	ID              [8]byte
	Client, Backend PingedState
}

// PingedState is what is known of one side.
type PingedState struct {
	Heard    time.Duration // since its last byte
	Sent     time.Duration // since the ping that it has not answered; negative for none
	End      uint64        // of the ping, in all that the side is sent
	Taken    uint64
	Progress time.Duration // since Taken last grew
}

// ErrState says that a [State] is none that a tunnel can be in.
var ErrState = errors.New("no tunnel can be in this state")

func (t *Tunnel) state() *State {
	s := &State{
		Idle: t.limits.idle, HalfClose: t.limits.halfClose, Close: t.limits.close,
		Quiet: t.now() - time.Duration(t.active.Load()), Client: t.client.state(), Backend: t.backend.state(),
	}
	if t.result != nil {
		s.Ended = &Result{By: t.result.By, Cause: t.result.Cause, Code: t.result.Code}
	}
	if t.pings != nil {
		s.Pings = t.pings.state(t.now())
	}
	return s
}

func (s *endpoint) state() EndState {
	e := EndState{
		Scan: s.scan.State(), Bytes: s.bytes.Load(), Messages: s.messages.Load(), Opaque: s.opaque.Load(),
		CloseSeen: s.closeSeen, Bulk: s.bulk, Ended: s.ended, Near: s.conn.(*reactor.Conn).Near(),
	}
	if x := s.pending; x != nil {
		e.Control, e.Held, e.AwaitsPong = x.control, x.held, x.pong != nil
		for _, m := range x.data {
			left := time.Duration(0)
			if m.due > 0 {
				left = max(1, m.due-s.t.now())
			}
			e.Data = append(e.Data, WaitingMessage{m.frame, left})
		}
	}
	return e
}

func (p *pings) state(now time.Duration) *PingState {
	side := func(s pinged) PingedState {
		at := PingedState{Heard: now - s.heard, Sent: -1, End: s.end, Taken: s.taken, Progress: now - s.progress}
		if s.sent >= s.heard {
			at.Sent = now - s.sent
		}
		return at
	}
	return &PingState{Interval: p.interval, ID: p.id, Client: side(p.sides[0]), Backend: side(p.sides[1])}
}

// restore makes a tunnel what its state says; its ends have no connections yet.
func (t *Tunnel) restore(s *State) error {
	t.limits = limits{s.Idle, s.HalfClose, s.Close}
	t.timer.On = t
	t.active.Store(int64(t.now() - s.Quiet))
	if s.Ended != nil {
		ended := *s.Ended
		t.result = &ended
	}
	if s.Pings != nil {
		if s.Pings.Interval <= 0 {
			return ErrState
		}
		t.pings = s.Pings.restore(t.now())
	}
	return errors.Join(t.restoreEnd(&t.client, &s.Client, Client), t.restoreEnd(&t.backend, &s.Backend, Backend))
}

func (t *Tunnel) restoreEnd(end *endpoint, s *EndState, side Side) error {
	scan, err := ws.ScannerAt(s.Scan)
	if err != nil {
		return err
	}
	if s.Scan.Role != ws.Role(side == Client) || s.AwaitsPong && t.pings == nil || len(s.Held) > 0 && !s.AwaitsPong {
		return ErrState
	}
	end.t = t
	end.flow = flow{scan: scan, toBackend: side == Client}
	end.bytes.Store(s.Bytes)
	end.messages.Store(s.Messages)
	end.opaque.Store(s.Opaque)
	end.closeSeen, end.bulk, end.ended = s.CloseSeen, s.Bulk, s.Ended
	if len(s.Control)+len(s.Data)+len(s.Held) == 0 && !s.AwaitsPong {
		return nil
	}
	x := end.queue()
	x.control, x.held = s.Control, s.Held
	if s.AwaitsPong {
		x.pong = &t.pings.id
	}
	for _, frame := range x.control {
		end.backlog.Add(int32(len(frame)))
	}
	for _, m := range s.Data {
		w := waiting{frame: m.Frame}
		if m.TTL > 0 {
			w.due = t.now() + m.TTL
		}
		x.data = append(x.data, w)
		end.backlog.Add(int32(len(m.Frame)))
	}
	return nil
}

func (s *PingState) restore(now time.Duration) *pings {
	side := func(s PingedState) pinged {
		at := pinged{heard: now - s.Heard, sent: now - s.Heard - 1, end: s.End, taken: s.Taken, progress: now - s.Progress}
		if s.Sent >= 0 {
			at.sent = now - s.Sent
		}
		return at
	}
	return &pings{interval: s.Interval, id: s.ID, sides: [2]pinged{side(s.Client), side(s.Backend)}}
}
