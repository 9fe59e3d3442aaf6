//go:build linux

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const roleLoad = "load"

// job is a piece of load, as the measuring process hands it to the load process.
type job struct {
	Kind        string
	Address     string // of the proxy
	TLS         bool
	HTTP2       bool // over TLS: each connection carries one request at a time
	Path        string
	Connections int           // closed loops, or tunnels being opened, at a time
	Size        int           // bytes of a message or body
	Duration    time.Duration // of a slice of closed loops
	Tunnels     int           // or connections, to open in a slice, and hold
}

const (
	jobOpen      = "open"      // opens tunnels and holds them
	jobHold      = "hold"      // opens connections, fetches a path once over each, and holds them
	jobEcho      = "echo"      // sends messages and waits for their echoes
	jobGet       = "get"       // fetches a path again and again
	jobHandshake = "handshake" // connects, and leaves after the handshake, again and again
)

func (j job) tunnels(n int) job {
	j.Tunnels = n
	return j
}

func (j job) secure() job {
	j.TLS = true
	return j
}

// overHTTP2 is a job over TLS and HTTP/2.
func (j job) overHTTP2() job {
	j.TLS, j.HTTP2 = true, true
	return j
}

// tally is what a step of a job has done.
type tally struct {
	Count    int // tunnels, round trips or requests
	Seconds  float64
	P50, P99 float64 // microseconds of a round trip or request
	Error    string  `json:",omitempty"`
}

// The steps of a job, as the measuring process asks for them.
const (
	stepPrepare = "prepare" // connect and warm the proxy up
	stepRun     = "run"     // a slice of the work; as often as it is asked for
	stepCheck   = "check"   // that idle tunnels still work
)

// serveLoad reads a job from its standard input, then a step a line, and answers each with a tally. What it
// holds ends with its standard input.
func serveLoad() error {
	lines := json.NewDecoder(os.Stdin)
	var j job
	if err := lines.Decode(&j); err != nil {
		return err
	}
	l := newLoad(j)
	answers := json.NewEncoder(os.Stdout)
	for {
		var step string
		if err := lines.Decode(&step); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		done, err := l.step(step)
		if err != nil {
			done.Error = err.Error()
		}
		if err := answers.Encode(done); err != nil {
			return err
		}
	}
}

type load struct {
	job
	clients []*client
	frame   []byte // what is sent as a message
	echoed  []byte // and what is to come back
}

func newLoad(j job) *load {
	content := payload(j.Size)
	return &load{
		job:    j,
		frame:  append(clientHead(j.Size), content...),
		echoed: append(serverHead(j.Size), content...),
	}
}

func (l *load) step(name string) (tally, error) {
	trip := l.echo
	switch l.Kind {
	case jobGet, jobHold:
		trip = l.get
	case jobHandshake:
		trip = l.comeAndGo
	}
	holds := l.Kind == jobOpen || l.Kind == jobHold
	switch {
	case name == stepCheck:
		return l.checkAll(trip)
	case name == stepRun && holds:
		return l.openMore()
	case name == stepRun:
		return l.loop(l.Duration, trip)
	case holds:
		return l.openOneByOne(trip)
	default:
		return l.connectAndLoop(trip)
	}
}

// openOneByOne brings the proxy's code into memory: tunnels, or connections, that are opened, used and closed again.
func (l *load) openOneByOne(trip func(*client) error) (tally, error) {
	const tunnels = 100
	for range tunnels {
		c, err := l.open()
		if err != nil {
			return tally{}, err
		}
		err = trip(c)
		c.conn.Close()
		if err != nil {
			return tally{}, err
		}
	}
	return tally{Count: tunnels}, nil
}

// open opens what the job holds: a tunnel, or a connection that has fetched something.
func (l *load) open() (*client, error) {
	switch {
	case l.Kind == jobHold:
		c, err := l.connect()
		if err == nil {
			err = l.get(c)
		}
		return c, err
	case l.HTTP2:
		carrier, err := l.connectCarrier()
		if err != nil {
			return nil, err
		}
		return carrier.tunnel(l.Path)
	}
	return l.tunnel()
}

// openMore opens the job's tunnels, several at a time, besides those that are open already.
func (l *load) openMore() (tally, error) {
	opened := make([]*client, l.Tunnels)
	start := time.Now()
	err := l.openAll(opened)
	l.clients = append(l.clients, opened...)
	return tally{Count: l.Tunnels, Seconds: time.Since(start).Seconds()}, err
}

func (l *load) openAll(opened []*client) error {
	if l.HTTP2 && l.Kind == jobOpen {
		return l.openCarried(opened)
	}
	var next atomic.Int64
	return parallel(l.Connections, func(int) error {
		for i := next.Add(1) - 1; i < int64(len(opened)); i = next.Add(1) - 1 {
			c, err := l.open()
			if err != nil {
				return fmt.Errorf("tunnel %d: %w", i+1, err)
			}
			opened[i] = c
		}
		return nil
	})
}

// checkAll shows that each of the tunnels still works.
func (l *load) checkAll(trip func(*client) error) (tally, error) {
	for i, c := range l.clients {
		if err := trip(c); err != nil {
			return tally{}, fmt.Errorf("tunnel %d after its idle time: %w", i+1, err)
		}
	}
	return tally{Count: len(l.clients)}, nil
}

// connectAndLoop connects the job's clients and loops for a while, to warm the proxy up.
func (l *load) connectAndLoop(trip func(*client) error) (tally, error) {
	const warmup = 200 * time.Millisecond
	l.clients = make([]*client, l.Connections)
	err := parallel(l.Connections, func(i int) (err error) {
		switch l.Kind {
		case jobEcho:
			l.clients[i], err = l.tunnel()
		case jobGet:
			l.clients[i], err = l.connect()
		}
		return err
	})
	if err != nil {
		return tally{}, err
	}
	return l.loop(warmup, trip)
}

// loop has every client make one trip after the other. Trips under way at the end are completed and counted.
func (l *load) loop(d time.Duration, trip func(*client) error) (tally, error) {
	latencies := make([][]time.Duration, len(l.clients))
	start := time.Now()
	err := parallel(len(l.clients), func(i int) error {
		for now := start; now.Sub(start) < d; {
			if err := trip(l.clients[i]); err != nil {
				return err
			}
			end := time.Now()
			latencies[i] = append(latencies[i], end.Sub(now))
			now = end
		}
		return nil
	})
	elapsed := time.Since(start)
	all := slices.Concat(latencies...)
	slices.Sort(all)
	if err == nil && len(all) == 0 {
		err = errors.New("no trip was made")
	}
	if err != nil {
		return tally{}, err
	}
	micros := func(permille int) float64 { return float64(all[(len(all)-1)*permille/1000].Nanoseconds()) / 1e3 }
	return tally{Count: len(all), Seconds: elapsed.Seconds(), P50: micros(500), P99: micros(990)}, nil
}

// parallel runs f n times at once and returns the first error of all.
func parallel(n int, f func(i int) error) error {
	errs := make(chan error, n)
	var running sync.WaitGroup
	for i := range n {
		running.Go(func() {
			if err := f(i); err != nil {
				errs <- err
			}
		})
	}
	running.Wait()
	close(errs)
	return <-errs
}
