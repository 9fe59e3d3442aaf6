package proxy

import (
	"slices"
	"time"
)

// kept is a connection of an event loop that waits for its next request. Only that loop may use it.
type kept struct {
	conn           evictable
	loop           any
	since, expires time.Time
}

// evictable is closed from elsewhere when it is in the way.
type evictable interface {
	// evict closes it soon. It is safe on any goroutine.
	evict()
}

// popKept takes out the connection that came last, of those that have been idle for no longer than maxIdle: one of the loop's own if there is one.
func (p *pool) popKept(loop any, now time.Time, maxIdle time.Duration) *kept {
	if maxIdle <= 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	best := -1
	for i := len(p.kept) - 1; i >= 0; i-- {
		k := p.kept[i]
		if now.Sub(k.since) > maxIdle || now.After(k.expires) {
			continue
		}
		if k.loop == loop {
			best = i
			break
		}
		if best < 0 {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	k := p.kept[best]
	p.kept = slices.Delete(p.kept, best, best+1)
	return k
}

// keep keeps a connection, and reports whether it did. The oldest goes where there would be too many.
func (p *pool) keep(k *kept, reused bool, firstByteAfter time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if reused {
		p.pace += (min(firstByteAfter, longestPatience) - p.pace) / 8
	}
	if p.retired || p.keepAlive == 0 || p.isBusy(k.since) {
		return false
	}
	if len(p.idle)+len(p.kept) >= p.keepAlive {
		if len(p.kept) == 0 {
			return false
		}
		p.kept[0].conn.evict()
		p.kept = slices.Delete(p.kept, 0, 1)
	}
	p.kept = append(p.kept, k)
	next := k.expires
	if longest := p.waiting.Front(); longest != nil {
		next = longest.Value.(time.Time).Add(p.patience())
	}
	p.tendAt(next)
	return true
}

// dropKept forgets a connection that has ended.
func (p *pool) dropKept(conn evictable) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.kept = slices.DeleteFunc(p.kept, func(k *kept) bool { return k.conn == conn })
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
