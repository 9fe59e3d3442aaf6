package relay

import (
	"net"
	"sync"
	"sync/atomic"
	"time"

	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

// Conn is one end of a relayed connection. Its Close returns at once.
type Conn interface {
	net.Conn
	// CloseWrite ends the stream to the peer behind what was written.
	CloseWrite() error
	// HungUp reports whether the peer has ended its stream, be it behind bytes that are yet to be read. It waits for nobody.
	HungUp() bool
}

// Options of a session.
type Options struct {
	// Memory is what its messages take their share of.
	Memory *Memory
	// MaxMessage is how many bytes a message may have, once it is inflated.
	MaxMessage uint64
	// IdleTimeout ends a session in which no byte moved for so long. Zero: never.
	IdleTimeout time.Duration
	// StallTimeout ends a session of which one side has taken nothing of what it is sent for so long.
	StallTimeout time.Duration
	// CloseTimeout bounds the closing handshake, whoever starts it.
	CloseTimeout time.Duration
}

// Session is one relayed connection. Its methods are safe for concurrent use.
type Session struct {
	client, backend *endpoint
	ended           func(tunnel.Result)
	options         Options
	clock           Clock
	idle            Alarm
	lastActive      atomic.Int64 // nanoseconds on the clock

	mu     sync.Mutex
	result tunnel.Result // what ended the session first
	known  bool
	stop   Alarm // closes both ends
	late   Alarm // answers a Close frame that the other side has not answered
}

// New makes a session of two connections, which it owns; [Session.Start] sets it going.
func New(client, backend Conn, options Options) *Session {
	s := &Session{options: options, clock: options.Memory.Clock}
	s.idle = s.clock.Alarm(s.checkIdle)
	s.touch()
	s.client, s.backend = newEndpoint(s, tunnel.Client, client), newEndpoint(s, tunnel.Backend, backend)
	return s
}

// Stats returns what has gone through so far.
func (s *Session) Stats() tunnel.Stats {
	return tunnel.Stats{
		ToBackend: s.client.traffic(), ToClient: s.backend.traffic(),
		Idle: s.clock.Elapsed() - time.Duration(s.lastActive.Load()),
	}
}

func (s *Session) touch() { s.lastActive.Store(int64(s.clock.Elapsed())) }

// watchIdle starts the idle timer.
func (s *Session) watchIdle() {
	s.touch()
	if s.options.IdleTimeout > 0 {
		s.idle.Set(s.options.IdleTimeout)
	}
}

func (s *Session) checkIdle() {
	if rest := s.options.IdleTimeout - (s.clock.Elapsed() - time.Duration(s.lastActive.Load())); rest > 0 {
		s.idle.Set(rest)
		return
	}
	s.Close(ws.CloseGoingAway, "idle timeout", tunnel.CauseIdle, s.options.CloseTimeout)
}

// note keeps the first reason for the end. It reports whether this is it.
func (s *Session) note(r tunnel.Result) (first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known {
		return false
	}
	s.result, s.known = r, true
	return true
}

// Close puts a Close frame into both directions at the next frame boundary.
func (s *Session) Close(code uint16, reason string, cause tunnel.Cause, timeout time.Duration) {
	s.end(tunnel.Result{By: tunnel.Proxy, Cause: cause, Code: code}, reason, timeout)
}

// Drain is a Close for the end of the server.
func (s *Session) Drain(code uint16, reason string, timeout time.Duration) {
	s.Close(code, reason, tunnel.CauseDrain, timeout)
}

// end begins the closing handshake with both sides.
func (s *Session) end(r tunnel.Result, reason string, timeout time.Duration) {
	s.note(r)
	s.endWithin(timeout)
	for _, c := range []*endpoint{s.client, s.backend} {
		c.orderClose(ws.AppendClose(nil, r.Code, reason, c.mask()))
	}
}

// endWithin bounds the rest of the session's life. Whatever begins its end calls it; the first call counts.
func (s *Session) endWithin(timeout time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stop == nil {
		s.stop = s.clock.Alarm(s.closeBoth)
		s.stop.Set(timeout)
	}
}

// echoLater answers a side's Close frame itself, unless the other side, which may still be sending, does so in half the time. The first
// call counts.
func (s *Session) echoLater(c *endpoint) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.late == nil {
		s.late = s.clock.Alarm(func() { c.orderClose(*c.echo.Load()) })
		s.late.Set(s.options.CloseTimeout / 2)
	}
}

func (s *Session) closeBoth() {
	for _, c := range []*endpoint{s.client, s.backend} {
		c.cut()
	}
}

// finish waits until no more is to come from either side, closes both and returns how the session ended. websocketproxy
// returns as soon as one side has ended.
func (s *Session) finish() tunnel.Result {
	defer s.idle.Stop()
	defer s.backend.frames.limits.share.leave()
	defer s.client.frames.limits.share.leave()
	s.endWithin(s.options.CloseTimeout)
	<-s.client.over
	<-s.backend.over
	s.closeBoth()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stop.Stop()
	if s.late != nil {
		s.late.Stop()
	}
	r := s.result
	if !s.known {
		r = tunnel.Result{By: tunnel.Proxy, Cause: tunnel.CauseReset, Code: ws.CloseAbnormal}
	}
	r.ToBackend, r.ToClient = s.client.traffic(), s.backend.traffic()
	return r
}
