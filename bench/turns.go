//go:build linux

package main

import (
	"context"
	"time"
)

// turn is one proxy's share of a work in a round.
type turn struct {
	proxy  int
	to     *instance
	load   *role
	cpu    time.Duration
	slices []tally
	err    error
}

// takeTurns measures a work with all running proxies, a slice after the other, so that whatever else goes on in
// the machine meets all of them alike.
func (m *meter) takeTurns(ctx context.Context, round, w int, order []int, running []*instance) {
	var turns []*turn
	for _, p := range order {
		if !m.wanted(w, p) {
			continue
		}
		t := &turn{proxy: p, to: running[p]}
		if t.load, t.err = m.startLoad(ctx, t.to, m.works[w].job); t.err == nil {
			defer t.load.stop()
		}
		turns = append(turns, t)
	}
	for range turnsPerRound {
		for _, t := range turns {
			if t.err == nil {
				t.err = t.slice(ctx)
			}
		}
	}
	for _, t := range turns {
		if t.err != nil {
			m.record(round, w, t.proxy, 0, t.err)
			continue
		}
		if m.works[w].job.Kind != jobOpen {
			c := m.results.Rows[w].Cells[t.proxy]
			c.slices = append(c.slices, t.slices...)
		}
		m.record(round, w, t.proxy, t.perUnit()*m.works[w].factor, nil)
	}
}

// slice runs the load once and adds the CPU time that the proxy took.
func (t *turn) slice(ctx context.Context) error {
	const afterwards = 20 * time.Millisecond // what the proxy has put off counts too
	before, err := cpuTime(t.to.pid)
	if err != nil {
		return err
	}
	done, err := ask(ctx, t.load, stepRun)
	if err != nil {
		return err
	}
	time.Sleep(afterwards)
	after, err := cpuTime(t.to.pid)
	if err != nil {
		return err
	}
	t.cpu += after - before
	t.slices = append(t.slices, done)
	return nil
}

// perUnit is the CPU time, in seconds, of one round trip, request or tunnel.
func (t *turn) perUnit() float64 {
	units := 0
	for _, s := range t.slices {
		units += s.Count
	}
	return t.cpu.Seconds() / float64(units)
}
