package handover

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// maxDescriptors is how many the kernel lets one message carry.
const maxDescriptors = 253

// headLength is that of a message's head: kind, number of descriptors, two bytes of zero, transaction, length of the body.
const headLength = 12

// message is one of the messages that go over a link.
type message struct {
	kind        kind
	transaction uint32
	body        []byte
	descriptors []int // the receiver's to close
	lost        bool  // not all descriptors came: there are too many open ones already
}

// link carries messages, with descriptors. Sending is safe for concurrent use; one goroutine receives.
type link struct {
	conn *net.UnixConn
	mu   sync.Mutex // makes senders take turns
}

// Pair returns both ends of a new link: ours, and what another process is to inherit.
func Pair() (ours, theirs *os.File, err error) {
	fds, err := socketPair()
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair: %w", err)
	}
	return os.NewFile(uintptr(fds[0]), "handover"), os.NewFile(uintptr(fds[1]), "handover"), nil
}

// newLink makes a link of an end, which it owns.
func newLink(end *os.File) (*link, error) {
	defer end.Close()
	conn, err := net.FileConn(end)
	if err != nil {
		return nil, err
	}
	socket, ok := conn.(*net.UnixConn)
	if !ok {
		conn.Close()
		return nil, errors.New("not a unix socket")
	}
	return &link{conn: socket}, nil
}

// send sends a message, with copies of descriptors, within a time; 0 is no bound. An error leaves the link of no use.
func (l *link) send(m *message, within time.Duration) error {
	if len(m.body) > maxMessage || len(m.descriptors) > maxDescriptors {
		return errBound
	}
	head := make([]byte, headLength, headLength+len(m.body))
	head[0], head[1] = byte(m.kind), byte(len(m.descriptors))
	binary.BigEndian.PutUint32(head[4:], m.transaction)
	binary.BigEndian.PutUint32(head[8:], uint32(len(m.body)))
	var rights []byte
	if len(m.descriptors) > 0 {
		rights = unix.UnixRights(m.descriptors...)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var deadline time.Time
	if within > 0 {
		deadline = time.Now().Add(within)
	}
	l.conn.SetWriteDeadline(deadline)
	whole := append(head, m.body...)
	n, _, err := l.conn.WriteMsgUnix(whole, rights, nil)
	if err == nil && n < len(whole) {
		_, err = l.conn.Write(whole[n:])
	}
	return err
}

// receive returns the next message: io.EOF where the other process is gone, be it in the middle of one.
func (l *link) receive() (*message, error) {
	head := make([]byte, headLength)
	room := make([]byte, unix.CmsgSpace(4*maxDescriptors))
	m := &message{}
	for have := 0; have < headLength; {
		n, oob, _, _, err := l.conn.ReadMsgUnix(head[have:], room)
		if oob > 0 {
			m.descriptors = append(m.descriptors, rightsOf(room[:oob])...)
		}
		if err == nil && n == 0 {
			err = io.EOF
		}
		if err != nil {
			m.drop()
			return nil, gone(err)
		}
		have += n
	}
	m.kind, m.transaction = kind(head[0]), binary.BigEndian.Uint32(head[4:])
	length := binary.BigEndian.Uint32(head[8:])
	switch {
	case head[2] != 0 || head[3] != 0 || length > maxMessage || len(m.descriptors) > int(head[1]):
		m.drop()
		return nil, fmt.Errorf("no message: % x", head)
	case len(m.descriptors) < int(head[1]):
		m.lost = true
	}
	m.body = make([]byte, length)
	if _, err := io.ReadFull(l.conn, m.body); err != nil {
		m.drop()
		return nil, gone(err)
	}
	return m, nil
}

// gone makes io.EOF of what says that the other process is gone.
func gone(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, unix.ECONNRESET) {
		return io.EOF
	}
	return err
}

// rightsOf returns the descriptors in control messages.
func rightsOf(oob []byte) (all []int) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		if fds, err := unix.ParseUnixRights(&messages[i]); err == nil {
			all = append(all, fds...)
		}
	}
	return all
}

// drop closes the descriptors that came.
func (m *message) drop() {
	for _, fd := range m.descriptors {
		unix.Close(fd)
	}
	m.descriptors = nil
}

func (l *link) close() { l.conn.Close() }
