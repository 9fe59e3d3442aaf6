package session

import (
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"time"

	"wstunnel/internal/head"
	"wstunnel/internal/http1"
	"wstunnel/internal/http2"
	"wstunnel/internal/reactor"
)

// switchedStall is how long the client of a switched stream may take nothing of what it is sent: as long as TCP lets one of its own.
const switchedStall = 150 * time.Second

// errReset is what the handler of a switched stream is told when the client has reset it.
var errReset = errors.New("the client has reset its stream")

// Switched is a stream over HTTP/2 that carries another protocol from here on (RFC 8441): its client's end of a tunnel. END_STREAM is what a FIN is to a
// connection, and RST_STREAM a reset. It begins paused. What is written first is the head of a 101 over HTTP/1.1, which answers the client with what of
// that is said over HTTP/2.
type Switched struct {
	stream  *stream
	handler reactor.Handler
	wanted  bool   // bytes are to come
	come    []byte // and not read yet
	ended   bool   // the client's stream
	closed  bool
}

// Switch hands over a stream that began with an extended CONNECT. What came of it before is with the [Exchange] that was told.
func Switch(client Stream) *Switched {
	s := client.(*stream)
	w := &Switched{stream: s, ended: s.told}
	s.Pause()
	s.exchange, s.switched, s.request = w, true, nil
	s.session.proto.Switch(s.state)
	s.tunnel = true
	s.session.tunnels++
	return w
}

// Data is a piece of what the client sent.
func (w *Switched) Data(p []byte) {
	w.come = p
	for left := len(p) + 1; len(w.come) > 0 && len(w.come) < left && w.wanted; {
		left = len(w.come)
		w.handler.Readable(nil)
	}
	if len(w.come) > 0 && !w.closed { // the rest is for later
		w.stream.ahead = append(append([]byte(nil), w.come...), w.stream.ahead...)
		w.stream.owed -= len(w.come)
		w.come = nil
	}
}

// Whole says that the client's stream has ended.
func (w *Switched) Whole(head.Fields) {
	w.ended = true
	if w.wanted {
		w.handler.Readable(nil)
	}
}

// Drained says that the client has taken all that was written.
func (w *Switched) Drained() { w.handler.Drained(nil) }

// Gone ends both directions.
func (w *Switched) Gone(err error) {
	w.closed = true
	if errors.Is(err, io.EOF) {
		err = errReset
	}
	w.handler.Failed(nil, err)
}

// Loop returns that of the connection.
func (w *Switched) Loop() *reactor.Loop { return w.stream.Conn().Loop() }

// Do runs f as a callback of the connection.
func (w *Switched) Do(f func()) { w.stream.Conn().Do(f) }

// Handle replaces the handler. Its callbacks are given no connection.
func (w *Switched) Handle(h reactor.Handler) { w.handler = h }

// Addresses returns the connection's.
func (w *Switched) Addresses() (local, remote net.Addr) { return w.stream.Conn().Addresses() }

// Plain is false: what is written goes in frames.
func (w *Switched) Plain() bool { return false }

// SetKeepAlive does nothing: the connection has its own.
func (w *Switched) SetKeepAlive(reactor.KeepAlive) {}

// HungUp reports whether the client has ended its stream, be it behind bytes that are yet to be read.
func (w *Switched) HungUp() bool { return w.closed || w.stream.whole }

// Truncated is false: a stream that is cut short is told by Failed.
func (w *Switched) Truncated() bool { return false }

// Reading reports whether bytes are to come.
func (w *Switched) Reading() bool { return w.wanted }

// Pause stops them.
func (w *Switched) Pause() {
	w.wanted = false
	w.stream.Pause()
}

// Resume lets them come, from the next turn of the loop on.
func (w *Switched) Resume() {
	if w.wanted || w.closed {
		return
	}
	w.wanted = true
	if !w.stream.paused && !w.ended {
		return
	}
	w.Loop().Post(func() { w.Do(w.resume) })
}

func (w *Switched) resume() {
	switch {
	case !w.wanted || w.closed:
	case w.stream.paused:
		w.stream.Resume()
	case w.ended:
		w.handler.Readable(nil)
	}
}

// Read returns what has come, and io.EOF at the end of the client's stream.
func (w *Switched) Read() ([]byte, error) { return w.ReadUpTo(maxAhead) }

// ReadUpTo is a Read of n bytes at most.
func (w *Switched) ReadUpTo(n int) ([]byte, error) {
	switch {
	case w.closed:
		return nil, net.ErrClosed
	case len(w.come) == 0 && w.ended:
		return nil, io.EOF
	}
	n = min(n, len(w.come))
	p := w.come[:n:n]
	w.come = w.come[n:]
	return p, nil
}

// Write sends p. What the client does not take at once is kept, without a bound: whoever writes is to stop while Pending is not zero.
func (w *Switched) Write(p []byte) error {
	if w.closed {
		return net.ErrClosed
	}
	if !w.stream.responded {
		return w.answer(p)
	}
	w.stream.Write(p)
	return nil
}

// answer answers the client with the head of a 101 (RFC 8441, section 5).
func (w *Switched) answer(switching []byte) error {
	var d http1.ResponseDecoder
	d.Expect(http.MethodGet)
	n, event, err := d.Next(switching)
	if err != nil || event != http1.Head || n != len(switching) || d.Response.Status != http.StatusSwitchingProtocols {
		return errors.Join(errors.New("a stream was to be answered with something else than a 101"), err)
	}
	fields := slices.DeleteFunc(d.Response.Fields, func(f head.Field) bool { return f.ID == head.SecWebSocketAccept })
	w.stream.Respond(&head.Response{Status: http.StatusOK, Fields: fields, Length: head.Unknown})
	return nil
}

// Pending returns how many bytes the client has yet to take.
func (w *Switched) Pending() int {
	if w.closed {
		return 0
	}
	return w.stream.Pending()
}

// Taken is not known: the system counts for the whole connection.
func (w *Switched) Taken() (taken, onTheWay uint64, known bool) { return 0, uint64(w.Pending()), false }

// WaitWritable asks for nothing: only a splice needs to.
func (w *Switched) WaitWritable() {}

// CloseWrite ends the stream to the client behind all that was written.
func (w *Switched) CloseWrite() {
	s := w.stream
	if w.closed || s.answered || !s.responded {
		return
	}
	s.answered = true
	if len(s.queue) == 0 {
		s.finish()
	}
}

// Close ends the stream. What is pending is lost, of which the client is told by a reset.
func (w *Switched) Close() error {
	if w.closed {
		return nil
	}
	code := http2.NoError
	if w.CloseWrite(); len(w.stream.queue) > 0 || !w.stream.responded {
		code = http2.Cancel
	}
	w.end(code)
	return nil
}

// Reset ends the stream such that the client can't take what it has for all there was.
func (w *Switched) Reset() {
	if !w.closed {
		w.end(http2.Cancel)
	}
}

func (w *Switched) end(code http2.Code) {
	w.closed, w.wanted = true, false
	s := w.stream
	s.drop()
	if s.session.phase != gone {
		s.session.cork()
		s.session.proto.Reset(s.state, code)
	}
}
