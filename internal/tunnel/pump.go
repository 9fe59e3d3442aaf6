package tunnel

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"wstunnel/internal/ws"
)

// Buffer sizes of a direction. A quiet tunnel keeps the small one; one that fills it borrows a
// large one until it is quiet again.
const (
	smallBuffer = 2 << 10
	largeBuffer = 32 << 10
)

// direction moves bytes from src to dst. All but the atomics belong to its pump.
type direction struct {
	tunnel   *pumped
	from     Side
	src, dst net.Conn
	early    []byte
	stream
	ordered bool // the order to close has been taken

	mu    sync.Mutex
	inbox []injection // guarded by mu, as is open
	open  bool        // the pump takes what is left for it

	bytes, messages atomic.Uint64
	opaque          atomic.Bool
	closeSeen       atomic.Bool

	heard   atomic.Int64 // when src last sent something
	writing atomic.Bool  // dst is being waited for, and src is not read
	waiting atomic.Bool  // a control frame has no place yet
}

// injection is a frame to be put into a stream, or a pong to be taken out.
type injection struct {
	op    ws.Opcode
	frame []byte
	pong  *pingID
}

func (d *direction) traffic() Traffic {
	return Traffic{Bytes: d.bytes.Load(), Messages: d.messages.Load(), Opaque: d.opaque.Load()}
}

// begin lets others leave things.
func (d *direction) begin() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = true
}

// leave leaves something for the pump to take. It reports false, and drops it, where none runs.
func (d *direction) leave(i injection) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.open {
		d.backlog.Add(-int32(len(i.frame)))
		return false
	}
	d.inbox = append(d.inbox, i)
	if i.op == ws.OpPing {
		d.waiting.Store(true)
	}
	return true
}

// close drops what is left, now and later.
func (d *direction) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.open = false
	for _, i := range d.inbox {
		d.backlog.Add(-int32(len(i.frame)))
	}
	d.inbox = nil
}

func (d *direction) hasEnded() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.open
}

// interrupt wakes the pump from its read.
func (d *direction) interrupt() { d.src.SetReadDeadline(time.Unix(1, 0)) }

func (t *pumped) pumpToBackend() { t.pump(&t.toBackend) }

func (t *pumped) pumpToClient() { t.pump(&t.toClient) }

func (t *pumped) pump(d *direction) {
	defer t.end()
	defer d.close()
	var buf buffer
	defer buf.release()
	if len(d.early) > 0 {
		early := d.early
		d.early = nil
		if !t.pass(d, early) {
			return
		}
	}
	for !d.finished() {
		if d.scan.Payload() >= spliceMin && !d.sealed {
			if moved, ok := t.splice(d); !ok {
				return
			} else if moved {
				if !t.obey(d) {
					return
				}
				continue
			}
		}
		n, err := d.src.Read(buf.bytes())
		if n > 0 {
			d.heard.Store(monotonic())
			if !t.pass(d, buf.bytes()[:n]) {
				return
			}
			buf.fit(n)
		}
		if err != nil && !t.readFailed(d, err) {
			return
		}
	}
}

// finished reports whether a closing handshake of our own has had its answer from src.
func (d *direction) finished() bool { return d.sealed && d.closeSeen.Load() }

// pass hands the next bytes on; it reports whether the direction lives on.
func (t *pumped) pass(d *direction, p []byte) bool {
	t.takeOrders(d)
	passed, err := d.stream.pass(p, d.send)
	d.waiting.Store(d.queued())
	if passed > 0 {
		t.touch()
	}
	d.account(uint64(len(p)))
	if err != nil {
		t.lost(d.to(), err)
		return false
	}
	return true
}

func (d *direction) send(p []byte) error {
	d.noteClose() // before the answer to it can come
	d.writing.Store(true)
	_, err := d.dst.Write(p)
	d.writing.Store(false)
	return err
}

// account counts bytes that came from src and notes a Close frame among them.
func (d *direction) account(n uint64) {
	d.bytes.Add(n)
	d.messages.Store(d.scan.Messages())
	if d.scan.Err() != nil {
		d.opaque.Store(true)
	}
	d.noteClose()
}

// noteClose notes a Close frame that has gone by.
func (d *direction) noteClose() {
	if code, ok := d.scan.Close(); ok && !d.closeSeen.Load() {
		d.tunnel.note(Result{By: d.from, Cause: CauseClose, Code: code})
		d.closeSeen.Store(true)
		d.tunnel.hurry()
	}
}

// splice moves part of the current payload inside the kernel, where both ends allow it.
func (t *pumped) splice(d *direction) (moved, ok bool) {
	dst, isTCP := d.dst.(*net.TCPConn)
	if !isTCP || !canSplice(d.src) {
		return false, true
	}
	if !t.takePipe() {
		return false, true
	}
	defer t.givePipe()
	n, err := dst.ReadFrom(&io.LimitedReader{R: d.src, N: int64(min(d.scan.Payload(), spliceChunk))})
	if n > 0 {
		t.touch()
		d.heard.Store(monotonic())
		d.scan.Skip(uint64(n))
		d.account(uint64(n))
	}
	switch {
	case err != nil:
		return true, t.spliceFailed(d, err)
	case n == 0:
		return false, true // the end of the stream: the next read says so
	}
	return true, true
}

func (t *pumped) takePipe() bool {
	if t.opts.Pipes == nil {
		return true
	}
	select {
	case t.opts.Pipes <- struct{}{}:
		return true
	default:
		return false
	}
}

func (t *pumped) givePipe() {
	if t.opts.Pipes != nil {
		<-t.opts.Pipes
	}
}

// spliceFailed tells a broken dst from a broken src as far as the kernel's one call lets on.
func (t *pumped) spliceFailed(d *direction, err error) bool {
	if errors.Is(err, syscall.EPIPE) {
		t.lost(d.to(), err)
		return false
	}
	return t.readFailed(d, err)
}

// readFailed deals with the end of src: an interruption, a FIN or a failure. It reports whether the direction
// lives on.
func (t *pumped) readFailed(d *direction, err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return t.interrupted(d)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		if !d.closeSeen.Load() {
			t.note(Result{By: d.from, Cause: CauseEOF, Code: ws.CloseAbnormal})
		}
		if err := d.letGo(d.send); err != nil {
			t.lost(d.to(), err)
			return false
		}
		closeWrite(d.dst)
		return false
	}
	t.lost(d.from, err)
	return false
}

// interrupted obeys what an interruption was for.
func (t *pumped) interrupted(d *direction) bool {
	d.src.SetReadDeadline(time.Time{}) // before looking, or a second interruption would be missed
	return t.obey(d)
}

// obey puts the frames that wait into the stream, at once where it stands between frames, else with
// the bytes that complete the frame. It reports whether the direction lives on.
func (t *pumped) obey(d *direction) bool {
	t.takeOrders(d)
	if d.ordered && !d.sealed && d.mute() {
		// No frame can be put into this stream any more; its end is all the news there is.
		closeWrite(d.dst)
		return false
	}
	err := d.putIn(d.send)
	d.waiting.Store(d.queued())
	if err != nil {
		t.lost(d.to(), err)
		return false
	}
	return true
}

// takeOrders moves what others left for the direction into its stream.
func (t *pumped) takeOrders(d *direction) {
	d.mu.Lock()
	inbox := d.inbox
	d.inbox = nil
	d.mu.Unlock()
	for _, i := range inbox {
		if i.pong != nil {
			d.more().pong = i.pong
			continue
		}
		d.inject(i.op, i.frame)
	}
	if order := t.order.Load(); order != nil && !d.ordered {
		d.ordered = true
		d.seal(order.code, order.reason)
	}
}

func (d *direction) to() Side {
	if d.from == Client {
		return Backend
	}
	return Client
}

// lost ends the whole tunnel because the connection of one side broke. The other side sees a
// reset too, so that it can't take what it has for everything there was.
func (t *pumped) lost(side Side, err error) {
	if errors.Is(err, net.ErrClosed) {
		return // our own close, which is not to become a reset
	}
	t.note(Result{By: side, Cause: CauseReset, Code: ws.CloseAbnormal, Err: err})
	other := t.toBackend.dst
	if side == Backend {
		other = t.toBackend.src
	}
	resetOnClose(other)
	t.closeBoth()
}

// buffer is a pump's read buffer: small while the tunnel is quiet.
type buffer struct {
	small [smallBuffer]byte
	large *[largeBuffer]byte
}

var largeBuffers = sync.Pool{New: func() any { return new([largeBuffer]byte) }}

func (b *buffer) bytes() []byte {
	if b.large != nil {
		return b.large[:]
	}
	return b.small[:]
}

// fit chooses the buffer for the next read by what the last one brought.
func (b *buffer) fit(n int) {
	switch {
	case b.large == nil && n == smallBuffer:
		b.large = largeBuffers.Get().(*[largeBuffer]byte)
	case b.large != nil && n < smallBuffer:
		b.release()
	}
}

func (b *buffer) release() {
	if b.large != nil {
		largeBuffers.Put(b.large)
		b.large = nil
	}
}
