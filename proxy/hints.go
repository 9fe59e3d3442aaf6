package proxy

import (
	"fmt"
	"log/slog"
	"sync"
	"time"

	"wstunnel/internal/reactor"
)

const (
	hintPause = time.Hour
	maxHints  = 1000 // that are remembered
)

// hints are lines of the log that say what is likely to be wrong, and what to write instead. Each is told once in hintPause.
type hints struct {
	clock *reactor.Clock
	mu    sync.Mutex
	told  map[string]time.Time
}

// tell logs a hint, unless it has been told lately with the same attributes.
func (h *hints) tell(log *slog.Logger, text string, attrs ...any) {
	if h.isDue(fmt.Sprint(append(attrs, text)...), h.clock.Now()) {
		log.Warn(text, attrs...)
	}
}

func (h *hints) isDue(key string, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if at, ok := h.told[key]; ok && now.Sub(at) < hintPause {
		return false
	}
	if h.told == nil || len(h.told) >= maxHints {
		h.told = map[string]time.Time{}
	}
	h.told[key] = now
	return true
}
