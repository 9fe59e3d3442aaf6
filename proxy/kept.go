package proxy

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// kept is a connection that waits for its next request.
type kept struct {
	conn    evictable
	loop    any // whose it is, and who alone may use it; nil where there are no loops
	since   time.Time
	expires time.Time
}

// evictable is closed from elsewhere when it is in the way.
type evictable interface {
	// evict closes it soon. It is safe on any goroutine.
	evict()
}

// evict closes those that a condition holds for, and returns how many. It is called with mu held.
func (p *pool) evict(which func(*kept) bool) int {
	n := len(p.kept)
	p.kept = slices.DeleteFunc(p.kept, func(k *kept) bool {
		if !which(k) {
			return false
		}
		k.conn.evict()
		return true
	})
	return n - len(p.kept)
}

// evictOldest closes the n oldest ones, and returns how many there were. It is called with mu held.
func (p *pool) evictOldest(n int) int {
	return p.evict(func(*kept) bool { n--; return n >= 0 })
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
	if p.retired || p.keepAlive == 0 || p.owesRoom(k.since) {
		return false
	}
	if len(p.kept) >= max(p.keepAlive, mostIdle) {
		p.evictOldest(1)
	}
	p.kept = append(p.kept, k)
	next := k.expires
	if len(p.kept) > p.keepAlive {
		next = k.since.Add(surplusLife)
	}
	if longest := p.waiting.Front(); longest != nil {
		next = longest.Value.(time.Time).Add(p.patience())
	}
	p.tendAt(next)
	return true
}

// dropKept forgets a connection that has ended, and reports whether it was kept.
func (p *pool) dropKept(conn evictable) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := len(p.kept)
	p.kept = slices.DeleteFunc(p.kept, func(k *kept) bool { return k.conn == conn })
	return len(p.kept) < n
}

// lifeOf returns how long a connection may be idle that a backend has answered on with some Keep-Alive headers.
func lifeOf(header []string, life time.Duration) time.Duration {
	for _, value := range header {
		for parameter := range strings.SplitSeq(value, ",") {
			name, seconds, _ := strings.Cut(strings.TrimSpace(parameter), "=")
			if n, err := strconv.ParseUint(seconds, 10, 31); err == nil && strings.EqualFold(name, "timeout") {
				announced := time.Duration(n) * time.Second
				life = min(life, announced-min(keepAliveMargin, announced/2))
			}
		}
	}
	return life
}
