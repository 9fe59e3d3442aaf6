package tunnel

import (
	"bytes"
	"crypto/rand"
	"slices"
	"sync/atomic"

	"wstunnel/internal/ws"
)

// stream is one direction's bytes between two ends: it knows where frames begin, puts frames of our own
// between them and takes the answers to them out.
type stream struct {
	scan      ws.Scanner
	extra     *extra       // nil while bytes only pass
	backlog   atomic.Int32 // bytes of frames that wait to be put in
	toBackend bool
	sealed    bool // a Close frame of our own went out: nothing may follow it
}

// maxBacklog bounds the backlog that others may make.
const maxBacklog = 1 << 20

// extra is what a stream has to do beyond passing bytes.
type extra struct {
	control, data [][]byte // frames to be put in
	closing       []byte   // a Close frame to be put in, or nil
	pong          *pingID  // the pong to be taken out, or nil
	held          []byte   // the beginning of what may be that pong
}

// pongByte begins an unfragmented pong.
const pongByte = 0x80 | byte(ws.OpPong)

// pingID is the payload that our pings are known by.
type pingID [8]byte

func newStream(from Side, extensions bool) stream {
	role := ws.FromServer
	if from == Client {
		role = ws.FromClient
	}
	return stream{scan: ws.NewScanner(role, extensions), toBackend: from == Client}
}

// pass scans p and gives what is to go out to send. It returns how many of p's bytes those are: all of them but for
// our pongs and what follows our Close frame.
func (s *stream) pass(p []byte, send func([]byte) error) (passed int, err error) {
	if s.sealed {
		s.scan.Scan(p)
		return 0, nil
	}
	if s.extra == nil {
		s.scan.Scan(p)
		return len(p), send(p)
	}
	return s.weave(p, send)
}

// weave goes through p frame by frame. What lies between two of our own frames, or around our pong, goes out in one piece.
func (s *stream) weave(p []byte, send func([]byte) error) (passed int, err error) {
	if held := s.extra.held; len(held) > 0 {
		p, s.extra.held = append(held, p...), nil
	}
	counted := func(b []byte) error {
		passed += len(b)
		return send(b)
	}
	from, at := 0, 0 // p[from:at] is scanned and not sent yet
	for at < len(p) && s.extra != nil && !s.sealed {
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
		if s.extra.pong != nil && p[at] == pongByte && s.scan.AtBoundary() {
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
	if s.sealed {
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

// more returns the extra, made where there is none.
func (s *stream) more() *extra {
	if s.extra == nil {
		s.extra = &extra{}
	}
	return s.extra
}

// less forgets an extra that has nothing to do.
func (s *stream) less() {
	if x := s.extra; x != nil && len(x.control)+len(x.data) == 0 && x.closing == nil && x.pong == nil && len(x.held) == 0 {
		s.extra = nil
	}
}

// reserve adds a frame to the backlog, unless that is too long already. It is safe for concurrent use.
func (s *stream) reserve(frame []byte) bool {
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
func (s *stream) inject(op ws.Opcode, frame []byte) {
	x := s.more()
	if op == ws.OpText || op == ws.OpBinary {
		x.data = append(x.data, frame)
		return
	}
	x.control = append(x.control, frame)
}

// seal queues a Close frame, the last of the stream.
func (s *stream) seal(code uint16, reason string) {
	to := Client
	if s.toBackend {
		to = Backend
	}
	s.more().closing = ws.AppendClose(nil, code, reason, newMask(to))
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
func (s *stream) queued() bool { return s.extra != nil && len(s.extra.control) > 0 }

// mute reports whether no frame can be put into the stream any more.
func (s *stream) mute() bool {
	_, closed := s.scan.Close()
	return s.sealed || closed || s.scan.Err() != nil
}

// due reports whether a frame is to be put in here.
func (s *stream) due() bool {
	x := s.extra
	switch {
	case x == nil || len(x.held) > 0 || !s.scan.AtBoundary():
		return false
	case x.closing != nil || len(x.control) > 0:
		return true
	}
	return len(x.data) > 0 && s.scan.AtMessageBoundary()
}

// putIn sends the frames that may stand at this place of the stream, if it is one, in one piece.
func (s *stream) putIn(send func([]byte) error) error {
	if s.mute() && s.extra != nil {
		s.drop()
	}
	var frames []byte
	for s.due() {
		frames = append(frames, s.takeFrame()...)
	}
	s.less()
	return flush(send, frames)
}

// takeFrame takes the frame that is due.
func (s *stream) takeFrame() (frame []byte) {
	switch x := s.extra; {
	case x.closing != nil:
		frame, s.sealed = x.closing, true
		s.drop()
		s.extra = nil
		return frame
	case len(x.control) > 0:
		frame, x.control = x.control[0], x.control[1:]
	default:
		frame, x.data = x.data[0], x.data[1:]
	}
	s.backlog.Add(-int32(len(frame)))
	return frame
}

// drop forgets the frames that are queued.
func (s *stream) drop() {
	for _, frame := range slices.Concat(s.extra.control, s.extra.data) {
		s.backlog.Add(-int32(len(frame)))
	}
	s.extra.control, s.extra.data, s.extra.closing = nil, nil, nil
}

// tookPong notes that the awaited pong was taken out, or that its beginning was.
func (s *stream) tookPong(p []byte, whole bool) {
	if !whole {
		s.extra.held = bytes.Clone(p)
		return
	}
	s.extra.pong = nil
	s.less()
}

// letGo sends what was held back.
func (s *stream) letGo(send func([]byte) error) error {
	if s.extra == nil || len(s.extra.held) == 0 {
		return nil
	}
	held := s.extra.held
	s.extra.held = nil
	s.scan.Scan(held)
	return send(held)
}

// ownPong compares the bytes from a frame boundary on with the pong that is waited for. It returns how many of them belong to that, and
// whether they are all of it: none if they are something else.
func (s *stream) ownPong(p []byte) (n int, whole bool) {
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
		if b != s.extra.pong[i-head] {
			return 0, false
		}
	}
	return len(p), len(p) == head+len(pingID{})
}
