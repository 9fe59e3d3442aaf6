package tunnel

import (
	"bytes"
	"crypto/rand"
	"sync/atomic"

	"wstunnel/internal/ws"
)

// flow is one direction's bytes between two ends: it knows where frames begin, puts frames of our own
// between them and takes the answers to them out.
type flow struct {
	scan      ws.Scanner
	pending   *injections  // nil while bytes only pass
	backlog   atomic.Int32 // bytes of frames that wait to be put in
	toBackend bool
	closeSent bool // a Close frame of our own went out: nothing may follow it
}

// Bounds of what others may have wait for a place in one stream.
const (
	// MaxMessage is how many bytes a message that is put into a stream may carry, and all together that wait.
	MaxMessage = 256 << 10
	// maxWaiting is how many messages may wait.
	maxWaiting = 64
	maxBacklog = MaxMessage + maxWaiting*maxFrameHead
	// maxFrameHead is the longest head of a frame (RFC 6455, section 5.2).
	maxFrameHead = 14
)

// injections are what a flow has to do beyond passing bytes.
type injections struct {
	control [][]byte  // frames to be put in
	data    []waiting // messages to be put in
	closing []byte    // a Close frame to be put in, or nil
	pong    *pingID   // the pong to be taken out, or nil
	held    []byte    // the beginning of what may be that pong
}

// pongByte begins an unfragmented pong.
const pongByte = 0x80 | byte(ws.OpPong)

// pingID is the payload that our pings are known by.
type pingID [8]byte

func newFlow(from Side, extensions bool) flow {
	role := ws.FromServer
	if from == Client {
		role = ws.FromClient
	}
	return flow{scan: ws.NewScanner(role, extensions), toBackend: from == Client}
}

// pass scans p and gives what is to go out to send. It returns how many of p's bytes those are: all of them but for
// our pongs and what follows our Close frame.
func (s *flow) pass(p []byte, send func([]byte) error) (passed int, err error) {
	if s.closeSent {
		s.scan.Scan(p)
		return 0, nil
	}
	if s.pending == nil {
		s.scan.Scan(p)
		return len(p), send(p)
	}
	return s.passFrames(p, send)
}

// passFrames goes through p frame by frame. What lies between two of our own frames, or around our pong, goes out in one piece.
func (s *flow) passFrames(p []byte, send func([]byte) error) (passed int, err error) {
	if held := s.pending.held; len(held) > 0 {
		p, s.pending.held = append(held, p...), nil
	}
	counted := func(b []byte) error {
		passed += len(b)
		return send(b)
	}
	from, at := 0, 0 // p[from:at] is scanned and not sent yet
	for at < len(p) && s.pending != nil && !s.closeSent {
		if s.due() {
			if err := flush(counted, p[from:at]); err != nil {
				return passed, err
			}
			from = at
			if err := s.putIn(send); err != nil {
				return passed, err
			}
			continue
		}
		if s.pending.pong != nil && p[at] == pongByte && s.scan.AtBoundary() {
			n, whole := s.ownPong(p[at:])
			if n > 0 {
				if err := flush(counted, p[from:at]); err != nil {
					return passed, err
				}
				from, at = at+n, at+n
				s.tookPong(p[at-n:at], whole)
				continue
			}
		}
		n, _ := s.scan.ScanFrame(p[at:])
		at += n
	}
	s.scan.Scan(p[at:])
	if s.closeSent {
		return passed, nil
	}
	if err := flush(counted, p[from:]); err != nil {
		return passed, err
	}
	return passed, s.putIn(send)
}

func flush(send func([]byte) error, p []byte) error {
	if len(p) == 0 {
		return nil
	}
	return send(p)
}

// queue returns the pending injections, made where there is none.
func (s *flow) queue() *injections {
	if s.pending == nil {
		s.pending = &injections{}
	}
	return s.pending
}

// forgetIdle forgets the pending injections when there are none.
func (s *flow) forgetIdle() {
	if x := s.pending; x != nil && len(x.control)+len(x.data) == 0 && x.closing == nil && x.pong == nil && len(x.held) == 0 {
		s.pending = nil
	}
}

// reserve adds a frame to the backlog, unless that is too long already. It is safe for concurrent use.
func (s *flow) reserve(frame []byte) bool {
	if len(frame) > maxBacklog {
		return false
	}
	if s.backlog.Add(int32(len(frame))) > maxBacklog {
		s.backlog.Add(-int32(len(frame)))
		return false
	}
	return true
}

// inject queues a frame of the backlog for the next place where it may stand.
func (s *flow) inject(op ws.Opcode, frame []byte) {
	x := s.queue()
	if op == ws.OpText || op == ws.OpBinary {
		x.data = append(x.data, waiting{frame: frame})
		return
	}
	x.control = append(x.control, frame)
}

// requestClose queues a Close frame, the last of the stream.
func (s *flow) requestClose(code uint16, reason string) {
	to := Client
	if s.toBackend {
		to = Backend
	}
	s.queue().closing = ws.AppendClose(nil, code, reason, newMask(to))
}

// newFrame makes a frame that is to go to one side.
func newFrame(to Side, op ws.Opcode, payload []byte) []byte {
	return ws.AppendFrame(nil, op, payload, newMask(to))
}

// newMask returns a mask for what goes to the backend, and none for what goes to the client (RFC 6455, section 5.1).
func newMask(to Side) *[4]byte {
	if to == Client {
		return nil
	}
	mask := new([4]byte)
	rand.Read(mask[:])
	return mask
}

// queued reports whether control frames wait for a place.
func (s *flow) queued() bool { return s.pending != nil && len(s.pending.control) > 0 }

// takesNoFrames reports whether no frame can be put into the stream any more.
func (s *flow) takesNoFrames() bool {
	_, closed := s.scan.Close()
	return s.closeSent || closed || s.scan.Err() != nil
}

// due reports whether a frame is to be put in here.
func (s *flow) due() bool {
	x := s.pending
	switch {
	case x == nil || len(x.held) > 0 || !s.scan.AtBoundary():
		return false
	case x.closing != nil || len(x.control) > 0:
		return true
	}
	return len(x.data) > 0 && s.scan.AtMessageBoundary()
}

// putIn sends the frames that may stand at this place of the stream, if it is one, in one piece.
func (s *flow) putIn(send func([]byte) error) error {
	if s.takesNoFrames() && s.pending != nil {
		s.drop()
	}
	var frames []byte
	var told []Tell // of the messages among them
	for s.due() {
		frame, tell := s.takeFrame()
		if frames = append(frames, frame...); tell != nil {
			told = append(told, tell)
		}
	}
	s.forgetIdle()
	err := flush(send, frames)
	outcome := Written
	if err != nil {
		outcome = Closed
	}
	for _, tell := range told {
		tell(outcome, true)
	}
	return err
}

// takeFrame takes the frame that is due, and whom its fate is told, if it is a message of somebody's who asks.
func (s *flow) takeFrame() (frame []byte, tell Tell) {
	switch x := s.pending; {
	case x.closing != nil:
		frame, s.closeSent = x.closing, true
		s.drop()
		s.pending = nil
		return frame, nil
	case len(x.control) > 0:
		frame, x.control = x.control[0], x.control[1:]
	default:
		frame, tell = x.data[0].frame, x.data[0].tell
		x.data[0] = waiting{}
		x.data = x.data[1:]
	}
	s.backlog.Add(-int32(len(frame)))
	return frame, tell
}

// drop forgets the frames that are queued.
func (s *flow) drop() {
	for _, frame := range s.pending.control {
		s.backlog.Add(-int32(len(frame)))
	}
	s.pending.control, s.pending.closing = nil, nil
	s.dropMessages(s.refusal())
}

// tookPong notes that the awaited pong was taken out, or that its beginning was.
func (s *flow) tookPong(p []byte, whole bool) {
	if !whole {
		s.pending.held = bytes.Clone(p)
		return
	}
	s.pending.pong = nil
	s.forgetIdle()
}

// flushHeld sends what was held back.
func (s *flow) flushHeld(send func([]byte) error) error {
	if s.pending == nil || len(s.pending.held) == 0 {
		return nil
	}
	held := s.pending.held
	s.pending.held = nil
	s.scan.Scan(held)
	return send(held)
}

// ownPong compares the bytes from a frame boundary on with the pong that is waited for. It returns how many of them belong to that, and
// whether they are all of it: none if they are something else.
func (s *flow) ownPong(p []byte) (n int, whole bool) {
	head, second := 2, byte(len(pingID{}))
	if s.toBackend { // what the client sends is masked
		head, second = 6, second|0x80
	}
	p = p[:min(len(p), head+len(pingID{}))]
	if p[0] != pongByte || len(p) > 1 && p[1] != second {
		return 0, false
	}
	for i := head; i < len(p); i++ {
		b := p[i]
		if s.toBackend {
			b ^= p[2+(i-head)%4]
		}
		if b != s.pending.pong[i-head] {
			return 0, false
		}
	}
	return len(p), len(p) == head+len(pingID{})
}
