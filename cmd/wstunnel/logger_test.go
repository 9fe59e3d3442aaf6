package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestLogKeepsItsLinesInOrder(t *testing.T) {
	var got bytes.Buffer
	log, flush := newLogger(&got)
	var want strings.Builder
	for i := range 10_000 {
		log.Info(fmt.Sprint(i))
		fmt.Fprintf(&want, `"msg":"%d"`, i)
		if i%2000 == 0 {
			time.Sleep(2 * logDelay)
		}
	}
	flush()
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
	log, flush := newLogger(io.Writer(w))
	for range 20_000 {
		log.Info(strings.Repeat("x", 100))
	}
	close(w.release)
	flush()
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := w.got.Len(); n > 2*logBuffer+1000 {
		t.Errorf("%d bytes were kept", n)
	}
	if !strings.Contains(w.got.String(), `"lines":`) {
		t.Error("nothing says that lines were dropped")
	}
}
