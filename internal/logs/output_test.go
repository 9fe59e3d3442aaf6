package logs

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestLogKeepsItsLinesInOrder(t *testing.T) {
	var got bytes.Buffer
	out := NewOutput(&got, nil)
	log := New(out, JSON)
	var want strings.Builder
	for i := range 10_000 {
		log.Logger().Info(fmt.Sprint(i))
		fmt.Fprintf(&want, `"msg":"%d"`, i)
		if i%2000 == 0 {
			time.Sleep(2 * delay)
		}
	}
	out.Flush()
	var messages strings.Builder
	for line := range strings.Lines(got.String()) {
		_, message, _ := strings.Cut(strings.TrimSuffix(line, "}\n"), `"level":"INFO",`)
		messages.WriteString(message)
	}
	if messages.String() != want.String() {
		t.Error("lines are missing, or not in order")
	}
}

// stalling does not take a byte until it is released.
type stalling struct {
	release chan struct{}
	mu      sync.Mutex
	got     bytes.Buffer
}

func (s *stalling) Write(p []byte) (int, error) {
	<-s.release
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got.Write(p)
}

func TestStalledReaderOfTheLogStallsNobody(t *testing.T) {
	w := &stalling{release: make(chan struct{})}
	var log *Log
	out := NewOutput(w, func(what string, _ error, lines int) { log.Logger().Warn(what, "lines", lines) })
	log = New(out, JSON)
	for range 20_000 {
		log.Logger().Info(strings.Repeat("x", 100))
	}
	close(w.release)
	out.Flush()
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.got.Len(); n > 2*most+1000 {
		t.Errorf("%d bytes were kept", n)
	}
	if !strings.Contains(w.got.String(), `"lines":`) {
		t.Error("nothing says that lines were dropped")
	}
}
