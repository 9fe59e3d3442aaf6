//go:build linux

package main

import (
	"context"
	"errors"
	"time"
)

// turn is one proxy's share of a work in a round.
type turn struct {
	proxy  int
	to     *instance
	load   *role
	beside *role // nil: nothing
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
		if beside := m.works[w].beside; beside != nil && t.err == nil {
			if t.beside, t.err = m.startLoad(ctx, t.to, *beside); t.err == nil {
				defer t.beside.stop()
			}
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
		value := t.perUnit()
		if t.beside != nil {
			value = t.tail()
		}
		m.record(round, w, t.proxy, value*m.works[w].factor, nil)
	}
}

// slice runs the load once and adds the CPU time that the proxy took.
func (t *turn) slice(ctx context.Context) error {
	const afterwards = 20 * time.Millisecond // what the proxy has put off counts too
	before, err := cpuTime(t.to.pid)
	if err != nil {
		return err
	}
	done, err := t.run(ctx)
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

// headStart is how much earlier the load beside begins, and how much later it ends.
const headStart = 50 * time.Millisecond

// run has the load, and the one beside it, make a slice.
func (t *turn) run(ctx context.Context) (tally, error) {
	if t.beside == nil {
		return ask(ctx, t.load, stepRun)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := ask(ctx, t.beside, stepRun)
		ended <- err
	}()
	time.Sleep(headStart)
	done, err := ask(ctx, t.load, stepRun)
	return done, errors.Join(err, <-ended)
}

// tail is what 99 of 100 trips took at most, in microseconds: the median over the slices.
func (t *turn) tail() float64 {
	var values []float64
	for _, s := range t.slices {
		values = append(values, s.P99)
	}
	return median(values)
}

// perUnit is the CPU time, in seconds, of one round trip, request or tunnel.
func (t *turn) perUnit() float64 {
	units := 0
	for _, s := range t.slices {
		units += s.Count
	}
	return t.cpu.Seconds() / float64(units)
}
