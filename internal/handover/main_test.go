package handover

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wstunnel/internal/leaks"
	"wstunnel/internal/reactor"
	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

func TestMain(m *testing.M) { leaks.Verify(m) }

// waitFor bounds whatever a test waits for.
const waitFor = 20 * time.Second

// process stands for one: it has loops, and tunnels on them.
type process struct {
	t     *testing.T
	group *reactor.Group
	clock *reactor.Clock

	mu      sync.Mutex
	tunnels map[uint64]*tunnel.Tunnel
	ended   chan tunnel.Result
	refuse  atomic.Pointer[error] // what adoption ends with, if not nil
	stall   chan struct{}         // what adoption waits for, if not nil
}

func newProcess(t *testing.T) *process {
	t.Helper()
	clock := reactor.NewClock()
	group, err := reactor.NewGroup(slog.New(slog.DiscardHandler), clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(group.Close)
	return &process{t: t, group: group, clock: clock, tunnels: map[uint64]*tunnel.Tunnel{}, ended: make(chan tunnel.Result, 100)}
}

func (p *process) keep(id uint64, t *tunnel.Tunnel) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.tunnels[id] = t
}

func (p *process) find(id uint64) *tunnel.Tunnel {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tunnels[id]
}

// has reports whether a tunnel has ever been here.
func (p *process) has(id uint64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, known := p.tunnels[id]
	return known
}

// end waits for the end of a tunnel.
func (p *process) end() tunnel.Result {
	p.t.Helper()
	select {
	case r := <-p.ended:
		return r
	case <-time.After(waitFor):
		p.t.Fatal("no tunnel ended")
		panic("unreachable")
	}
}

func (p *process) done(id uint64) func(tunnel.Result) {
	return func(r tunnel.Result) {
		p.keep(id, nil)
		if r.Cause != tunnel.CauseMoved {
			p.ended <- r
		}
	}
}

// Adopt implements [Host].
func (p *process) Adopt(t *Tunnel, client, backend int) (Adopted, error) {
	if p.stall != nil {
		<-p.stall
	}
	if refusal := p.refuse.Load(); refusal != nil {
		unix.Close(client)
		unix.Close(backend)
		return nil, *refusal
	}
	type outcome struct {
		a   *tunnel.Adopted
		err error
	}
	done := make(chan outcome, 1)
	loop := p.group.Pick()
	loop.Post(func() {
		a, err := tunnel.Adopt(loop, client, backend, &t.State, p.done(t.ID))
		done <- outcome{a, err}
	})
	o := <-done
	if o.err != nil {
		return nil, o.err
	}
	p.keep(t.ID, o.a.Tunnel())
	return posted{o.a, loop}, nil
}

// Main implements [Host].
func (p *process) Main() {}

// Left implements [Host].
func (p *process) Left(Status) {}

// posted is an adopted tunnel that may be told from any goroutine.
type posted struct {
	a    *tunnel.Adopted
	loop *reactor.Loop
}

func (p posted) Begin(late tunnel.Late) { p.loop.Post(func() { p.a.Begin(late) }) }
func (p posted) Discard()               { p.loop.Post(p.a.Discard) }

// connect links two processes: tunnels go from p to q. kill ends the link as the death of q does.
func (p *process) connect(q *process) (g *Giver, over chan error) {
	t := p.t
	t.Helper()
	ours, theirs, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	taker, err := NewTaker(theirs)
	if err != nil {
		t.Fatal(err)
	}
	over = make(chan error, 1)
	if g, err = NewGiver(ours, p.clock, taker.Close); err != nil {
		t.Fatal(err)
	}
	go func() { over <- taker.Run(q) }()
	t.Cleanup(func() {
		g.Close()
		<-g.Gone()
	})
	return g, over
}

// move hands a tunnel over.
func (p *process) move(g *Giver, id uint64) error {
	live := p.find(id)
	if live == nil {
		return fmt.Errorf("tunnel %d is not here", id)
	}
	type outcome struct {
		held *tunnel.Held
		err  error
	}
	held := make(chan outcome, 1)
	o := outcome{err: tunnel.ErrHeld}
	for errors.Is(o.err, tunnel.ErrHeld) { // it has arrived, and is about to go on
		live.Hold(func(h *tunnel.Held, err error) { held <- outcome{h, err} })
		o = <-held
	}
	if o.err != nil {
		return o.err
	}
	return g.Move(&Tunnel{ID: id, Since: time.Now(), Remote: netip.MustParseAddrPort("192.0.2.1:1"), Backend: "b"}, o.held)
}

// open makes a tunnel, and returns its peers.
func (p *process) open(id uint64, opts tunnel.Options) (client, backend net.Conn) {
	p.t.Helper()
	frontEnd, behind := listen(p.t), listen(p.t)
	ln, err := p.group.Listen(frontEnd.(syscall.Conn), tunnel.KeepAlive, func(c *reactor.Conn, _ netip.AddrPort) {
		c.Handle(idle{})
		at := reactor.Sockaddr(behind.Addr().(*net.TCPAddr).AddrPort())
		c.Loop().Dial([]unix.Sockaddr{at}, 0, time.Minute, func(b *reactor.Conn, err error) {
			if err != nil {
				panic(err)
			}
			p.keep(id, tunnel.Join(c, b, nil, nil, opts, p.done(id)))
		})
	})
	if err != nil {
		p.t.Fatal(err)
	}
	ln.Start()
	p.t.Cleanup(ln.Stop)
	if client, err = net.Dial("tcp", frontEnd.Addr().String()); err != nil {
		p.t.Fatal(err)
	}
	if backend, err = behind.Accept(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { client.Close(); backend.Close() })
	eventually(p.t, "the tunnel is open", func() bool { return p.find(id) != nil })
	return client, backend
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

type idle struct{}

func (idle) Readable(*reactor.Conn)      {}
func (idle) Drained(*reactor.Conn)       {}
func (idle) Failed(*reactor.Conn, error) {}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(waitFor); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}

// noise is what messages are made of.
var noise = func() []byte {
	b := make([]byte, 210_000)
	rand.NewChaCha8([32]byte{}).Read(b)
	return b
}()

// talk writes numbered messages with checksums until it is told to stop, then a Close frame.
func talk(w io.Writer, masked bool, seed uint64, stop <-chan struct{}) (sent uint64, err error) {
	random := rand.New(rand.NewPCG(seed, 1))
	var mask *[4]byte
	if masked {
		mask = &[4]byte{1, 2, 3, byte(seed)}
	}
	for {
		select {
		case <-stop:
			_, err := w.Write(ws.AppendClose(nil, ws.CloseNormal, "", mask))
			return sent, err
		default:
		}
		size := []int{0, 10, 120, 130, 1000, 40_000, 70_000, 200_000}[random.IntN(8)]
		payload := make([]byte, 12+size)
		binary.BigEndian.PutUint64(payload, sent)
		copy(payload[12:], noise[sent%251:])
		binary.BigEndian.PutUint32(payload[8:], crc32.ChecksumIEEE(payload[12:]))
		frame := ws.AppendFrame(nil, ws.OpBinary, payload, mask)
		for len(frame) > 0 { // in pieces, so that headers are cut
			n := min(len(frame), 1+random.IntN(100_000))
			if _, err := w.Write(frame[:n]); err != nil {
				return sent, err
			}
			frame = frame[n:]
		}
		sent++
	}
}

// hear reads such messages up to the Close frame, and checks them. Pings are passed over.
func hear(r io.Reader) (heard uint64, err error) {
	in := bufio.NewReaderSize(r, 64<<10)
	for {
		op, payload, err := readFrame(in)
		switch {
		case err != nil:
			return heard, fmt.Errorf("behind %d messages: %w", heard, err)
		case op == ws.OpClose:
			return heard, nil
		case op == ws.OpPing, op == ws.OpText:
			continue
		}
		if n := binary.BigEndian.Uint64(payload); n != heard {
			return heard, fmt.Errorf("message %d instead of %d", n, heard)
		}
		if sum := crc32.ChecksumIEEE(payload[12:]); sum != binary.BigEndian.Uint32(payload[8:]) {
			return heard, fmt.Errorf("message %d is not what was sent", heard)
		}
		heard++
	}
}

func readFrame(in *bufio.Reader) (op ws.Opcode, payload []byte, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(in, head); err != nil {
		return 0, nil, err
	}
	length := uint64(head[1] & 0x7F)
	if n := map[uint64]int{126: 2, 127: 8}[length]; n > 0 {
		long := make([]byte, 8)
		if _, err := io.ReadFull(in, long[8-n:]); err != nil {
			return 0, nil, err
		}
		length = binary.BigEndian.Uint64(long)
	}
	if length > 1<<20 {
		return 0, nil, fmt.Errorf("a frame of %d bytes", length)
	}
	var mask [4]byte
	if head[1]&0x80 != 0 {
		if _, err := io.ReadFull(in, mask[:]); err != nil {
			return 0, nil, err
		}
	}
	payload = make([]byte, length)
	if _, err := io.ReadFull(in, payload); err != nil {
		return 0, nil, err
	}
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
	return ws.Opcode(head[0] & 0x0F), payload, nil
}

// conversation is a tunnel on which both peers talk at full speed.
type conversation struct {
	client, backend net.Conn

	stop chan struct{}
	done [2]chan error
	sent [2]chan uint64
	got  [2]chan uint64
}

func converse(client, backend net.Conn, seed uint64) *conversation {
	c := &conversation{client: client, backend: backend, stop: make(chan struct{})}
	for i, ends := range [2][2]net.Conn{{client, backend}, {backend, client}} {
		c.done[i], c.sent[i], c.got[i] = make(chan error, 2), make(chan uint64, 1), make(chan uint64, 1)
		go func() {
			n, err := talk(ends[0], i == 0, seed+uint64(i), c.stop)
			c.sent[i] <- n
			c.done[i] <- err
		}()
		go func() {
			n, err := hear(ends[1])
			c.got[i] <- n
			c.done[i] <- err
		}()
	}
	return c
}

// finish ends the conversation, and requires that all was heard.
func (c *conversation) finish(t *testing.T) (messages uint64) {
	t.Helper()
	close(c.stop)
	for i, direction := range []string{"to the backend", "to the client"} {
		for range 2 {
			select {
			case err := <-c.done[i]:
				if err != nil {
					t.Errorf("%s: %v", direction, err)
				}
			case <-time.After(waitFor):
				t.Fatalf("%s: it stands still", direction)
			}
		}
		sent, got := <-c.sent[i], <-c.got[i]
		if sent != got {
			t.Errorf("%s: %d of %d messages came", direction, got, sent)
		}
		messages += got
	}
	c.client.Close()
	c.backend.Close()
	return messages
}
