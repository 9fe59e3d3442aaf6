//go:build linux

package main

import (
	"context"
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

// soak does it all for the time that the options say, and counts.
func soak(ctx context.Context, o options) (*report, error) {
	limit := unix.Rlimit{}
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err == nil {
		limit.Cur = limit.Max
		unix.Setrlimit(unix.RLIMIT_NOFILE, &limit)
	}
	dir, err := os.MkdirTemp("", "soak")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	addresses, err := freeAddresses(steadyBackends + mortalBackends)
	if err != nil {
		return nil, err
	}
	var backends []*backend
	for _, address := range addresses {
		b := &backend{address: address}
		if err := b.start(); err != nil {
			return nil, err
		}
		defer func() { b.kill() }()
		backends = append(backends, b)
	}
	steady, mortal := addresses[:steadyBackends], addresses[steadyBackends:]
	f, err := startFront(o, dir, steady, mortal)
	if err != nil {
		return nil, err
	}
	defer f.stop()
	t := newTally(o.verbose)
	load, endLoad := context.WithCancel(ctx)
	defer endLoad()
	ts := &tunnels{carriers: &carriers{front: f}, every: o.every, tally: t}
	var clients sync.WaitGroup
	begin(load, &clients, ts, o)
	if !awaitOpen(ctx, ts, o) {
		endLoad()
		clients.Wait()
		return nil, ctx.Err()
	}
	r := &report{tally: t, peer: o.peer, duration: o.duration, tunnels: int(ts.open.Load()), before: f.usage()}
	disturb(ctx, o, f, backends[steadyBackends:], func() error { return f.configure(steady, mortal) }, r)
	r.left, r.after = int(ts.open.Load()), f.usage()
	endLoad()
	clients.Wait()
	return r, nil
}

// begin lets the clients come.
func begin(ctx context.Context, clients *sync.WaitGroup, ts *tunnels, o options) {
	for i := range o.tunnels {
		k := kind(i) % kinds
		if k == overHTTP2 && !fronts[o.peer].carries {
			k = overTLS
		}
		path := "/steady"
		if i%5 == 4 {
			path = "/mortal"
		}
		clients.Go(func() {
			rest(ctx, time.Duration(i)*time.Millisecond)
			ts.keep(ctx, k, path)
		})
	}
	for i := range o.requests {
		clients.Go(func() { pages(ctx, ts.carriers.front, kind(i)%kinds, ts.tally) })
	}
}

// awaitOpen waits until all tunnels are open.
func awaitOpen(ctx context.Context, ts *tunnels, o options) bool {
	for end := time.Now().Add(time.Minute); int(ts.open.Load()) < o.tunnels && time.Now().Before(end); {
		if !rest(ctx, 20*time.Millisecond) {
			return false
		}
	}
	return true
}

// disturb kills backends, reloads and upgrades until the time is up.
func disturb(ctx context.Context, o options, f *front, mortal []*backend, configure func() error, r *report) {
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
			err := configure()
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
