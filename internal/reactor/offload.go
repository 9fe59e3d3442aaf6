package reactor

import "sync"

// maxOffloads is how many goroutines of a group wait for disks at a time. Each may hold a thread.
const maxOffloads = 32

// offloads are work that waits for one of the goroutines that do it.
type offloads struct {
	mu      sync.Mutex
	waiting []func()
	running int
	most    int
}

// SetOffloads sets how many goroutines the group may have for what [Loop.Offload] is given; 32 are the most, and the default.
func (g *Group) SetOffloads(n int) {
	g.offloads.mu.Lock()
	defer g.offloads.mu.Unlock()
	g.offloads.most = min(n, maxOffloads)
}

// Offload runs work, which may wait for a disk, on a goroutine, and then runs then on the loop, unless that has ended by then. So much is offloaded at a
// time as the group has goroutines for; the rest waits its turn.
func (l *Loop) Offload(work, then func()) {
	o := &l.group.offloads
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting = append(o.waiting, func() {
		l.call(work)
		l.Post(then)
	})
	if o.running < o.most {
		o.running++
		go o.run()
	}
}

func (o *offloads) run() {
	for {
		o.mu.Lock()
		if len(o.waiting) == 0 {
			o.running--
			o.waiting = nil
			o.mu.Unlock()
			return
		}
		work := o.waiting[0]
		o.waiting = o.waiting[1:]
		o.mu.Unlock()
		work()
	}
}
