package processes

import (
	"context"
	"sync"

	"wstunnel/internal/admin"
)

// Watch implements [admin.Tunnels].
func (e *Everywhere) Watch(among []string) admin.Watch {
	w := &watch{everywhere: e, among: among, here: e.Here.Watch(among), older: make(chan news), watched: map[*Older]bool{}}
	w.ctx, w.cancel = context.WithCancel(context.Background())
	w.followOlder()
	return w
}

// watch is what happens in all processes.
type watch struct {
	everywhere *Everywhere
	among      []string
	here       admin.Watch
	older      chan news // which nobody puts anything into that is not taken: each process counts itself what is missed
	watched    map[*Older]bool
	ctx        context.Context
	cancel     context.CancelFunc
	all        sync.WaitGroup
}

type news struct {
	missed int
	some   []admin.Event
}

// followOlder follows the older processes that are known by now.
func (w *watch) followOlder() {
	for _, o := range w.everywhere.Older() {
		if !w.watched[o] {
			w.watched[o] = true
			w.all.Go(func() { w.follow(o.Watch(w.among)) })
		}
	}
}

// follow hands on what happens in an older process, until its end.
func (w *watch) follow(one admin.Watch) {
	defer one.Close()
	for {
		missed, some, err := one.Next(w.ctx)
		if err != nil {
			return
		}
		select {
		case w.older <- news{missed, some}:
		case <-w.ctx.Done():
			return
		}
	}
}

// Next implements [admin.Watch].
func (w *watch) Next(ctx context.Context) (missed int, some []admin.Event, err error) {
	w.followOlder()
	if len(w.watched) == 0 {
		return w.here.Next(ctx)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	theirs := make(chan news, 1)
	go func() {
		defer close(theirs)
		select {
		case n := <-w.older:
			theirs <- n
			cancel()
		case <-ctx.Done():
		}
	}()
	missed, some, err = w.here.Next(ctx)
	cancel()
	if n, came := <-theirs; came {
		return missed + n.missed, append(some, n.some...), nil
	}
	return missed, some, err
}

// Close implements [admin.Watch].
func (w *watch) Close() {
	w.here.Close()
	w.cancel()
	w.all.Wait()
}
