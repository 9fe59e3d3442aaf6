package http2

import "time"

// Limits on what a client may make this end do that is no request.
const (
	// sentPerUpdate is how many bytes a client must have been sent for each WINDOW_UPDATE or PING beyond those that are free: of small
	// DATA frames some clients acknowledge each twice.
	sentPerUpdate = 16
	// controlsPerStream is how many SETTINGS, PRIORITY and the like each stream allows beyond those that are free.
	controlsPerStream = 2
	// settingsPerControl is how many settings count as one such frame.
	settingsPerControl = 8
	maxBlock           = 2 * MaxHeaderList // bytes of one HEADERS frame and its CONTINUATIONs
	maxBlockFrames     = 16                // frames of one header block
)

// allowance is how many of something are allowed at once, and after that.
type allowance struct{ burst, perSecond int64 }

// What is free: so many at once, and so many a second after that.
var (
	freeResets   = allowance{200, 20}
	freeControls = allowance{200, 20}
	freeUpdates  = allowance{10_000, 100}
	freeEmpties  = allowance{100, 10}
)

var (
	errBlockFlood   = failure(EnhanceYourCalm, "HTTP/2 header block of too many frames or bytes")
	errResetFlood   = failure(EnhanceYourCalm, "HTTP/2 client resets streams too fast, or has them reset")
	errControlFlood = failure(EnhanceYourCalm, "HTTP/2 client sends too many SETTINGS, PRIORITY or unknown frames")
	errUpdateFlood  = failure(EnhanceYourCalm, "HTTP/2 client sends too many WINDOW_UPDATE or PING frames")
	errEmptyFlood   = failure(EnhanceYourCalm, "HTTP/2 client sends too many empty DATA frames")
)

// tokens are what has been used of an allowance. The zero tokens are a whole one.
type tokens struct {
	used int64
	at   time.Duration // when what was used came back last
}

// take takes n, and reports whether there were as many.
func (t *tokens) take(now time.Duration, a allowance, n int64) bool {
	if back := int64(now-t.at) * a.perSecond / int64(time.Second); back > 0 {
		t.used, t.at = max(0, t.used-back), now
	}
	t.used = max(0, t.used) + n
	return t.used <= a.burst
}

// earn adds to what may be taken.
func (t *tokens) earn(n int64) { t.used -= n }

// guard counts what a client makes this end do.
type guard struct {
	resets, controls, updates, empties tokens
	sent                               int64 // bytes that no update was earned for yet
}

// sentBytes notes how much there is that the client may acknowledge.
func (g *guard) sentBytes(n int) {
	g.sent += int64(n)
	g.updates.earn(g.sent / sentPerUpdate)
	g.sent %= sentPerUpdate
}
