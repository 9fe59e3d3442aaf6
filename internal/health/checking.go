package health

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"wstunnel/internal/config"
	"wstunnel/internal/reactor"
)

// impatience is how often the servers of an upstream are checked at least while none of them is up.
const impatience = time.Second

// checking is what the checks of one server are at. It is guarded by the group's mu.
type checking struct {
	check     *config.Check      // nil for none
	nextCheck *reactor.Alarm     // set between two checks
	stopCheck context.CancelFunc // ends the one under way; nil while there is none

	checks, failedChecks uint64
	good, bad            int    // in a row
	lastCheck            string // what the last one said; empty where it was good
	toldUnseen           bool
}

// obeyCheck begins, changes or ends the checks of a member. It is called with the group's mu held.
func (m *Member) obeyCheck(check *config.Check) change {
	had := m.check
	switch m.check = check; {
	case check == nil && had != nil:
		m.nextCheck.Stop()
		m.good, m.bad, m.lastCheck = 0, 0, ""
		if m.state.Load()&failsChecks != 0 {
			return m.clear(failsChecks, "it is no longer checked")
		}
	case check != nil && had == nil:
		m.nextCheck.Set(0)
	case check != nil && check.Interval < had.Interval && m.stopCheck == nil:
		m.nextCheck.Set(m.pause())
	}
	return change{}
}

// hasFallen reports whether as many checks have failed in a row as take a server down. It is called with the group's mu held.
func (m *Member) hasFallen() bool { return m.check != nil && m.bad >= m.check.Fall }

// pause returns how long the next check waits: a little less than the interval, so that the checks of many servers spread out. It is called with the group's mu held.
func (m *Member) pause() time.Duration {
	pause := m.check.Interval - rand.N(m.check.Interval/10+1)
	if m.group.up() == 0 {
		pause = min(pause, impatience)
	}
	return pause
}

// startCheck has the next check made on a goroutine.
func (m *Member) startCheck() {
	g := m.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.gone || g.closed || m.check == nil || m.stopCheck != nil {
		return
	}
	ctx, cancel := context.WithCancelCause(g.ctx)
	check, server := m.check, m.server
	timeout := g.clock.AfterFunc(check.Timeout, func() { cancel(fmt.Errorf("no answer within %v", check.Timeout)) })
	m.stopCheck = func() { cancel(context.Canceled) }
	g.checks.Go(func() {
		err := run(ctx, check, server)
		timeout.Stop()
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause
		}
		cancel(context.Canceled)
		m.checked(err)
	})
}

// checked takes note of a check's end, and has the next one made.
func (m *Member) checked(err error) {
	var changes changes
	defer changes.tell()
	g := m.group
	g.mu.Lock()
	defer g.mu.Unlock()
	m.stopCheck = nil
	if m.gone || g.closed || m.check == nil || errors.Is(err, context.Canceled) {
		return
	}
	if err == nil {
		changes.add(m.checkWasGood())
	} else {
		changes.add(m.checkFailed(err)...)
	}
	m.nextCheck.Set(m.pause())
	m.checks++
}

// checkWasGood is called with the group's mu held. Where no server is up, one good check is enough.
func (m *Member) checkWasGood() change {
	g := m.group
	g.answered.Store(true)
	m.lastCheck, m.bad, m.toldUnseen = "", 0, false
	m.good++
	if m.state.Load()&failsChecks == 0 || m.good < m.check.Rise && g.up() > 0 {
		return change{}
	}
	return m.clear(failsChecks, inRow(m.good)+" succeeded")
}

// checkFailed is called with the group's mu held.
func (m *Member) checkFailed(err error) (all []change) {
	g := m.group
	m.failedChecks++
	m.lastCheck, m.good = err.Error(), 0
	m.bad++
	if !m.hasFallen() || m.state.Load()&failsChecks != 0 {
		return nil
	}
	if !g.answered.Load() {
		if m.toldUnseen {
			return nil
		}
		m.toldUnseen = true
		return []change{{m: m, unseen: true, reason: m.badChecks()}}
	}
	was := m.Up()
	m.state.Or(failsChecks)
	m.reason = m.badChecks()
	if was {
		all = append(all, change{m: m, reason: m.reason})
	}
	return append(all, g.readmit()...)
}

func (m *Member) badChecks() string {
	return fmt.Sprintf("%s failed, the last one: %s", inRow(m.bad), m.lastCheck)
}

// inRow is a number of checks in words.
func inRow(n int) string {
	if n == 1 {
		return "a check"
	}
	return fmt.Sprintf("%d checks in a row", n)
}
