//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// meter measures all works with all proxies, round after round.
type meter struct {
	opts    options
	works   []work
	proxies []proxy
	site    setup    // what all instances share
	backend []string // an address for each proxy
	dir     string
	started int // processes so far, to name their directories and logs
	results *results
}

// measureAll sets the files and the backend up, and runs the rounds.
func measureAll(ctx context.Context, opts options) (*results, error) {
	m := &meter{opts: opts}
	for _, w := range works(opts) {
		if opts.works.MatchString(w.Name) {
			m.works = append(m.works, w)
		}
	}
	for _, p := range proxies(opts) {
		if opts.proxies.MatchString(p.Name) {
			m.proxies = append(m.proxies, p)
		}
	}
	if len(m.works) == 0 || len(m.proxies) == 0 {
		return nil, errors.New("-work or -proxies leaves nothing to measure")
	}
	if err := m.checkLimits(); err != nil {
		return nil, err
	}
	var err error
	if m.dir, err = os.MkdirTemp("", "bench"); err != nil {
		return nil, err
	}
	defer os.RemoveAll(m.dir)
	if m.site, err = prepareSite(m.dir); err != nil {
		return nil, err
	}
	backend, err := m.startBackend(ctx)
	if err != nil {
		return nil, fmt.Errorf("backend: %w", err)
	}
	defer backend.stop()
	m.results = newResults(opts, m.works, m.proxies)
	for n := range opts.rounds {
		if err := m.round(ctx, n); err != nil {
			return nil, err
		}
	}
	m.results.finish()
	return m.results, nil
}

// checkLimits refuses more tunnels than the proxies can hold with one address for the backend.
func (m *meter) checkLimits() error {
	const ports = 20000 // safely below the default range of ephemeral ports
	limit, err := raiseFileLimit()
	if err != nil {
		return err
	}
	var s setup
	s.size(max(m.opts.idle, m.opts.open))
	if uint64(s.Files) > limit || m.opts.idle > ports {
		return fmt.Errorf("-idle %d needs %d open files (the limit is %d) and %d ports (%d are sure to be free)",
			m.opts.idle, s.Files, limit, m.opts.idle, ports)
	}
	return nil
}

// startBackend has it listen on an address for each proxy.
func (m *meter) startBackend(ctx context.Context) (*role, error) {
	args := []string{roleBackend}
	for i := range m.proxies {
		args = append(args, fmt.Sprintf("127.0.0.%d", 10+i))
	}
	backend, err := startRole(filepath.Join(m.dir, "backend.log"), args...)
	if err != nil {
		return nil, err
	}
	if err := backend.receive(ctx, &m.backend); err != nil {
		backend.stop()
		return nil, err
	}
	return backend, nil
}

// round measures every work once with every proxy; who begins changes from round to round. Memory is measured
// in fresh processes, one proxy at a time; for the other works all proxies run, and take turns.
func (m *meter) round(ctx context.Context, n int) error {
	order := make([]int, len(m.proxies))
	for i := range order {
		order[i] = (i + n) % len(order)
	}
	for w := range m.works {
		for _, p := range order {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if m.works[w].memory && m.wanted(w, p) {
				kb, err := m.measureMemory(ctx, p, m.works[w])
				m.record(n, w, p, kb, err)
			}
		}
	}
	running := make([]*instance, len(m.proxies))
	defer stopAll(running)
	for _, p := range order {
		var err error
		if running[p], err = m.start(ctx, p, m.opts.open); err != nil {
			m.failAll(n, p, err)
		}
	}
	for w := range m.works {
		if !m.works[w].memory && ctx.Err() == nil {
			m.takeTurns(ctx, n, w, order, running)
		}
	}
	return ctx.Err()
}

// wanted says that nothing stands in the way of a figure so far.
func (m *meter) wanted(w, p int) bool {
	c := m.results.Rows[w].Cells[p]
	return !c.Unsupported && c.Error == ""
}

// failAll notes why a proxy has no figures but those of memory.
func (m *meter) failAll(round, p int, err error) {
	for w := range m.works {
		if !m.works[w].memory && m.wanted(w, p) {
			m.record(round, w, p, 0, err)
		}
	}
}

// record notes a figure, or why there is none, and says so.
func (m *meter) record(round, w, p int, value float64, err error) {
	if err == nil && value <= 0 {
		err = fmt.Errorf("measured %g", value)
	}
	c := m.results.Rows[w].Cells[p]
	fmt.Fprintf(os.Stderr, "round %d/%d  %-20s %-9s", round+1, m.opts.rounds, m.works[w].Name, c.Proxy)
	if err != nil {
		c.Error = fmt.Sprintf("round %d: %v", round+1, err)
		fmt.Fprintf(os.Stderr, "failed: %v\n", err)
		return
	}
	c.Rounds = append(c.Rounds, value)
	fmt.Fprintf(os.Stderr, "%8s %s\n", number(value), m.works[w].Unit)
}

func stopAll(instances []*instance) {
	var stopping sync.WaitGroup
	for _, i := range instances {
		if i != nil {
			stopping.Go(i.stop)
		}
	}
	stopping.Wait()
}

// start runs a fresh process of a proxy for so many tunnels at a time.
func (m *meter) start(ctx context.Context, p, tunnels int) (*instance, error) {
	m.started++
	s := m.site
	s.Dir = filepath.Join(m.dir, fmt.Sprintf("%s-%d", strings.ToLower(m.proxies[p].Name), m.started))
	if err := os.Mkdir(s.Dir, 0o755); err != nil {
		return nil, err
	}
	s.Backend = m.backend[p]
	s.size(tunnels)
	return m.proxies[p].start(ctx, s)
}

// startLoad hands a job to a load process and has it prepare.
func (m *meter) startLoad(ctx context.Context, to *instance, j job) (*role, error) {
	m.started++
	j.Address = to.plain
	if j.TLS {
		j.Address = to.secure
	}
	r, err := startRole(filepath.Join(m.dir, fmt.Sprintf("load-%d.log", m.started)), roleLoad)
	if err != nil {
		return nil, err
	}
	if err = r.send(j); err == nil {
		_, err = ask(ctx, r, stepPrepare)
	}
	if err != nil {
		r.stop()
		return nil, fmt.Errorf("preparing: %w", err)
	}
	return r, nil
}

// ask has the load make a step.
func ask(ctx context.Context, r *role, step string) (tally, error) {
	var done tally
	if err := r.send(step); err != nil {
		return done, err
	}
	if err := r.receive(ctx, &done); err != nil {
		return done, fmt.Errorf("load: %w", err)
	}
	if done.Error != "" {
		return done, errors.New(done.Error)
	}
	return done, nil
}

// measureMemory is the memory that a tunnel, or a connection, adds to a fresh process of a proxy, in KB.
func (m *meter) measureMemory(ctx context.Context, p int, w work) (kb float64, err error) {
	i, err := m.start(ctx, p, w.job.Tunnels)
	if err != nil {
		return 0, err
	}
	defer i.stop()
	r, err := m.startLoad(ctx, i, w.job)
	if err != nil {
		return 0, err
	}
	defer r.stop()
	before, err := memoryAfter(ctx, i.pid, m.opts.rest)
	if err != nil {
		return 0, err
	}
	if _, err := ask(ctx, r, stepRun); err != nil {
		return 0, err
	}
	after, err := memoryAfter(ctx, i.pid, m.opts.settle)
	if err != nil {
		return 0, err
	}
	if _, err := ask(ctx, r, stepCheck); err != nil {
		return 0, err
	}
	return float64(after-before) / 1024 / float64(w.job.Tunnels), nil
}

func memoryAfter(ctx context.Context, pid int, d time.Duration) (int, error) {
	select {
	case <-ctx.Done():
		return 0, ctx.Err()
	case <-time.After(d):
		return memory(pid)
	}
}
