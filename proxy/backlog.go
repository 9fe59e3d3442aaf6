package proxy

import (
	"fmt"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
	"wstunnel/internal/spool"
)

// patienceWithClient is how long a server waits for its client, before more than a read brings of its answer is kept: a client that takes
// what it is sent costs no memory, and its answer stays inside the kernel.
const patienceWithClient = 200 * time.Millisecond

// backlog is what a client has yet to take of a server's answer. It is kept, so that the server can go on to others: in memory, and in a temporary file from
// there on.
type backlog struct {
	x       *reply
	timer   reactor.Timer
	keeping bool         // more than a read brings
	later   bool         // more is sent when this turn has ended
	spool   *spool.Spool // with what came behind that; nil where that is nothing

	ended    bool // the answer has come to its end, which is for the client to see when it has taken the rest
	trailers head.Fields
	err      error // instead of that end
}

// note looks at what the client has yet to take. Where that is enough, the rest goes to a file, or the server waits.
func (b *backlog) note() {
	x := b.x
	l := x.location
	full := func() bool { return x.client.Full(int(l.Buffer.Response)) }
	switch {
	case x.over || x.client.Pending() == 0 || b.keeping && !full():
		return
	case b.keeping && l.SpoolMax > 0:
		b.spool = spool.New(&x.server.spools, x.client.Conn(), x.client.Worker().Memory, l.SpoolMax, b.moved)
		return
	case !b.keeping && l.Buffer.Response+l.SpoolMax > 0:
		b.timer.On = b
		x.client.Conn().Loop().Set(&b.timer, patienceWithClient)
	}
	x.backend.Pause()
}

// Expired ends the server's waiting for its client.
func (b *backlog) Expired() {
	x := b.x
	x.client.Conn().Do(func() {
		if !x.over && x.backend != nil && x.client.Pending() > 0 {
			b.keeping = true
			x.backend.Resume()
		}
	})
}

// add keeps a piece behind what is in the file.
func (b *backlog) add(p []byte) {
	b.spool.Add(p)
	if b.spool.Full() {
		b.x.backend.Pause()
	}
}

// moved goes on when something was written to the file, or read from it.
func (b *backlog) moved() {
	if !b.x.over && b.spool != nil {
		b.goOn()
	}
}

// end notes that no more comes, or why. The server is free again.
func (b *backlog) end(trailers head.Fields, err error) {
	b.ended, b.trailers, b.err = true, trailers, err
	b.x.leaveServer()
	b.goOn()
}

// goOn sends what the client takes, and has the server send more.
func (b *backlog) goOn() {
	x := b.x
	all := b.sendSpooled()
	switch {
	case x.over:
	case all && b.err != nil:
		x.abort(b.err)
	case all && b.ended:
		x.complete(b.trailers)
	case x.backend == nil:
	case all && x.client.Pending() > 0:
		x.backend.Resume()
	case all:
		b.keeping = false
		b.stop()
		x.backend.Limit(x.client.Room())
		x.backend.Resume()
	case !b.spool.Full():
		x.backend.Resume()
	}
}

// sendSpooled sends of what is in the file, and reports whether that was all.
func (b *backlog) sendSpooled() bool {
	x := b.x
	defer x.client.Flush()
	for sent := 0; b.spool != nil; {
		switch {
		case x.client.Pending() > 0:
			return false
		case sent >= turnBytes:
			b.goOnLater()
			return false
		}
		p, err := b.spool.Take(x.client.Worker().Piece(x.client.Room()))
		switch {
		case err != nil:
			x.abort(fmt.Errorf("reading the response body from a temporary file: %w", err))
			return false
		case len(p) > 0:
			sent += len(p)
			x.sent += int64(len(p))
			x.client.Write(p)
		case b.spool.Empty():
			b.spool.Close()
			b.spool = nil
		default:
			return false
		}
		if x.over {
			return false
		}
	}
	return true
}

// goOnLater goes on when others have had their turn.
func (b *backlog) goOnLater() {
	if !b.later {
		b.later = true
		b.x.client.Conn().Loop().AtTurnsEnd(b)
	}
}

// TurnEnded goes on.
func (b *backlog) TurnEnded() {
	b.later = false
	b.x.client.Conn().Do(b.moved)
}

func (b *backlog) stop() { b.x.client.Conn().Loop().Stop(&b.timer) }

// leave lets go of what is kept.
func (b *backlog) leave() {
	b.stop()
	if b.spool != nil {
		b.spool.Close()
		b.spool = nil
	}
}
