package health

import (
	"fmt"
	"sync/atomic"
	"time"

	"wstunnel/internal/reactor"
)

// Numbers of passive ejection.
const (
	failuresInRow   = 3
	shortestEjected = 5 * time.Second
	longestEjected  = 5 * time.Minute
	// soonAgain is how long a server has to be back, or as long as it was ejected, for its next ejection to be a short one again.
	soonAgain = time.Minute
)

// leastShare is the share of a server that has come back at this moment.
const leastShare = 0.1

// Why a server is not up: bits of a member's state.
const (
	ejected     = 1 << iota // by requests that failed
	failsChecks             // by checks that failed
)

// Member is the health of one server.
type Member struct {
	group   *Group
	address string

	state atomic.Uint32 // zero: up
	// eventful: there may be something to end for an answer.
	eventful atomic.Bool
	ramp     atomic.Int64 // when it came back, on the group's clock; zero: it is long back
	slow     atomic.Int64 // the options' SlowStart

	// What follows is guarded by the group's mu.
	server       Server
	gone         bool // none of the group's servers any more
	row          int  // failures since the last answer
	failures     uint64
	ejections    uint64
	ejectedFor   time.Duration  // the last time; zero: never
	ejectedUntil time.Duration  // on the group's clock
	ending       *reactor.Alarm // of the ejection
	reason       string         // of the last change
	checking
}

func newMember(g *Group, address string) *Member {
	m := &Member{group: g, address: address}
	m.eventful.Store(true)
	m.ending = g.clock.Alarm(m.ejectionEnds)
	m.nextCheck = g.clock.Alarm(m.startCheck)
	return m
}

// obey makes a member go by the options. It is called with the group's mu held.
func (m *Member) obey(o Options) change {
	m.slow.Store(int64(o.SlowStart))
	if m.server.Unused {
		return m.obeyCheck(nil)
	}
	return m.obeyCheck(o.Check)
}

// leave ends what waits for a member that is no longer one. It is called with the group's mu held.
func (m *Member) leave() {
	m.gone = true
	m.ending.Stop()
	m.nextCheck.Stop()
	if m.stopCheck != nil {
		m.stopCheck()
	}
}

// Address is where the server is: host:port, or a socket's path.
func (m *Member) Address() string { return m.address }

// Up reports whether the server can be used: it is neither ejected nor failing its checks. Before anything of its upstream has answered after the start it is up.
// It takes no lock.
func (m *Member) Up() bool { return m.state.Load() == 0 }

// Share returns what part of its share the server is to have: 1, or while it comes back from a tenth to all of it, in proportion to the time. It takes no lock.
func (m *Member) Share() float64 {
	since := m.ramp.Load()
	if since == 0 {
		return 1
	}
	passed, whole := int64(m.group.clock.Elapsed())-since, m.slow.Load()
	if passed >= whole {
		m.ramp.CompareAndSwap(since, 0)
		return 1
	}
	return max(leastShare, float64(passed)/float64(whole))
}

// Answered says that the server has answered, with what is no 5xx: a row of failures is over. It takes a lock only where that ends something.
func (m *Member) Answered() {
	if !m.eventful.Load() {
		return
	}
	m.group.answered.Store(true)
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	m.row = 0
	m.eventful.Store(false)
}

// Failed says that the server could not be connected with, broke off without a word, or answered with a 5xx, and what the log is to say of that. The third time in a
// row ejects it.
func (m *Member) Failed(cause error) {
	var changes changes
	defer changes.tell()
	g := m.group
	g.mu.Lock()
	defer g.mu.Unlock()
	m.failures++
	m.row++
	m.eventful.Store(true)
	if m.row >= failuresInRow && g.mayEject(m) {
		changes.add(m.eject(cause))
	}
}

// mayEject reports whether a server can be done without. It is called with mu held.
func (g *Group) mayEject(m *Member) bool {
	return g.answered.Load() && !g.closed && !m.gone && m.Up() && g.up() > 1 && 2*(g.ejected()+1) <= g.used()
}

// eject is called with the group's mu held.
func (m *Member) eject(cause error) change {
	now := m.group.clock.Elapsed()
	last := m.ejectedFor
	m.ejectedFor = shortestEjected
	if last > 0 && now-m.ejectedUntil < max(last, soonAgain) {
		m.ejectedFor = min(2*last, longestEjected)
	}
	m.ejections++
	m.ejectedUntil = now + m.ejectedFor
	m.reason = fmt.Sprintf("%d failures in a row, the last one: %v; ejected for %v", m.row, cause, m.ejectedFor)
	m.row = 0
	m.state.Or(ejected)
	m.ending.Set(m.ejectedFor)
	return change{m: m, reason: m.reason}
}

func (m *Member) ejectionEnds() {
	var changes changes
	defer changes.tell()
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	if m.state.Load()&ejected != 0 && !m.gone {
		changes.add(m.takeBack(fmt.Sprintf("it was ejected for %v", m.ejectedFor)))
	}
}

// takeBack ends an ejection. It is called with the group's mu held.
func (m *Member) takeBack(reason string) change {
	m.ending.Stop()
	m.ejectedUntil = min(m.ejectedUntil, m.group.clock.Elapsed())
	return m.clear(ejected, reason)
}

// clear takes away a reason to be down. The server is up if it was the only one, and begins with little. It is called with the group's mu held.
func (m *Member) clear(bit uint32, reason string) change {
	m.state.And(^bit)
	if !m.Up() {
		return change{}
	}
	m.reason = reason
	if m.slow.Load() > 0 {
		m.ramp.Store(max(1, int64(m.group.clock.Elapsed())))
	}
	return change{m: m, up: true, reason: reason}
}

// State says in one word how a server is.
type State string

// The states of a server.
const (
	Up      State = "up"
	Ejected State = "ejected" // too many requests failed
	Down    State = "down"    // it fails its checks
	// Unseen: it fails its checks, and nothing of its upstream has answered since the start, so that requests are tried with it all the same.
	Unseen State = "unseen"
)

// Status is what is known of a server.
type Status struct {
	State State
	// Reason says why it went up or down the last time; empty where it never did.
	Reason string
	// EjectedFor is how long it will be ejected; zero for one that is not.
	EjectedFor time.Duration
	Share      float64
	// Failures are the requests that count as such, Ejections the times when there were too many.
	Failures, Ejections uint64
	// Checks are those made so far, FailedChecks those of them that failed, and LastCheck is what the last one said: empty where it was good, or where there was none.
	Checks, FailedChecks uint64
	LastCheck            string
}

// Status returns what is known of the server.
func (m *Member) Status() Status {
	share := m.Share()
	m.group.mu.Lock()
	defer m.group.mu.Unlock()
	s := Status{
		State: Up, Reason: m.reason, Share: share, Failures: m.failures, Ejections: m.ejections,
		Checks: m.checks, FailedChecks: m.failedChecks, LastCheck: m.lastCheck,
	}
	switch state := m.state.Load(); {
	case state&failsChecks != 0:
		s.State = Down
	case state&ejected != 0:
		s.State = Ejected
	case m.hasFallen():
		s.State = Unseen
	}
	if m.state.Load()&ejected != 0 {
		s.EjectedFor = m.ejectedUntil - m.group.clock.Elapsed()
	}
	return s
}
