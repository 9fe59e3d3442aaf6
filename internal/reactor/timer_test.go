package reactor

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestWheelExpiresEachTimerAtItsTick compares the wheel with a plain list, over days.
func TestWheelExpiresEachTimerAtItsTick(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 30 {
		w := &wheel{now: random.Uint32N(1 << 25)}
		due := map[*Timer]uint32{}
		now := w.now
		for range 400 {
			switch random.IntN(4) {
			case 0: // time passes
				now += 1 + random.Uint32N(1<<random.IntN(24))
				for x := w.expired(now); x != nil; x = w.expired(now) {
					if x.when > now {
						t.Fatalf("a timer for tick %d expired at %d", x.when, now)
					}
					delete(due, x)
				}
				for _, when := range due {
					if when <= now {
						t.Fatalf("a timer for tick %d has not expired at %d", when, now)
					}
				}
			case 1: // one is stopped
				for x := range due {
					w.remove(x)
					delete(due, x)
					break
				}
			default:
				x := &Timer{when: now + 1 + random.Uint32N(1<<random.IntN(27))}
				w.insert(x)
				due[x] = x.when
			}
			next, ok := w.next()
			if ok != (len(due) > 0) {
				t.Fatalf("%d timers are set, next says %v", len(due), ok)
			}
			for _, when := range due {
				if next > when {
					t.Fatalf("next is %d, a timer is due at %d", next, when)
				}
			}
		}
	}
}

type fired chan time.Duration

func (f fired) Expired() { f <- 0 }

func TestTimersFireAndStop(t *testing.T) {
	g, _ := startGroup(t)
	l := g.Pick()
	early, late, never := make(fired, 2), make(fired, 2), make(fired, 2)
	timers := []*Timer{{On: early}, {On: late}, {On: never}}
	start := time.Now()
	on(t, l, func() {
		l.Set(timers[1], 150*time.Millisecond)
		l.Set(timers[0], time.Hour)
		l.Set(timers[0], 50*time.Millisecond)
		l.Set(timers[2], 80*time.Millisecond)
		l.Stop(timers[2])
	})
	await(t, early)
	if took := time.Since(start); took < 50*time.Millisecond {
		t.Errorf("50 ms took %v", took)
	}
	await(t, late)
	if took := time.Since(start); took < 150*time.Millisecond {
		t.Errorf("150 ms took %v", took)
	}
	if len(never)+len(early)+len(late) > 0 {
		t.Error("a timer fired that was stopped, or twice")
	}
}
