package logs

import (
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	delay     = 5 * time.Millisecond // how long lines are collected
	most      = 1 << 20              // bytes that wait for a slow reader at most
	lastDelay = time.Second          // what the last lines are given
	pause     = time.Minute          // between two complaints of one output
)

// Output collects lines, so that a busy server does not make a system call for each, and that a reader who stalls, or a full disk, stalls
// nobody else. Lines beyond 1 MiB are dropped and counted. It is safe for concurrent use.
type Output struct {
	name     string // of the file, or ""
	complain func(what string, err error, lines int)

	mu         sync.Mutex
	w          io.Writer // nil for a file that is not open
	lines      []byte
	spare      []byte
	busy       bool // a goroutine writes, or is about to
	reopen     bool // the file is to be opened again before the next line
	retired    bool // and the file closed when all is written
	dropped    int
	complained time.Time
	idle       chan struct{} // closed when all is written; nil while nobody waits for that
}

// NewOutput returns an output to w. complain, which may write to the output itself, is told of dropped lines and failures, once a minute.
func NewOutput(w io.Writer, complain func(what string, err error, lines int)) *Output {
	return &Output{w: w, complain: complain}
}

// OpenFile returns an output that appends to a file, which it makes with mode 0640 if it is not there. A named pipe that nobody reads is an error.
func OpenFile(name string, complain func(what string, err error, lines int)) (*Output, error) {
	o := &Output{name: name, complain: complain}
	return o, o.open()
}

func (o *Output) open() error {
	file, err := os.OpenFile(o.name, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, 0o640) // which is for pipes
	if err == nil {
		o.w = file
	}
	return err
}

// Write takes a line. It does not wait, and does not fail.
func (o *Output) Write(line []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.lines)+len(line) > most {
		o.dropped++
		return len(line), nil
	}
	o.lines = append(o.lines, line...)
	o.wake()
	return len(line), nil
}

// wake has what waits written soon. It is called with mu held.
func (o *Output) wake() {
	if !o.busy {
		o.busy = true
		time.AfterFunc(delay, o.drain)
	}
}

// Reopen has the file opened again before the next line: it has been moved away, and is to be made anew. Other outputs stay as they are.
func (o *Output) Reopen() {
	if o.name == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reopen = true
	o.wake()
}

// Retire closes the file when all lines are written. Lines that come later still reach it.
func (o *Output) Retire() {
	if o.name == "" {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.retired = true
	o.wake()
}

// Revive ends what Retire began.
func (o *Output) Revive() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.retired = false
}

// drain writes what was collected, until there is nothing more.
func (o *Output) drain() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.lines) > 0 || o.reopen {
		lines, dropped, reopen := o.lines, o.dropped, o.reopen
		o.lines, o.spare, o.dropped, o.reopen = o.spare[:0], nil, 0, false
		o.mu.Unlock()
		o.put(lines, dropped, reopen)
		o.mu.Lock()
		o.spare = lines
		if cap(lines) > most/8 {
			o.spare = nil
		}
	}
	o.busy = false
	if o.retired {
		o.closeFile()
	}
	if o.idle != nil {
		close(o.idle)
		o.idle = nil
	}
}

// put writes lines, on the one goroutine that does. A file that can't be opened again is gone on with.
func (o *Output) put(lines []byte, dropped int, reopen bool) {
	if o.name != "" && (reopen || o.w == nil) {
		old := o.w
		if err := o.open(); err != nil {
			o.tell("opening a log file failed", err, 0)
		} else if old != nil {
			old.(*os.File).Close()
		}
	}
	if o.w == nil {
		return
	}
	if _, err := o.w.Write(lines); err != nil && o.name != "" { // of stderr there is nobody to tell
		o.tell("writing a log file failed", err, 0)
	}
	if dropped > 0 {
		o.tell("lines of the log were dropped: its reader is too slow", nil, dropped)
	}
}

// tell complains, unless it has lately. Dropped lines are always told of.
func (o *Output) tell(what string, err error, lines int) {
	now := time.Now()
	if lines == 0 && now.Sub(o.complained) < pause {
		return
	}
	if lines == 0 {
		o.complained = now
	}
	if err != nil {
		err = fmt.Errorf("access_log: %w", err)
	}
	o.complain(what, err, lines)
}

func (o *Output) closeFile() {
	if file, ok := o.w.(*os.File); ok && o.name != "" {
		file.Close()
		o.w = nil
	}
}

// Flush waits until all lines are written, for a second at most.
func (o *Output) Flush() {
	o.mu.Lock()
	if !o.busy {
		o.mu.Unlock()
		return
	}
	if o.idle == nil {
		o.idle = make(chan struct{})
	}
	idle := o.idle
	o.mu.Unlock()
	select {
	case <-idle:
	case <-time.After(lastDelay):
	}
}
