package proxy

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"

	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

// relayConn is one end of a relayed connection under websocketproxy's hands. It carries messages for it, and does the
// closing handshake by itself.
type relayConn struct {
	net.Conn
	session *relaySession
	side    tunnel.Side

	early    []byte
	frames   frameReader // what the peer sends
	bytes    atomic.Uint64
	messages atomic.Uint64

	ordered atomic.Pointer[[]byte] // a Close frame of our own, to be written at the next frame boundary
	echo    atomic.Pointer[[]byte] // the answer to the peer's Close frame, for when the other side gives none
	write   sync.Mutex             // held while the peer takes its bytes; guards out
	out     ws.Scanner             // what the peer is sent
	stall   *time.Timer            // looks after a write that takes long
	moved   atomic.Int64           // when the peer last took some of a write, in nanoseconds since the session began; 0: none is under way

	failed     atomic.Bool   // the peer broke the protocol: its connection ends with our Close frame
	seen, sent atomic.Bool   // a Close frame from the peer; and one to it, or a cut: nothing may follow
	over       chan struct{} // closed when there were both, or when the connection is lost
	overOnce   sync.Once
}

func newRelayConn(s *relaySession, side tunnel.Side, end tunnel.End) *relayConn {
	c := &relayConn{
		Conn: end.Conn, session: s, side: side, early: end.Early, over: make(chan struct{}),
		out: ws.NewScanner(ws.Role(side == tunnel.Backend), true),
	}
	c.stall = time.AfterFunc(math.MaxInt64, c.checkStall)
	share := &relayShare{memory: s.memory, over: c.over, end: func() {
		s.end(tunnel.Result{By: tunnel.Proxy, Cause: tunnel.CauseMemory, Code: ws.CloseTryAgain}, memoryReason, farewellTimeout)
	}}
	limits := relayLimits{maxMessage: s.maxMessage, share: share}
	c.frames = newFrameReader(relaySource{c}, ws.Role(side == tunnel.Client), limits)
	return c
}

// expectDeflate says whether the client has permessage-deflate, before the first frame.
func (c *relayClient) expectDeflate(deflate bool) {
	c.frames.expectDeflate(deflate)
	if deflate {
		c.session.backend.frames.limits.toll = deflaterMemory
	}
}

func (c *relayConn) traffic() tunnel.Traffic {
	return tunnel.Traffic{Bytes: c.bytes.Load(), Messages: c.messages.Load()}
}

// relaySource is what a peer sends, as it comes.
type relaySource struct{ *relayConn }

func (c relaySource) Read(p []byte) (n int, err error) {
	if len(c.early) > 0 {
		n = copy(p, c.early)
		c.relayConn.early = c.early[n:]
	} else {
		n, err = c.Conn.Read(p)
	}
	if n > 0 {
		c.session.touch()
		c.bytes.Add(uint64(n))
	}
	return n, err
}

// errRelayEnded is the end of a stream that is logged as the end of the tunnel. websocketproxy logs any other error.
var errRelayEnded = &websocket.CloseError{Code: websocket.CloseNormalClosure}

func (c *relayConn) Read(p []byte) (int, error) {
	n, err := c.frames.Read(p)
	c.messages.Store(c.frames.scan.Messages())
	if err == nil {
		return n, nil
	}
	if f, ok := errors.AsType[*closeFrame](err); ok {
		c.passClose(f)
		return n, errRelayEnded
	}
	c.frames.limits.share.release()
	if bad, ok := errors.AsType[*frameError](err); ok {
		c.refuse(bad)
		return n, errRelayEnded
	}
	return n, c.lostReading(err)
}

func (c *relayConn) peer() *relayConn {
	if c.side == tunnel.Client {
		return c.session.backend
	}
	return c.session.client
}

// echoDelay is how long the answer to a Close frame is left to the other side, which may still be sending.
const echoDelay = closeTimeout / 2

// passClose passes the peer's Close frame on. The other side's own is the answer.
func (c *relayConn) passClose(f *closeFrame) {
	code, _ := c.frames.scan.Close()
	c.session.note(tunnel.Result{By: c.side, Cause: tunnel.CauseClose, Code: code})
	c.session.endWithin(closeTimeout)
	echo := ws.AppendFrame(nil, ws.OpClose, f.payload[:min(2, len(f.payload))], c.mask())
	c.echo.Store(&echo)
	c.session.echoLater(c)
	other := c.peer()
	other.order(ws.AppendFrame(nil, ws.OpClose, f.payload, other.mask()))
	c.sawClose()
}

// violationTimeout is how long a peer that broke the protocol may take to read why it is cut.
const violationTimeout = time.Second

// refuse ends the session of a peer whose stream is not read on.
func (c *relayConn) refuse(bad *frameError) {
	timeout := closeTimeout
	if bad.cause == tunnel.CauseProtocol {
		timeout = violationTimeout
		c.failed.Store(true)
	}
	r := tunnel.Result{By: tunnel.Proxy, Cause: bad.cause, Code: bad.code, Err: fmt.Errorf("%s: %w", c.side, bad)}
	c.session.end(r, bad.reason, timeout)
	go c.drain()
}

// drain drops what a peer still sends: left unread, it would make the end a reset, and the peer might lose the Close frame. The
// connection of a peer that broke the protocol is closed as soon as it has answered (RFC 6455, section 7.1.7).
func (c *relayConn) drain() {
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
		if c.failed.Load() && c.sent.Load() {
			c.cut()
		}
		return
	}
}

// lost notes that the connection broke, and returns the error that websocketproxy is to see.
func (c *relayConn) lost(err error) error {
	r := tunnel.Result{By: c.side, Cause: tunnel.CauseReset, Code: ws.CloseAbnormal, Err: err}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		r.Cause, r.Err = tunnel.CauseEOF, nil
	}
	first := c.session.note(r)
	c.session.endWithin(closeTimeout)
	if first && r.Err != nil {
		return err
	}
	return errRelayEnded
}

// lostReading is [relayConn.lost] for the side that nothing more can come from. The other side gets just what happened: no
// Close frame, unless it has been sent one or has sent one.
func (c *relayConn) lostReading(err error) error {
	err = c.lost(err)
	c.isOver()
	switch other := c.peer(); {
	case other.echo.Load() != nil:
		other.order(*other.echo.Load())
	case other.ordered.Load() == nil:
		other.cut()
	}
	return err
}

func (c *relayConn) Write(p []byte) (int, error) {
	c.write.Lock()
	defer c.write.Unlock()
	err := c.obey()
	if err == nil && !c.sent.Load() {
		if err = c.put(p); err == nil {
			err = c.obey()
		}
	}
	if err != nil {
		return 0, c.lost(err)
	}
	return len(p), nil
}

// order has a Close frame written at the next frame boundary; the first order counts. It returns at once, whether the
// peer takes the bytes or not.
func (c *relayConn) order(frame []byte) {
	if !c.ordered.CompareAndSwap(nil, &frame) {
		return
	}
	go func() {
		c.write.Lock()
		defer c.write.Unlock()
		if err := c.obey(); err != nil {
			c.lost(err)
		}
	}()
}

// obey writes the Close frame that was ordered, if this is the place for it.
func (c *relayConn) obey() error {
	frame := c.ordered.Load()
	if frame == nil || c.sent.Load() || !c.out.AtBoundary() {
		return nil
	}
	return c.put(*frame)
}

func (c *relayConn) put(p []byte) error {
	if err := c.push(p); err != nil {
		return err
	}
	c.session.touch()
	c.out.Scan(p)
	if _, closed := c.out.Close(); closed {
		c.sent.Store(true)
		if c.failed.Load() {
			endStream(c.Conn)
		}
		c.checkOver()
	}
	return nil
}

func (c *relayConn) sawClose() {
	c.seen.Store(true)
	c.checkOver()
}

func (c *relayConn) checkOver() {
	if c.seen.Load() && c.sent.Load() {
		c.isOver()
	}
}

func (c *relayConn) isOver() { c.overOnce.Do(func() { close(c.over) }) }

// mask returns a fresh mask for a frame to a backend, nil for one to a client.
func (c *relayConn) mask() *[4]byte {
	if c.side == tunnel.Client {
		return nil
	}
	mask := new([4]byte)
	rand.Read(mask[:])
	return mask
}

// endStream tells a peer that nothing more comes.
func endStream(conn net.Conn) {
	if secure, ok := conn.(*tls.Conn); ok {
		secure.CloseWrite()
		conn = socketUnder(secure)
	}
	if half, ok := conn.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}

// Close leaves the connection open: the session closes it when the closing handshake is over.
func (c *relayConn) Close() error { return nil }

// SetDeadline and SetWriteDeadline do nothing: a peer that is slow to take a pong is no failure, and the session bounds
// the closing handshake.
func (c *relayConn) SetDeadline(time.Time) error      { return nil }
func (c *relayConn) SetWriteDeadline(time.Time) error { return nil }

// alertTimeout is how long a peer may take to accept the alert that ends its TLS connection.
const alertTimeout = time.Second

// cut closes the connection. It returns at once.
func (c *relayConn) cut() {
	c.sent.Store(true)
	c.isOver()
	go func() {
		if secure, ok := c.Conn.(*tls.Conn); ok {
			hard := time.AfterFunc(alertTimeout, func() { secure.NetConn().Close() })
			defer hard.Stop()
		}
		c.Conn.Close()
	}()
}
