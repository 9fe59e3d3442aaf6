package upstream

import (
	"container/list"
	"sync"
	"sync/atomic"
	"time"

	"wstunnel/internal/reactor"
)

// scoutPace is how often one of those that wait for a server tries whether there is one.
const scoutPace = 50 * time.Millisecond

// room is where requests wait while no server of an upstream can be connected with. The one that has waited longest goes first now and then, and once any request gets
// through, all follow.
type room struct {
	count atomic.Int64 // of those that wait

	mu     sync.Mutex
	queue  list.List // of func(), each to be called once, with mu not held
	scouts *reactor.Alarm
}

func newRoom(clock *reactor.Clock) *room {
	r := &room{}
	r.scouts = clock.Alarm(r.sendScout)
	return r
}

// enter lets a request wait: before all others if it has been a scout. goOn is called once, on any goroutine, unless it leaves before.
func (r *room) enter(goOn func(), first bool) *list.Element {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count.Add(1)
	if r.queue.Len() == 0 {
		r.scouts.Set(scoutPace)
	}
	if first {
		return r.queue.PushFront(goOn)
	}
	return r.queue.PushBack(goOn)
}

// leave takes a request out, if it is still there.
func (r *room) leave(place *list.Element) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remove(place)
}

// remove is called with mu held.
func (r *room) remove(place *list.Element) (goOn func()) {
	goOn = place.Value.(func())
	if goOn != nil {
		place.Value = (func())(nil)
		r.queue.Remove(place)
		r.count.Add(-1)
	}
	return goOn
}

// sendScout lets the first one try.
func (r *room) sendScout() {
	r.mu.Lock()
	var goOn func()
	if first := r.queue.Front(); first != nil {
		goOn = r.remove(first)
		r.scouts.Set(scoutPace)
	}
	r.mu.Unlock()
	if goOn != nil {
		goOn()
	}
}

// open lets all go on, in their order.
func (r *room) open() {
	if r.count.Load() == 0 {
		return
	}
	r.mu.Lock()
	var all []func()
	for first := r.queue.Front(); first != nil; first = r.queue.Front() {
		all = append(all, r.remove(first))
	}
	r.mu.Unlock()
	for _, goOn := range all {
		goOn()
	}
}
