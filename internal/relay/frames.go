package relay

import (
	"bufio"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"unicode/utf8"

	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

// A message above inflateFree must not inflate to more than maxInflation times its size.
const (
	inflateFree  = 1 << 20
	maxInflation = 100
)

// frameReader reads what a peer sends, frame by frame, so that websocketproxy sees only what it can be trusted with: the
// frames keep to RFC 6455, messages to the location's max_message and to the relays' memory, and compressed messages (RFC 7692,
// without context takeover) come as plain ones. A Close frame is not handed on but is the error that ends the stream, a [closeFrame].
type frameReader struct {
	src     *bufio.Reader
	role    ws.Role
	scan    ws.Scanner // has seen what was handed on, not what src holds
	deflate bool       // permessage-deflate was agreed on
	limits  limits

	ready      bytes.Buffer // headers and short frames to be read
	left       uint64       // payload bytes of a plain frame that pass through after ready
	size       uint64       // of the current message so far
	opcode     ws.Opcode    // of the compressed message under way; OpContinuation while there is none
	compressed []byte       // its payload so far
	inflating  *inflater    // set once it is complete and while it is being read
}

// limits bound the messages of one direction.
type limits struct {
	maxMessage uint64
	share      *share
	toll       int64 // memory that a message takes whatever its size
}

func newFrameReader(src io.Reader, role ws.Role, limits limits) frameReader {
	return frameReader{src: bufio.NewReader(src), role: role, scan: ws.NewScanner(role, false), limits: limits}
}

// expectDeflate says, before the first frame, whether permessage-deflate was agreed on.
func (f *frameReader) expectDeflate(deflate bool) {
	f.scan, f.deflate = ws.NewScanner(f.role, deflate), deflate
}

// closeFrame is a peer's Close frame, by its unmasked payload.
type closeFrame struct{ payload []byte }

func (e *closeFrame) Error() string { return "close frame" }

// frameError is why a peer's stream is not read on, with the Close code that says so.
type frameError struct {
	code   uint16
	cause  tunnel.Cause
	reason string
}

func (e *frameError) Error() string { return e.reason }

func violation(err error) error {
	return &frameError{ws.CloseProtocolError, tunnel.CauseProtocol, err.Error()}
}

func (l *limits) tooBig() error {
	return &frameError{ws.CloseTooBig, tunnel.CauseTooBig, fmt.Sprintf("message above %d bytes", l.maxMessage)}
}

// take takes memory for a message with so many bytes, plain and compressed ones.
func (l *limits) take(plain, compressed uint64) error {
	need := l.toll
	if plain+compressed > granted {
		need += plainCopies*int64(plain) + compressedCopies*int64(compressed)
	}
	return l.share.grow(need)
}

// Bits of the first two bytes of a frame header (RFC 6455, section 5.2).
const (
	finBit   = 0x80
	rsv1Bit  = 0x40
	rsv2Bits = 0x30 // and RSV3
	maskBit  = 0x80
)

func (f *frameReader) Read(p []byte) (int, error) {
	for {
		var err error
		switch {
		case f.ready.Len() > 0:
			return f.ready.Read(p)
		case f.left > 0:
			return f.pass(p)
		case f.inflating != nil:
			err = f.nextPlain()
		default:
			err = f.nextFrame()
		}
		if err != nil {
			return 0, err
		}
	}
}

// pass hands on the payload of a plain frame.
func (f *frameReader) pass(p []byte) (int, error) {
	if err := f.limits.take(f.size-f.left+min(f.left, uint64(len(p))), 0); err != nil {
		return 0, err
	}
	n, err := f.src.Read(p[:min(uint64(len(p)), f.left)])
	if n > 0 {
		f.left -= uint64(n)
		f.scan.Skip(uint64(n))
	}
	return n, err
}

// nextFrame reads a frame header and decides what becomes of its frame. Between two messages the first has been passed on.
func (f *frameReader) nextFrame() error {
	if f.scan.AtMessageBoundary() {
		f.limits.share.release()
	}
	head, size, err := f.header()
	if err != nil {
		return err
	}
	f.scan.Scan(head)
	if err := f.check(head[0]); err != nil {
		return violation(err)
	}
	op := ws.Opcode(head[0] & 0x0F)
	if op >= ws.OpClose {
		return f.control(op, head, int(size))
	}
	if op != ws.OpContinuation {
		f.size = 0
	}
	if f.size += size; f.size > f.limits.maxMessage {
		return f.limits.tooBig()
	}
	if err := f.limits.take(0, 0); err != nil {
		return err
	}
	if head[0]&rsv1Bit != 0 {
		f.opcode = op
	}
	if f.opcode != ws.OpContinuation {
		return f.collect(int(size), head[len(head)-4:], head[0]&finBit != 0)
	}
	f.ready.Write(head)
	f.left = size
	return nil
}

// header reads the bytes of a frame header and the size of the payload that follows.
func (f *frameReader) header() (head []byte, size uint64, err error) {
	head = make([]byte, 2, 14)
	if _, err := io.ReadFull(f.src, head); err != nil {
		return nil, 0, err
	}
	head = head[:2+restOfHead(head[1])]
	if _, err := io.ReadFull(f.src, head[2:]); err != nil {
		return nil, 0, err
	}
	switch size = uint64(head[1] &^ maskBit); size {
	case 126:
		size = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		size = binary.BigEndian.Uint64(head[2:])
	}
	return head, size, nil
}

// restOfHead returns how many bytes of a frame header follow its second.
func restOfHead(second byte) int {
	rest := 0
	switch second &^ maskBit {
	case 126:
		rest = 2
	case 127:
		rest = 8
	}
	if second&maskBit != 0 {
		rest += 4
	}
	return rest
}

// check checks the frame that the scanner has just seen the header of. RSV1 marks the first frame of a compressed message
// (RFC 7692, section 6); the other reserved bits mean nothing.
func (f *frameReader) check(first byte) error {
	op := ws.Opcode(first & 0x0F)
	switch {
	case f.scan.Err() != nil:
		return f.scan.Err()
	case first&rsv2Bits != 0, first&rsv1Bit != 0 && (!f.deflate || op == ws.OpContinuation || op >= ws.OpClose):
		return ws.ErrReservedBits
	}
	return nil
}

// control reads a control frame whole.
func (f *frameReader) control(op ws.Opcode, head []byte, size int) error {
	payload := make([]byte, size)
	if _, err := io.ReadFull(f.src, payload); err != nil {
		return err
	}
	f.scan.Scan(payload)
	if op != ws.OpClose {
		f.ready.Write(head)
		f.ready.Write(payload)
		return nil
	}
	if head[1]&maskBit != 0 {
		ws.Mask(payload, [4]byte(head[len(head)-4:]))
	}
	return checkClose(payload)
}

// checkClose checks the payload of a Close frame (RFC 6455, sections 5.5.1 and 7.4).
func checkClose(payload []byte) error {
	if len(payload) < 2 {
		return &closeFrame{payload}
	}
	switch code := binary.BigEndian.Uint16(payload); {
	case code < 1000, code > 4999, code == 1004, code == ws.CloseNoStatus, code == ws.CloseAbnormal, code >= 1015 && code < 3000:
		return violation(fmt.Errorf("close frame with code %d", code))
	case !utf8.Valid(payload[2:]):
		return &frameError{ws.CloseInvalidData, tunnel.CauseProtocol, "close frame with a reason that is not UTF-8"}
	}
	return &closeFrame{payload}
}

// collectStep is how much memory is taken for bytes that were announced but have not come.
const collectStep = 32 << 10

// collect takes a frame of a compressed message.
func (f *frameReader) collect(size int, mask []byte, final bool) error {
	start := len(f.compressed)
	for left := size; left > 0; {
		n, at := min(left, collectStep), len(f.compressed)
		if err := f.limits.take(0, uint64(at+n)); err != nil {
			return err
		}
		f.compressed = slices.Grow(f.compressed, n)[:at+n]
		if _, err := io.ReadFull(f.src, f.compressed[at:]); err != nil {
			return err
		}
		left -= n
	}
	if size > 0 {
		f.scan.Skip(uint64(size))
	}
	ws.Mask(f.compressed[start:], [4]byte(mask))
	if final {
		f.inflating, f.size = newInflater(f.compressed), 0
	}
	return nil
}

// nextPlain puts out the next piece of an inflated message, as a fragment.
func (f *frameReader) nextPlain() error {
	n, err := f.inflating.Read(f.inflating.piece[:])
	f.size += uint64(n)
	switch {
	case f.size > f.limits.maxMessage:
		return f.limits.tooBig()
	case f.size > inflateFree && f.size > maxInflation*uint64(len(f.compressed)):
		return &frameError{ws.CloseTooBig, tunnel.CauseTooBig, fmt.Sprintf("message inflates to more than %d times its size", maxInflation)}
	}
	if err := f.limits.take(f.size, uint64(len(f.compressed))); err != nil {
		return err
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return &frameError{ws.CloseInvalidData, tunnel.CauseProtocol, "inflating a message: " + err.Error()}
	}
	frame := ws.AppendFrame(f.ready.AvailableBuffer(), f.opcode, f.inflating.piece[:n], new([4]byte))
	if err == nil {
		frame[0] &^= finBit
	}
	f.ready.Write(frame)
	f.opcode = ws.OpContinuation
	if err != nil {
		f.inflating.release()
		f.inflating, f.compressed = nil, nil
	}
	return nil
}

// inflater inflates one message.
type inflater struct {
	io.ReadCloser // a flate.Resetter
	piece         [4 << 10]byte
}

var inflaters = sync.Pool{New: func() any { return &inflater{ReadCloser: flate.NewReader(nil)} }}

// deflateTail is what a sender removes from the end of each message, and an empty final block (RFC 7692, section 7.2.2).
const deflateTail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

func newInflater(compressed []byte) *inflater {
	i := inflaters.Get().(*inflater)
	i.reset(io.MultiReader(bytes.NewReader(compressed), strings.NewReader(deflateTail)))
	return i
}

func (i *inflater) reset(r io.Reader) { i.ReadCloser.(flate.Resetter).Reset(r, nil) }

// release gives the inflater back, without the message.
func (i *inflater) release() {
	i.reset(strings.NewReader(""))
	inflaters.Put(i)
}
