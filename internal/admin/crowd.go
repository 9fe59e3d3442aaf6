package admin

import (
	"context"
	"net"
	"sync"
)

// member is a connection of a crowd, which it leaves when it is closed.
type member interface {
	net.Conn
	// dismiss says that there is no room, without waiting for whoever listens, and has the connection end soon.
	dismiss()
}

// crowd bounds how many connections are open at a time. Where that is reached, the one that has waited longest for something to do makes room for the next: who
// has nothing to say keeps nobody from asking.
type crowd struct {
	most int
	// watching ends when those are to go who watch what happens.
	watching context.Context
	unwatch  context.CancelFunc

	mu      sync.Mutex
	members map[member]*standing
	going   map[member]bool // told to go, and open yet
	turns   uint64
	closing bool
}

// standing is how it is with a connection.
type standing struct {
	busy  bool
	since uint64 // the turn at which something was done for it last, or at which it came
}

func newCrowd(most int) *crowd {
	w := &crowd{most: most, members: map[member]*standing{}, going: map[member]bool{}}
	w.watching, w.unwatch = context.WithCancel(context.Background())
	return w
}

// reserved is how many more connections the owner may have, so that others who are busy keep nobody from having a look.
const reserved = 8

// admit lets a connection in. It is false where all others are busy; then late says whether there is room to tell it so, or it is to be closed at once.
func (w *crowd) admit(m member, owner bool) (in, late bool) {
	w.mu.Lock()
	if w.closing {
		w.mu.Unlock()
		return false, false
	}
	crowded := len(w.going) >= w.most
	var out member
	if len(w.members) >= w.most {
		out = w.longestWaiting()
		if out == nil && !(owner && len(w.members) < w.most+reserved) {
			if !crowded {
				w.going[m] = true
			}
			w.mu.Unlock()
			return false, !crowded
		}
		if out != nil {
			delete(w.members, out)
			w.going[out] = true
		}
	}
	w.turns++
	w.members[m] = &standing{since: w.turns}
	w.mu.Unlock()
	if out != nil {
		out.dismiss()
		if crowded {
			out.Close()
		}
	}
	return true, false
}

// longestWaiting returns the connection that has waited longest; nil where none waits. It is called with mu held.
func (w *crowd) longestWaiting() (found member) {
	var since uint64
	for m, s := range w.members {
		if !s.busy && (found == nil || s.since < since) {
			found, since = m, s.since
		}
	}
	return found
}

// occupy notes whether something is done for a connection. It is false where there is to be nothing more.
func (w *crowd) occupy(m member, busy bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.members[m]
	if s == nil || w.closing && !busy {
		return false
	}
	if s.busy = busy; busy {
		w.turns++
		s.since = w.turns
	}
	return true
}

// left notes that a connection is closed.
func (w *crowd) left(m member) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.members, m)
	delete(w.going, m)
}

// close lets nobody in any more, and returns those that wait, and with now all.
func (w *crowd) close(now bool) (ended []member) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closing = true
	for m, s := range w.members {
		if now || !s.busy {
			ended = append(ended, m)
		}
	}
	for m := range w.going {
		ended = append(ended, m)
	}
	return ended
}
