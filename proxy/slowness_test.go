package proxy_test

import (
	"regexp"
	"slices"
	"strings"
	"time"
)

// slowed is a bound of processor time, chosen on a machine that matches a certain regex in 40 us, as it is on this one now, with the race detector if that is on.
// Where the quickest of some turns is watched, the quickest of some rounds counts.
func slowed(bound time.Duration) time.Duration { return slowedBy(bound, 0) }

// slowedNow is slowed for a single turn, which is as slow as the machine is at most times.
func slowedNow(bound time.Duration) time.Duration { return slowedBy(bound, calibration*3/4) }

// calibration is how often the regex is matched.
const calibration = 50

func slowedBy(bound time.Duration, place int) time.Duration {
	const nominal, most = 40 * time.Microsecond * raceFactor, 4
	pattern, text := regexp.MustCompile("(a+)+x(a+)+y$"), strings.Repeat("a", 500)
	var took []time.Duration
	for range calibration {
		began := time.Now()
		pattern.MatchString(text)
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	return time.Duration(float64(bound) * raceFactor * min(most, max(1, float64(took[place])/float64(nominal))))
}
