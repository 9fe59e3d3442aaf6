package proxy_test

import (
	"regexp"
	"strings"
	"time"
)

// slowed is a bound of processor time, chosen on a machine that matches a certain regex in 40 us, as it is on this one now, with the race detector if that is on.
// The quickest of some rounds counts, as it does where loops are watched.
func slowed(bound time.Duration) time.Duration {
	const rounds, nominal, most = 50, 40 * time.Microsecond * raceFactor, 4
	pattern, text := regexp.MustCompile("(a+)+x(a+)+y$"), strings.Repeat("a", 500)
	best := time.Hour
	for range rounds {
		began := time.Now()
		pattern.MatchString(text)
		best = min(best, time.Since(began))
	}
	return time.Duration(float64(bound) * raceFactor * min(most, max(1, float64(best)/float64(nominal))))
}
