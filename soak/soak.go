//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// steadyBackends live on through the run; mortalBackends die in turn, but for the last.
const (
	steadyBackends = 2
	mortalBackends = 3
)

// rig is a front with backends and clients.
type rig struct {
	dir            string
	backends       []*backend
	steady, mortal []string // their addresses
	front          *front
	tally          *tally
	tunnels        *tunnels
	clients        sync.WaitGroup
	endLoad        context.CancelFunc
}

// soak does it all for the time that the options say, and counts.
func soak(ctx context.Context, o options) (*report, error) {
	run, err := startRun(o)
	if err != nil {
		return nil, err
	}
	defer run.end()
	run.begin(ctx, o)
	open := &run.tunnels.open
	if !run.awaitOpen(ctx, o) {
		return nil, fmt.Errorf("%d tunnels are open, want %d", open.Load(), o.tunnels)
	}
	r := &report{tally: run.tally, peer: o.peer, duration: o.duration, tunnels: int(open.Load()), before: run.front.usage()}
	run.disturb(ctx, o, r)
	run.awaitOpen(ctx, o) // again, behind a backend that has just come back
	r.left, r.after = int(open.Load()), run.front.usage()
	run.endClients()
	return r, nil
}

// startRun starts the backends and the front.
func startRun(o options) (run *rig, err error) {
	limit := unix.Rlimit{}
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		limit.Cur = limit.Max
		unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	}
	run = &rig{tally: newTally(o.verbose), endLoad: func() {}}
	defer func() {
		if err != nil {
			run.end()
		}
	}()
	if run.dir, err = os.MkdirTemp("", "soak"); err != nil {
		return nil, err
	}
	addresses, err := freeAddresses(steadyBackends + mortalBackends)
	if err != nil {
		return nil, err
	}
	for _, address := range addresses {
		b := &backend{address: address}
		if err := b.start(); err != nil {
			return nil, err
		}
		run.backends = append(run.backends, b)
	}
	run.steady, run.mortal = addresses[:steadyBackends], addresses[steadyBackends:]
	if run.front, err = startFront(o, run.dir, run.steady, run.mortal); err != nil {
		return nil, err
	}
	run.tunnels = &tunnels{carriers: &carriers{front: run.front}, every: o.every, tally: run.tally}
	return run, nil
}

// configure writes the front's configuration anew.
func (run *rig) configure() error { return run.front.configure(run.steady, run.mortal) }

// endClients has the clients leave.
func (run *rig) endClients() {
	run.endLoad()
	run.clients.Wait()
}

// end ends all that was started.
func (run *rig) end() {
	run.endClients()
	if run.front != nil {
		run.front.stop()
	}
	for _, b := range run.backends {
		b.kill()
	}
	os.RemoveAll(run.dir)
}

// begin lets the clients come.
func (run *rig) begin(ctx context.Context, o options) {
	ctx, run.endLoad = context.WithCancel(ctx)
	for i := range o.tunnels {
		k := kind(i) % kinds
		if k == overHTTP2 && !run.front.program.carries {
			k = overTLS
		}
		path := "/steady"
		if i%5 == 4 {
			path = "/mortal"
		}
		run.clients.Go(func() {
			rest(ctx, time.Duration(i)*time.Millisecond)
			run.tunnels.keep(ctx, k, path)
		})
	}
	for i := range o.requests {
		run.clients.Go(func() { pages(ctx, run.front, kind(i)%kinds, run.tally) })
	}
}

// awaitOpen waits until all tunnels are open.
func (run *rig) awaitOpen(ctx context.Context, o options) bool {
	open := func() bool { return int(run.tunnels.open.Load()) == o.tunnels }
	for end := time.Now().Add(time.Minute); !open() && time.Now().Before(end); {
		if !rest(ctx, 20*time.Millisecond) {
			return false
		}
	}
	return open()
}

// disturb kills backends, reloads and upgrades until the time is up.
func (run *rig) disturb(ctx context.Context, o options, r *report) {
	f, mortal := run.front, run.backends[steadyBackends:]
	ctx, cancel := context.WithTimeout(ctx, o.duration)
	defer cancel()
	var all sync.WaitGroup
	var one sync.Mutex // a reload or an upgrade at a time
	all.Go(func() {
		for n := 0; rest(ctx, o.duration/30+time.Second); n++ {
			b := mortal[n%(len(mortal)-1)]
			b.kill()
			r.kills.Add(1)
			rest(ctx, time.Second)
			if err := b.start(); err != nil {
				r.tally.note(r.tally.trouble, "a backend did not come back: %v", err)
			}
		}
	})
	all.Go(func() {
		for rest(ctx, max(300*time.Millisecond, o.duration/200)) {
			one.Lock()
			err := run.configure()
			if err == nil {
				err = f.program.reload(f)
			}
			one.Unlock()
			r.count(&r.reloads, "reload", err)
		}
	})
	all.Go(func() {
		for range o.upgrades {
			if !rest(ctx, o.duration/time.Duration(o.upgrades+1)) {
				return
			}
			one.Lock()
			err := f.program.upgrade(f)
			one.Unlock()
			r.count(&r.upgrades, "upgrade", err)
		}
	})
	all.Go(func() {
		for rest(ctx, time.Second) {
			u := f.usage()
			r.most.processes, r.most.descriptors = max(r.most.processes, u.processes), max(r.most.descriptors, u.descriptors)
			r.most.memory = max(r.most.memory, u.memory)
		}
	})
	all.Wait()
}

// count counts what went well, and notes what did not.
func (r *report) count(n *atomic.Int64, what string, err error) {
	if err != nil {
		r.tally.note(r.tally.trouble, "%s: %v", what, err)
		return
	}
	n.Add(1)
}
