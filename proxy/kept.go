package proxy

import (
	"slices"
	"time"
)

// kept is a connection of an event loop that waits for its next request. Only that loop may use it.
type kept struct {
	conn evictable
	//lint:ignore U1000 looked at where there are loops
	loop    any // whose it is
	since   time.Time
	expires time.Time
}

// evictable is closed from elsewhere when it is in the way.
type evictable interface {
	// evict closes it soon. It is safe on any goroutine.
	evict()
}

// evictKept closes those that a condition holds for. It is called with mu held.
func (p *pool) evictKept(which func(*kept) bool) {
	p.kept = slices.DeleteFunc(p.kept, func(k *kept) bool {
		if !which(k) {
			return false
		}
		k.conn.evict()
		return true
	})
}
