package reactor

import (
	"math/bits"
	"time"
)

// tickLength is the resolution of timers.
const tickLength = 16 * time.Millisecond

// The wheel has levels of slots; a slot of one level spans a whole turn of the level below it.
const (
	wheelBits   = 6
	wheelSlots  = 1 << wheelBits
	wheelLevels = 4
	wheelRange  = 1 << (wheelBits * wheelLevels) // ticks, about three days
)

// Expirer is told that a timer has run out.
type Expirer interface {
	Expired()
}

// Timer is a place in a loop's wheel, to be part of the structure that it is for. The zero Timer with On set is ready
// for use. Running out is told once, up to two hundredths of a second late.
type Timer struct {
	On Expirer

	next, prev  *Timer
	when        uint32 // in ticks
	level, slot uint8
	set         bool
}

// Set makes t run out after d, instead of any time that it was set to before.
func (l *Loop) Set(t *Timer, d time.Duration) {
	l.Stop(t)
	t.when = ticks(l.now+max(d, 0)) + 1
	l.wheel.insert(t)
}

// Stop makes t not run out.
func (l *Loop) Stop(t *Timer) {
	if t.set {
		l.wheel.remove(t)
	}
}

// expire tells the timers that have run out.
func (l *Loop) expire() {
	for t := l.wheel.expired(ticks(l.now)); t != nil; t = l.wheel.expired(ticks(l.now)) {
		l.call(t.On.Expired)
	}
}

func ticks(d time.Duration) uint32 { return uint32(d / tickLength) }

// wheel keeps timers by the time at which they run out. Far ones lie in coarse slots and move to
// finer ones as their time comes, so that each is touched a handful of times at most.
type wheel struct {
	now      uint32
	occupied [wheelLevels]uint64 // a bit for each slot
	slots    [wheelLevels][wheelSlots]*Timer
}

func (w *wheel) insert(t *Timer) {
	at := t.when
	if distance := at - w.now; distance >= wheelRange {
		at = w.now + wheelRange - 1 // it is looked at again then
	}
	t.level = 0
	for distance := (at - w.now) >> wheelBits; distance > 0; distance >>= wheelBits {
		t.level++
	}
	t.slot = uint8(at >> (wheelBits * t.level) % wheelSlots)
	head := &w.slots[t.level][t.slot]
	t.next, t.prev, t.set = *head, nil, true
	if t.next != nil {
		t.next.prev = t
	}
	*head = t
	w.occupied[t.level] |= 1 << t.slot
}

func (w *wheel) remove(t *Timer) {
	if t.next != nil {
		t.next.prev = t.prev
	}
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		w.slots[t.level][t.slot] = t.next
		if t.next == nil {
			w.occupied[t.level] &^= 1 << t.slot
		}
	}
	t.next, t.prev, t.set = nil, nil, false
}

// expired takes out one timer that has run out by now, or returns nil.
func (w *wheel) expired(now uint32) *Timer {
	for {
		if t := w.slots[0][w.now%wheelSlots]; t != nil && t.when == w.now {
			w.remove(t)
			return t
		}
		next, ok := w.next()
		if !ok || next > now {
			w.now = max(w.now, now)
			return nil
		}
		w.now = next
		w.cascade()
	}
}

// cascade moves the timers whose coarse slot has come to finer ones.
func (w *wheel) cascade() {
	for level := wheelLevels - 1; level > 0; level-- {
		if w.now%(1<<(wheelBits*level)) != 0 {
			continue
		}
		head := &w.slots[level][w.now>>(wheelBits*level)%wheelSlots]
		for list := *head; list != nil; {
			t := list
			list = t.next
			w.remove(t)
			w.insert(t)
		}
	}
}

// next returns the next tick at which a slot is due.
func (w *wheel) next() (at uint32, ok bool) {
	for level, occupied := range w.occupied {
		if occupied == 0 {
			continue
		}
		shift := wheelBits * level
		current := w.now >> shift
		steps := uint32(bits.TrailingZeros64(bits.RotateLeft64(occupied, -int((current+1)%wheelSlots)))) + 1
		if due := (current + steps) << shift; !ok || due < at {
			at, ok = due, true
		}
	}
	return at, ok
}

// due returns when the wheel is to be looked at next.
func (w *wheel) due() (at time.Duration, ok bool) {
	next, ok := w.next()
	return time.Duration(next) * tickLength, ok
}
