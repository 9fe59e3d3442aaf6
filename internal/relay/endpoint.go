package relay

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

// endpoint is one end of a relayed connection under websocketproxy's hands. It carries messages for it, and does the
// closing handshake by itself.
type endpoint struct {
	Conn
	session *Session
	side    tunnel.Side

	frames   frameReader // what the peer sends
	bytes    atomic.Uint64
	messages atomic.Uint64

	closeOrdered atomic.Pointer[[]byte] // a Close frame of our own, to be written at the next frame boundary
	echo         atomic.Pointer[[]byte] // the answer to the peer's Close frame, for when the other side gives none
	write        sync.Mutex             // held while the peer takes its bytes; guards out
	out          ws.Scanner             // what the peer is sent
	pushes       pushes
	stall        Alarm        // looks after a write that takes long
	moved        atomic.Int64 // when the peer last took some of a write, in nanoseconds on the clock; 0: none is under way

	failed               atomic.Bool   // the peer broke the protocol: its connection ends with our Close frame
	closeSeen, closeSent atomic.Bool   // a Close frame from the peer; and one to it, or a cut: nothing may follow
	over                 chan struct{} // closed when there were both, or when the connection is lost
	overOnce             sync.Once
}

func newEndpoint(s *Session, side tunnel.Side, conn Conn) *endpoint {
	c := &endpoint{
		Conn: conn, session: s, side: side, over: make(chan struct{}),
		out: ws.NewScanner(ws.Role(side == tunnel.Backend), true),
	}
	c.stall = s.clock.Alarm(c.checkStall)
	own := &share{memory: s.options.Memory, over: c.over, end: func() {
		s.end(tunnel.Result{By: tunnel.Proxy, Cause: tunnel.CauseMemory, Code: ws.CloseTryAgain}, memoryReason, farewellTimeout)
	}}
	c.frames = newFrameReader(source{c}, ws.Role(side == tunnel.Client), limits{maxMessage: s.options.MaxMessage, share: own})
	return c
}

func (c *endpoint) traffic() tunnel.Traffic {
	return tunnel.Traffic{Bytes: c.bytes.Load(), Messages: c.messages.Load()}
}

// source is what a peer sends, as it comes.
type source struct{ *endpoint }

func (c source) Read(p []byte) (n int, err error) {
	if n, err = c.Conn.Read(p); n > 0 {
		c.session.touch()
		c.bytes.Add(uint64(n))
	}
	return n, err
}

// errEnded is the end of a stream that is logged as the end of the tunnel. websocketproxy logs any other error.
var errEnded = &websocket.CloseError{Code: websocket.CloseNormalClosure}

func (c *endpoint) Read(p []byte) (int, error) {
	n, err := c.frames.Read(p)
	c.messages.Store(c.frames.scan.Messages())
	if err == nil {
		return n, nil
	}
	if f, ok := errors.AsType[*closeFrame](err); ok {
		c.passClose(f)
		return n, errEnded
	}
	c.frames.limits.share.release()
	if bad, ok := errors.AsType[*frameError](err); ok {
		c.refuse(bad)
		return n, errEnded
	}
	return n, c.lostReading(err)
}

func (c *endpoint) peer() *endpoint {
	if c.side == tunnel.Client {
		return c.session.backend
	}
	return c.session.client
}

// passClose passes the peer's Close frame on. The other side's own is the answer.
func (c *endpoint) passClose(f *closeFrame) {
	code, _ := c.frames.scan.Close()
	c.session.note(tunnel.Result{By: c.side, Cause: tunnel.CauseClose, Code: code})
	c.session.endWithin(c.session.options.CloseTimeout)
	echo := ws.AppendFrame(nil, ws.OpClose, f.payload[:min(2, len(f.payload))], c.mask())
	c.echo.Store(&echo)
	c.session.echoLater(c)
	other := c.peer()
	other.orderClose(ws.AppendFrame(nil, ws.OpClose, f.payload, other.mask()))
	c.sawClose()
}

// violationTimeout is how long a peer that broke the protocol may take to read why it is cut.
const violationTimeout = time.Second

// refuse ends the session of a peer whose stream is not read on.
func (c *endpoint) refuse(bad *frameError) {
	timeout := c.session.options.CloseTimeout
	if bad.cause == tunnel.CauseProtocol {
		timeout = violationTimeout
		c.failed.Store(true)
		if c.closeSent.Load() { // it has been told already
			c.CloseWrite()
		}
	}
	r := tunnel.Result{By: tunnel.Proxy, Cause: bad.cause, Code: bad.code, Err: fmt.Errorf("%s: %w", c.side, bad)}
	c.session.end(r, bad.reason, timeout)
	go c.drain()
}

// drain drops what a peer still sends: left unread, it would make the end a reset, and the peer might lose the Close frame. The
// connection of a peer that broke the protocol is closed as soon as it has answered (RFC 6455, section 7.1.7).
func (c *endpoint) drain() {
	scrap := make([]byte, 4<<10)
	for {
		n, err := c.frames.src.Read(scrap)
		c.frames.scan.Scan(scrap[:n])
		_, closed := c.frames.scan.Close()
		switch {
		case err != nil:
			c.lostReading(err)
		case closed:
			c.sawClose()
		default:
			continue
		}
		if c.failed.Load() && c.closeSent.Load() {
			c.cut()
		}
		return
	}
}

// lost notes that the connection broke, and returns the error that websocketproxy is to see.
func (c *endpoint) lost(err error) error {
	r := tunnel.Result{By: c.side, Cause: tunnel.CauseReset, Code: ws.CloseAbnormal, Err: err}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		r.Cause, r.Err = tunnel.CauseEOF, nil
	}
	first := c.session.note(r)
	c.session.endWithin(c.session.options.CloseTimeout)
	if first && r.Err != nil {
		return err
	}
	return errEnded
}

// lostReading is [endpoint.lost] for the side that nothing more can come from. The other side gets just what happened: no
// Close frame, unless it has been sent one or has sent one.
func (c *endpoint) lostReading(err error) error {
	err = c.lost(err)
	c.isOver()
	c.endPushes()
	switch other := c.peer(); {
	case other.echo.Load() != nil:
		other.orderClose(*other.echo.Load())
	case other.closeOrdered.Load() == nil:
		other.cut()
	}
	return err
}

func (c *endpoint) Write(p []byte) (int, error) {
	c.write.Lock()
	defer c.write.Unlock()
	err := c.writeOrdered()
	if err == nil && !c.closeSent.Load() {
		if err = c.put(p); err == nil {
			if err = c.writeOrdered(); err == nil {
				err = c.writePushes()
			}
		}
	}
	if err != nil {
		return 0, c.lost(err)
	}
	return len(p), nil
}

// orderClose has a Close frame written at the next frame boundary; the first order counts. It returns at once, whether the
// peer takes the bytes or not.
func (c *endpoint) orderClose(frame []byte) {
	if !c.closeOrdered.CompareAndSwap(nil, &frame) {
		return
	}
	go func() {
		c.write.Lock()
		defer c.write.Unlock()
		if err := c.writeOrdered(); err != nil {
			c.lost(err)
		}
	}()
}

// writeOrdered writes the Close frame that was ordered, if this is the place for it.
func (c *endpoint) writeOrdered() error {
	frame := c.closeOrdered.Load()
	if frame == nil || c.closeSent.Load() || !c.out.AtBoundary() {
		return nil
	}
	return c.put(*frame)
}

func (c *endpoint) put(p []byte) error {
	if err := c.push(p); err != nil {
		c.endPushes()
		return err
	}
	c.session.touch()
	c.out.Scan(p)
	if _, closed := c.out.Close(); closed {
		c.closeSent.Store(true)
		c.endPushes()
		if c.failed.Load() {
			c.CloseWrite()
		}
		c.checkOver()
	}
	return nil
}

func (c *endpoint) sawClose() {
	c.closeSeen.Store(true)
	c.checkOver()
}

func (c *endpoint) checkOver() {
	if c.closeSeen.Load() && c.closeSent.Load() {
		c.isOver()
	}
}

func (c *endpoint) isOver() { c.overOnce.Do(func() { close(c.over) }) }

// mask returns a fresh mask for a frame to a backend, nil for one to a client.
func (c *endpoint) mask() *[4]byte {
	if c.side == tunnel.Client {
		return nil
	}
	mask := new([4]byte)
	rand.Read(mask[:])
	return mask
}

// Close leaves the connection open: the session closes it when the closing handshake is over.
func (c *endpoint) Close() error { return nil }

// SetDeadline and SetWriteDeadline do nothing: a peer that is slow to take a pong is no failure, and the session bounds
// the closing handshake.
func (c *endpoint) SetDeadline(time.Time) error      { return nil }
func (c *endpoint) SetWriteDeadline(time.Time) error { return nil }

// cut closes the connection.
func (c *endpoint) cut() {
	c.closeSent.Store(true)
	c.endPushes()
	c.isOver()
	c.Conn.Close()
}
