package proxy

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/reactor"
	"wstunnel/internal/upstream"
)

// While php-fpm is started anew, what it was not asked, or can be asked again, waits.
const (
	restartPatience = 2 * time.Second // for somebody to listen again
	restartPause    = 50 * time.Millisecond
	restartMemory   = 10 * time.Second // after which a listener that is missing is another one
	maxRepeats      = 2                // of a request under which a connection broke
	shortRun        = time.Second      // a run that broke sooner is repeated more than once
)

// maxComplaints is how much of what a script complains of is logged, in bytes.
const maxComplaints = 8 << 10

// php has a script run by an application over FastCGI, and its answer carried back.
type php struct {
	delivery
	script  meaning
	timer   reactor.Timer // until it is asked again
	asked   time.Duration // when it was last, on the loop's clock
	repeats int

	complaints []byte // that are yet to be logged
	complained int    // bytes, in all
}

func newPHP(x *exchange, script meaning) *php {
	p := &php{script: script}
	p.exchange, p.upstream = x, x.location.php.Upstream
	p.timer.On = p
	return p
}

// serve begins. Applications go by CONTENT_LENGTH: a body whose length is not known is taken whole first.
func (x *php) serve() {
	x.upload.measured = x.in.Request.Length == head.Unknown
	x.takeIn(x)
}

// start begins with the application whose turn it is.
func (x *php) start() { x.ask(x.client.Worker().Fields[:0]) }

// ask asks an application, with parameters made in dst.
func (x *php) ask(dst head.Fields) {
	x.asked = x.client.Conn().Loop().Now()
	length := x.in.Request.Length
	if length != 0 {
		length = x.upload.knownLength()
	}
	out := head.Request{
		Method: x.in.Request.Method, Length: length, Close: x.upstream.Target.KeepAlive == 0, Fields: appendParams(dst, x.exchange, x.script, length),
	}
	x.send(out, dst, x, upstream.Needs{MaxIdle: x.maxIdle(out.Close)})
}

// Connected sends the request.
func (x *php) Connected(b *upstream.Conn) {
	x.location.php.connected()
	x.deliver(b, x)
}

// Unreachable waits for a moment where nobody listens. Nothing was asked yet.
func (x *php) Unreachable(err error) {
	isAway := errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ENOENT) || errors.Is(err, syscall.ECONNRESET)
	if isAway && x.location.php.mayComeBack(x.server.clock.Elapsed()) {
		x.askLater()
		return
	}
	x.fail(err)
}

func (x *php) askLater() { x.client.Conn().Loop().Set(&x.timer, restartPause) }

// Expired asks again.
func (x *php) Expired() {
	x.client.Conn().Do(func() {
		if !x.over {
			x.ask(nil)
		}
	})
}

// Complained takes what the script has for the log.
func (x *php) Complained(p []byte) {
	room := max(0, maxComplaints-x.complained)
	x.complained += len(p)
	x.complaints = append(x.complaints, p[:min(len(p), room)]...)
}

// Caught sends on what came, and logs what was complained of.
func (x *php) Caught() {
	x.reply.Caught()
	x.logComplaints()
}

func (x *php) logComplaints() {
	if len(x.complaints) == 0 {
		return
	}
	x.server.log.Warn("php", "site", x.site.name, "script", x.scriptFile(), "target", x.in.Target, "message", strings.TrimSpace(string(x.complaints)))
	x.complaints = x.complaints[:0]
}

// scriptFile is the script's name for the application.
func (x *php) scriptFile() string { return x.location.Directory() + "/" + x.script.name }

// Answered takes the head of the answer. It may name a file that is to be sent instead.
func (x *php) Answered(r *head.Response) {
	x.backend.NoteAnswer(r)
	at, name, err := x.namedFile(r.Fields)
	switch {
	case err != nil:
		x.fail(err)
	case at != nil:
		x.leave()
		x.location = at
		file := &download{search: search{x: x.exchange, named: name}, said: r.Fields}
		x.responder = file
		file.serve()
		x.client.Resume()
	default:
		r.Fields = withoutOrders(r.Fields)
		x.pass(r)
	}
}

// Broke deals with an application that broke off.
func (x *php) Broke(err error) {
	backend := x.backend
	x.backend = nil
	backend.Close()
	isSilent := !backend.Began() && !errors.Is(err, os.ErrDeadlineExceeded)
	switch {
	case x.client.Responded():
		x.breakOff(err)
		x.upload.drop()
	case isSilent && x.repeatable() && backend.Reused():
		x.stale = true
		x.upload.rewind()
		x.ask(nil)
	case isSilent && backend.Reused(): // no fault of the application's
		x.fail(fmt.Errorf("running %s: %w", x.scriptFile(), err))
	case isSilent && x.repeatable() && x.mayRepeat():
		x.way.Broke(err)
		x.repeats++
		x.upload.rewind()
		x.askLater()
	default:
		x.way.Broke(err)
		x.fail(fmt.Errorf("running %s: %w", x.scriptFile(), err))
	}
}

// mayRepeat reports whether a request is repeated under which an application ended without a word: it may have been stopped, or the script may be what ends it.
func (x *php) mayRepeat() bool {
	took := x.client.Conn().Loop().Now() - x.asked
	return x.repeats == 0 || x.repeats < maxRepeats && took < shortRun
}

// leave lets go of the application, and of what is kept.
func (x *php) leave() {
	x.logComplaints()
	if lost := x.complained - maxComplaints; lost > 0 {
		x.server.log.Warn("php complained of more", "script", x.scriptFile(), "bytes", lost)
		x.complained = 0
	}
	x.client.Conn().Loop().Stop(&x.timer)
	x.delivery.leave()
}

// application is what runs a location's scripts.
type application struct {
	*upstream.Upstream
	mu           sync.Mutex
	missed, last time.Duration // since when, and when last, nobody listened, on the clock; zero where somebody does
}

// connected notes that somebody listens.
func (a *application) connected() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.missed = 0
}

// mayComeBack notes that nobody listens, and reports whether it was so for a moment only.
func (a *application) mayComeBack(now time.Duration) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.missed == 0 || now-a.last > restartMemory {
		a.missed = now
	}
	a.last = now
	return now-a.missed < restartPatience
}
