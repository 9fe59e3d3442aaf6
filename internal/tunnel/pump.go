package tunnel

import (
	"crypto/rand"
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

// Payloads with at least spliceMin bytes to come move inside the kernel, spliceChunk at a time so that
// activity shows.
const (
	spliceMin   = 64 << 10
	spliceChunk = 1 << 20
)

// direction moves bytes from src to dst. All but the atomics belong to its pump.
type direction struct {
	from     Side
	src, dst net.Conn
	early    []byte
	scan     ws.Scanner
	closed   bool // a Close frame of our own went to dst: nothing may follow it

	bytes, messages atomic.Uint64
	opaque          atomic.Bool
	closeSeen       atomic.Bool
}

func (d *direction) traffic() Traffic {
	return Traffic{Bytes: d.bytes.Load(), Messages: d.messages.Load(), Opaque: d.opaque.Load()}
}

// interrupt wakes the pump from its read.
func (d *direction) interrupt() { d.src.SetReadDeadline(time.Unix(1, 0)) }

func (t *Tunnel) pumpToBackend() { t.pump(&t.toBackend) }

func (t *Tunnel) pumpToClient() { t.pump(&t.toClient) }

func (t *Tunnel) pump(d *direction) {
	defer t.end()
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
		if d.scan.Payload() >= spliceMin && !d.closed {
			if moved, ok := t.splice(d); !ok {
				return
			} else if moved {
				continue
			}
		}
		n, err := d.src.Read(buf.bytes())
		if n > 0 {
			t.touch()
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
func (d *direction) finished() bool { return d.closed && d.closeSeen.Load() }

// pass hands the next bytes on; it reports whether the direction lives on.
func (t *Tunnel) pass(d *direction, p []byte) bool {
	wasOpaque := d.scan.Err() != nil
	boundary := d.scan.Scan(p)
	d.account(t, uint64(len(p)))
	if !wasOpaque && d.scan.Err() != nil {
		d.opaque.Store(true)
	}
	if d.closed {
		return true
	}
	order := t.order.Load()
	if order != nil && boundary >= 0 {
		p = p[:boundary]
	}
	if len(p) > 0 {
		if _, err := d.dst.Write(p); err != nil {
			t.lost(d.to(), err)
			return false
		}
	}
	if order != nil && boundary >= 0 {
		return t.sendClose(d, order)
	}
	return true
}

// account counts bytes that came from src and notes a Close frame among them.
func (d *direction) account(t *Tunnel, n uint64) {
	d.bytes.Add(n)
	d.messages.Store(d.scan.Messages())
	if code, ok := d.scan.Close(); ok && !d.closeSeen.Load() {
		t.note(Result{By: d.from, Cause: CauseClose, Code: code})
		d.closeSeen.Store(true)
		t.hurry()
	}
}

// splice moves part of the current payload inside the kernel, where both ends allow it.
func (t *Tunnel) splice(d *direction) (moved, ok bool) {
	dst, isTCP := d.dst.(*net.TCPConn)
	if !isTCP || !canSplice(d.src) {
		return false, true
	}
	n, err := dst.ReadFrom(&io.LimitedReader{R: d.src, N: int64(min(d.scan.Payload(), spliceChunk))})
	if n > 0 {
		t.touch()
		d.scan.Skip(uint64(n))
		d.account(t, uint64(n))
	}
	switch {
	case err != nil:
		return true, t.spliceFailed(d, err)
	case n == 0:
		return false, true // the end of the stream: the next read says so
	}
	return true, true
}

// spliceFailed tells a broken dst from a broken src as far as the kernel's one call lets on.
func (t *Tunnel) spliceFailed(d *direction, err error) bool {
	if errors.Is(err, syscall.EPIPE) {
		t.lost(d.to(), err)
		return false
	}
	return t.readFailed(d, err)
}

// readFailed deals with the end of src: an interruption, a FIN or a failure. It reports whether the direction
// lives on.
func (t *Tunnel) readFailed(d *direction, err error) bool {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return t.interrupted(d)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		if !d.closeSeen.Load() {
			t.note(Result{By: d.from, Cause: CauseEOF, Code: ws.CloseAbnormal})
		}
		closeWrite(d.dst)
		return false
	}
	t.lost(d.from, err)
	return false
}

// interrupted obeys a close order: at once where the stream stands between frames, else with
// the bytes that complete the frame.
func (t *Tunnel) interrupted(d *direction) bool {
	order := t.order.Load()
	if order == nil {
		return true
	}
	d.src.SetReadDeadline(time.Time{})
	if d.closed {
		return true
	}
	if d.scan.Err() != nil || d.closeSeen.Load() {
		// No frame can be put into this stream any more; its end is all the news there is.
		closeWrite(d.dst)
		return false
	}
	if d.scan.AtBoundary() {
		return t.sendClose(d, order)
	}
	return true
}

// sendClose puts a Close frame into the stream; from here on src is only read for its answer.
func (t *Tunnel) sendClose(d *direction, order *closeOrder) bool {
	if d.closeSeen.Load() {
		return true
	}
	var mask *[4]byte
	if d.to() == Backend {
		mask = new([4]byte)
		rand.Read(mask[:])
	}
	if _, err := d.dst.Write(ws.AppendClose(nil, order.code, order.reason, mask)); err != nil {
		t.lost(d.to(), err)
		return false
	}
	d.closed = true
	return true
}

func (d *direction) to() Side {
	if d.from == Client {
		return Backend
	}
	return Client
}

// lost ends the whole tunnel because the connection of one side broke. The other side sees a
// reset too, so that it can't take what it has for everything there was.
func (t *Tunnel) lost(side Side, err error) {
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
