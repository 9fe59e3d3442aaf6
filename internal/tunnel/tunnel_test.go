package tunnel

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"math/rand/v2"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wstunnel/internal/leaks"
	"wstunnel/internal/reactor"
	"wstunnel/internal/ws"
)

// group is where the tests' tunnels run, and clock what they go by.
var (
	group *reactor.Group
	clock = reactor.NewClock()
)

// looped runs the tests with the loops.
type looped struct{ *testing.M }

func (m looped) Run() int {
	var err error
	if group, err = reactor.NewGroup(slog.New(slog.DiscardHandler), clock); err != nil {
		panic(err)
	}
	defer group.Close()
	return m.M.Run()
}

func TestMain(m *testing.M) { leaks.Verify(looped{m}) }

// transport is a way to be connected. The tunnel accepts a client's connection, over TLS as the server, and dials a backend's, as the client.
type transport struct {
	network string
	secure  bool
}

var (
	plainTCP   = transport{network: "tcp"}
	overTLS    = transport{network: "tcp", secure: true}
	unixSocket = transport{network: "unix"}
)

// accept makes a client's connection.
func (tr transport) accept(t *testing.T) (ours *reactor.Conn, peer net.Conn) {
	t.Helper()
	l := tr.listen(t)
	came := acceptOn(t, l)
	peer, err := net.Dial(tr.network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	return tr.shake(t, <-came, peer, tls.Server, tls.Client)
}

// dial makes a backend's connection.
func (tr transport) dial(t *testing.T, loop *reactor.Loop) (ours *reactor.Conn, peer net.Conn) {
	t.Helper()
	ours, peer = dialTo(t, loop, tr.listen(t))
	t.Cleanup(func() { peer.Close() })
	return tr.shake(t, ours, peer, tls.Client, tls.Server)
}

func (tr transport) listen(t *testing.T) net.Listener {
	t.Helper()
	address := "127.0.0.1:0"
	if tr.network == "unix" {
		address = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(tr.network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// role is what an end of a TLS connection is.
type role func(net.Conn, *tls.Config) *tls.Conn

// shake does the handshake, where there is one.
func (tr transport) shake(t *testing.T, ours *reactor.Conn, peer net.Conn, our, their role) (*reactor.Conn, net.Conn) {
	t.Helper()
	if !tr.secure {
		return ours, peer
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(crand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)},
		&x509.Certificate{SerialNumber: big.NewInt(1)}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	settings := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, InsecureSkipVerify: true}
	done := make(chan error, 1)
	ours.Loop().Post(func() {
		ours.Handshake(t.Context(), func(conn net.Conn) *tls.Conn { return our(conn, settings) }, time.Minute,
			func(_ tls.ConnectionState, err error) {
				ours.Handle(idle{})
				if err != nil {
					ours.Close() // which the peer waits for
				}
				done <- err
			})
	})
	theirs := their(peer, settings)
	if err := theirs.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

// acceptOn has the group accept what comes to l, one connection after the other.
func acceptOn(t *testing.T, l net.Listener) <-chan *reactor.Conn {
	t.Helper()
	came := make(chan *reactor.Conn, 1)
	listener, err := group.Listen(l.(syscall.Conn), KeepAlive, func(c *reactor.Conn, _ netip.AddrPort) {
		c.Handle(idle{})
		came <- c
	})
	if err != nil {
		t.Fatal(err)
	}
	listener.Start()
	t.Cleanup(listener.Stop)
	return came
}

// dialTo has a loop connect to l, from which nobody else accepts.
func dialTo(t *testing.T, loop *reactor.Loop, l net.Listener) (ours *reactor.Conn, peer net.Conn) {
	t.Helper()
	var address unix.Sockaddr = &unix.SockaddrUnix{Name: l.Addr().String()}
	if tcp, ok := l.Addr().(*net.TCPAddr); ok {
		address = reactor.Sockaddr(tcp.AddrPort())
	}
	made := make(chan error, 1)
	loop.Post(func() {
		loop.Dial([]unix.Sockaddr{address}, 0, time.Minute, func(c *reactor.Conn, err error) {
			if err == nil {
				c.Handle(idle{})
			}
			ours = c
			made <- err
		})
	})
	if err := <-made; err != nil {
		t.Fatal(err)
	}
	peer, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	return ours, peer
}

// rig is a tunnel with a peer at each end.
type rig struct {
	*Tunnel
	client, backend net.Conn
	result          chan Result
}

func newRig(t *testing.T, client, backend transport, opts Options, earlyClient, earlyBackend []byte) *rig {
	t.Helper()
	ourClient, peerClient := client.accept(t)
	ourBackend, peerBackend := backend.dial(t, ourClient.Loop())
	r := &rig{client: peerClient, backend: peerBackend, result: make(chan Result, 1)}
	r.Tunnel = join(ourClient, ourBackend, earlyClient, earlyBackend, opts, func(res Result) { r.result <- res })
	return r
}

// join makes a tunnel of two connections of a loop.
func join(client, backend *reactor.Conn, clientEarly, backendEarly []byte, opts Options, done func(Result)) *Tunnel {
	made := make(chan *Tunnel)
	client.Loop().Post(func() { made <- Join(client, backend, clientEarly, backendEarly, opts, done) })
	return <-made
}

// idle handles a connection that waits for its tunnel.
type idle struct{}

func (idle) Readable(*reactor.Conn)      {}
func (idle) Drained(*reactor.Conn)       {}
func (idle) Failed(*reactor.Conn, error) {}

func (r *rig) wait(t *testing.T) Result {
	t.Helper()
	select {
	case res := <-r.result:
		return res
	case <-time.After(10 * time.Second):
		t.Fatal("the tunnel did not end")
		panic("unreachable")
	}
}

// lives turns the clock, and expects the tunnel not to have ended by then.
func (r *rig) lives(t *testing.T, d time.Duration) {
	t.Helper()
	clock.Skip(d)
	if len(r.result) > 0 {
		t.Fatalf("ended too early: %+v", <-r.result)
	}
}

// acked waits until both peers' systems have acknowledged all that they were sent, which they put off for a while, be the clock turned or not.
func (r *rig) acked(t *testing.T) {
	t.Helper()
	onTheWay := func() (n uint64) {
		done := make(chan struct{})
		r.loop.Post(func() {
			defer close(done)
			for _, s := range r.endpoints() {
				if _, left, known := s.conn.Taken(); known && !r.over() {
					n += left
				}
			}
		})
		<-done
		return n
	}
	for end := time.Now().Add(10 * time.Second); onTheWay() > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("what was sent is never acknowledged")
		}
	}
}

// stall has the backend send until nothing is taken any more.
func (r *rig) stall(t *testing.T) {
	t.Helper()
	r.flood(t)
	awaitFlat(func() uint64 { return r.Stats().ToClient.Bytes })
}

// flood has the backend send to the end of the test.
func (r *rig) flood(t *testing.T) {
	t.Helper()
	done := make(chan bool)
	go func() {
		defer close(done)
		flood(r)
	}()
	t.Cleanup(func() {
		r.client.Close()
		r.backend.Close()
		<-done
	})
}

// flood has a backend that never stops talking.
func flood(r *rig) {
	message := testFrame(Backend, ws.OpBinary, string(make([]byte, 20_000)))
	for {
		if _, err := r.backend.Write(message); err != nil {
			return
		}
	}
}

// awaitFlat waits until a number has not changed for a while, in which a system would have sent again what was lost.
func awaitFlat(n func() uint64) {
	for last, flat := n(), 0; flat < 60; time.Sleep(5 * time.Millisecond) {
		now := n()
		if flat++; now != last {
			last, flat = now, 0
		}
	}
}

// pending returns how many bytes wait for each end to take them, in our memory and in pipes.
func (r *rig) pending() (toClient, toBackend, spliced int) {
	done := make(chan struct{})
	r.loop.Post(func() {
		defer close(done)
		if r.over() {
			return
		}
		toClient, toBackend = r.Tunnel.client.conn.Pending(), r.Tunnel.backend.conn.Pending()
		for _, s := range r.endpoints() {
			if s.pipe != nil {
				spliced = max(spliced, s.pipe.Held())
			}
		}
	})
	<-done
	return toClient, toBackend, spliced
}

// reads reports whether the tunnel reads from a side.
func (r *rig) reads(s *endpoint) bool {
	answer := make(chan bool)
	r.loop.Post(func() { answer <- s.conn.Reading() })
	return <-answer
}

func frames(random *rand.Rand, masked bool, n int) (stream []byte, messages uint64) {
	inMessage := false
	for range n {
		var mask *[4]byte
		if masked {
			mask = &[4]byte{byte(random.Uint32()), 2, 3, 4}
		}
		if random.IntN(4) == 0 {
			stream = ws.AppendFrame(stream, ws.OpPing, payload(random, random.IntN(126)), mask)
			continue
		}
		size := []int{0, 5, 125, 126, 3000, 65535, 65536, 300_000}[random.IntN(8)]
		op := ws.OpBinary
		if inMessage {
			op = ws.OpContinuation
		}
		at := len(stream)
		stream = ws.AppendFrame(stream, op, payload(random, size), mask)
		if inMessage = random.IntN(3) == 0; inMessage {
			stream[at] &= 0x7F
		} else {
			messages++
		}
	}
	return stream, messages
}

func payload(random *rand.Rand, n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(random.Uint32())
	}
	return p
}

// send writes p in pieces of random size and ends the stream.
func send(conn net.Conn, random *rand.Rand, p []byte) error {
	for len(p) > 0 {
		n := min(len(p), 1+random.IntN([]int{3, 500, 100_000}[random.IntN(3)]))
		if _, err := conn.Write(p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return conn.(interface{ CloseWrite() error }).CloseWrite()
}

// receive reads to the end of the stream with buffers of random size.
func receive(conn net.Conn, random *rand.Rand) ([]byte, error) {
	var got []byte
	buf := make([]byte, 100_000)
	for {
		n, err := conn.Read(buf[:1+random.IntN(len(buf))])
		got = append(got, buf[:n]...)
		if errors.Is(err, io.EOF) {
			return got, nil
		}
		if err != nil {
			return got, err
		}
	}
}

func TestTunnelIsByteExact(t *testing.T) {
	transports := []struct {
		name      string
		transport transport
	}{{"tcp", plainTCP}, {"tls", overTLS}, {"unix", unixSocket}}
	for _, client := range transports {
		for _, backend := range transports {
			t.Run(client.name+" to "+backend.name, func(t *testing.T) {
				t.Parallel()
				for seed := range uint64(6) {
					checkByteExact(t, client.transport, backend.transport, seed)
				}
			})
		}
	}
}

func checkByteExact(t *testing.T, client, backend transport, seed uint64) {
	t.Helper()
	random := rand.New(rand.NewPCG(seed, 1))
	up, upMessages := frames(random, true, 12)
	down, downMessages := frames(random, false, 12)
	if seed%3 == 2 { // not WebSocket at all: passed on all the same
		up, down = payload(random, 200_000), payload(random, 300_000)
	}
	earlyUp, earlyDown := random.IntN(min(len(up), 3000)), random.IntN(min(len(down), 3000))
	r := newRig(t, client, backend, Options{}, up[:earlyUp], down[:earlyDown])
	var wg sync.WaitGroup
	exchange := func(name string, conn net.Conn, out, want []byte, s uint64) {
		wg.Go(func() {
			if err := send(conn, rand.New(rand.NewPCG(seed, s)), out); err != nil {
				t.Errorf("seed %d, %s sending: %v", seed, name, err)
			}
		})
		wg.Go(func() {
			got, err := receive(conn, rand.New(rand.NewPCG(seed, s+1)))
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("seed %d, %s received %d bytes of %d, equal %v, %v", seed, name, len(got), len(want), bytes.Equal(got, want), err)
			}
		})
	}
	exchange("client", r.client, up[earlyUp:], down, 10)
	exchange("backend", r.backend, down[earlyDown:], up, 20)
	wg.Wait()
	res := r.wait(t)
	if res.Cause != CauseEOF || res.Code != ws.CloseAbnormal {
		t.Errorf("seed %d: ended by %s, %s, code %d", seed, res.By, res.Cause, res.Code)
	}
	if res.ToBackend.Bytes != uint64(len(up)) || res.ToClient.Bytes != uint64(len(down)) {
		t.Errorf("seed %d: counted %d and %d bytes of %d and %d", seed, res.ToBackend.Bytes, res.ToClient.Bytes, len(up), len(down))
	}
	if seed%3 == 2 {
		if !res.ToBackend.Opaque && !res.ToClient.Opaque {
			t.Errorf("seed %d: random bytes were taken for frames", seed)
		}
		return
	}
	if res.ToBackend.Messages != upMessages || res.ToClient.Messages != downMessages {
		t.Errorf("seed %d: counted %d and %d messages of %d and %d", seed,
			res.ToBackend.Messages, res.ToClient.Messages, upMessages, downMessages)
	}
}

func TestTunnelHalfClosePassesThrough(t *testing.T) {
	r := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
	r.client.(*net.TCPConn).CloseWrite()
	if got, err := io.ReadAll(r.backend); len(got) != 0 || err != nil {
		t.Fatalf("backend read %q, %v", got, err)
	}
	r.backend.Write([]byte{0x81, 2, 'h', 'i'})
	r.backend.Close()
	if got, _ := io.ReadAll(r.client); string(got) != "\x81\x02hi" {
		t.Fatalf("client read %q", got)
	}
	if res := r.wait(t); res.By != Client || res.Cause != CauseEOF {
		t.Errorf("ended by %s, %s", res.By, res.Cause)
	}
}

func TestTunnelEndsAFINThatIsNeverAnswered(t *testing.T) {
	r := newRig(t, plainTCP, plainTCP, Options{IdleTimeout: time.Hour, HalfCloseTimeout: time.Minute}, nil, nil)
	r.client.(*net.TCPConn).CloseWrite()
	r.lives(t, 50*time.Second)
	clock.Skip(10 * time.Second)
	if res := r.wait(t); res.By != Client || res.Cause != CauseEOF {
		t.Errorf("ended by %s, %s", res.By, res.Cause)
	}
}

func TestTunnelResetEndsBothEnds(t *testing.T) {
	for _, side := range []Side{Client, Backend} {
		r := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
		broken, other := r.client, r.backend
		if side == Backend {
			broken, other = other, broken
		}
		const unread = "something unread"
		io.WriteString(other, unread)
		if side == Client {
			r.waitForBytes(t, 0, len(unread))
		} else {
			r.waitForBytes(t, len(unread), 0)
		}
		broken.(*net.TCPConn).SetLinger(0)
		broken.Close()
		if _, err := io.ReadAll(other); err == nil {
			t.Errorf("%s reset: the other end saw a clean end", side)
		}
		if res := r.wait(t); res.By != side || res.Cause != CauseReset || res.Err == nil {
			t.Errorf("%s reset: ended by %s, %s, %v", side, res.By, res.Cause, res.Err)
		}
	}
}

func TestTunnelNotesWhoClosedFirst(t *testing.T) {
	r := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
	closing := ws.AppendClose(nil, 4001, "done", nil)
	r.backend.Write(closing)
	got := make([]byte, len(closing))
	io.ReadFull(r.client, got)
	r.client.Write(ws.AppendClose(nil, 4001, "done", &[4]byte{1, 2, 3, 4}))
	r.client.Close()
	r.backend.Close()
	if res := r.wait(t); res.By != Backend || res.Cause != CauseClose || res.Code != 4001 {
		t.Errorf("ended by %s, %s, code %d", res.By, res.Cause, res.Code)
	}
}

func TestTunnelClosesBothEndsAtFrameBoundaries(t *testing.T) {
	client := ws.AppendFrame(nil, ws.OpText, []byte("a longer message from the client"), &[4]byte{1, 2, 3, 4})
	backend := ws.AppendFrame(nil, ws.OpText, []byte("and one from the backend"), nil)
	for _, transport := range []transport{plainTCP, overTLS} {
		for cutClient := range len(client) + 1 {
			cutBackend := min(cutClient, len(backend))
			r := newRig(t, transport, plainTCP, Options{}, nil, nil)
			r.client.Write(client[:cutClient])
			r.backend.Write(backend[:cutBackend])
			r.waitForBytes(t, cutClient, cutBackend)
			r.Close(1001, "bye", CauseDrain, 5*time.Second)
			finish := func() {
				r.client.Write(client[cutClient:])
				r.backend.Write(backend[cutBackend:])
			}
			wantClient, wantBackend := backend, client
			if cutClient == 0 { // the message begins after the Close frame
				wantClient, wantBackend = nil, nil
			} else {
				finish()
			}
			checkClosed(t, fmt.Sprintf("cut at %d, client", cutClient), r.client, wantClient, nil)
			checkClosed(t, fmt.Sprintf("cut at %d, backend", cutClient), r.backend, wantBackend, client)
			if cutClient == 0 {
				finish()
			}
			r.client.Write(ws.AppendClose(nil, 1001, "", &[4]byte{1, 2, 3, 4}))
			r.backend.Write(ws.AppendClose(nil, 1001, "", nil))
			if res := r.wait(t); res.By != Proxy || res.Cause != CauseDrain || res.Code != 1001 {
				t.Fatalf("cut at %d: ended by %s, %s, code %d", cutClient, res.By, res.Cause, res.Code)
			}
			for _, end := range []net.Conn{r.client, r.backend} {
				if got, _ := io.ReadAll(end); len(got) > 0 {
					t.Fatalf("cut at %d: %q came after the Close frame", cutClient, got)
				}
			}
			r.client.Close()
			r.backend.Close()
		}
	}
}

func (r *rig) waitForBytes(t *testing.T, toBackend, toClient int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		s := r.Stats()
		if s.ToBackend.Bytes == uint64(toBackend) && s.ToClient.Bytes == uint64(toClient) {
			return
		}
	}
	t.Fatalf("the tunnel did not take %d and %d bytes", toBackend, toClient)
}

// tell has a peer send something, and waits until the tunnel has read it: a clock that is turned before that would have it said later.
func (r *rig) tell(t *testing.T, from Side, p []byte) {
	t.Helper()
	counted := make(chan bool)
	r.loop.Post(func() { close(counted) }) // what the peers have read already
	<-counted
	s, peer := r.Stats(), r.client
	toBackend, toClient := int(s.ToBackend.Bytes)+len(p), int(s.ToClient.Bytes)
	if from == Backend {
		peer, toBackend, toClient = r.backend, toBackend-len(p), toClient+len(p)
	}
	peer.Write(p)
	r.waitForBytes(t, toBackend, toClient)
}

// checkClosed reads the message, if one was begun before the order, and then the Close frame.
func checkClosed(t *testing.T, name string, conn net.Conn, message, masked []byte) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	got := make([]byte, len(message))
	if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, message) {
		t.Fatalf("%s: read %q, %v; want %q", name, got, err, message)
	}
	head := make([]byte, 2)
	if _, err := io.ReadFull(conn, head); err != nil {
		t.Fatalf("%s: no close frame: %v", name, err)
	}
	wantLength := byte(5)
	if masked != nil {
		wantLength |= 0x80
	}
	if head[0] != 0x88 || head[1] != wantLength {
		t.Fatalf("%s: frame %x, want a Close of 5 bytes", name, head)
	}
	rest := make([]byte, 5)
	var mask [4]byte
	if masked != nil {
		io.ReadFull(conn, mask[:])
	}
	io.ReadFull(conn, rest)
	for i := range rest {
		rest[i] ^= mask[i%4]
	}
	if string(rest) != "\x03\xe9bye" {
		t.Fatalf("%s: payload %q", name, rest)
	}
}

func TestTunnelPassesNothingAfterItsCloseFrame(t *testing.T) {
	r := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
	r.Close(1001, "bye", CauseDrain, time.Minute)
	expect(t, "client", r.client, ws.AppendClose(nil, 1001, "bye", nil))
	for range 10 {
		r.backend.Write(ws.AppendFrame(nil, ws.OpText, []byte("late"), nil))
		r.lives(t, 5*time.Second)
	}
	clock.Skip(10 * time.Second)
	if got, _ := io.ReadAll(r.client); len(got) > 0 {
		t.Errorf("client read %x behind the Close frame", got)
	}
	r.wait(t)
}

func TestTunnelCloseIsBoundedWhenThePeerIsStalled(t *testing.T) {
	r := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
	r.stall(t)
	r.Close(1001, "bye", CauseDrain, time.Minute)
	r.lives(t, 50*time.Second)
	clock.Skip(10 * time.Second)
	if res := r.wait(t); res.Cause != CauseDrain {
		t.Errorf("ended by %s, %s", res.By, res.Cause)
	}
}

// TestTunnelHoldsLittleOfWhatAPeerDoesNotTake: 64 KiB at most of each direction, and of a long payload what fits into a pipe, which is sixteen
// pieces of 32 KiB at most.
func TestTunnelHoldsLittleOfWhatAPeerDoesNotTake(t *testing.T) {
	const most, mostSpliced = 64 << 10, 16 * 32 << 10
	for _, test := range []struct {
		name      string
		transport transport
		overhead  int // of the records of TLS
	}{{"tcp", plainTCP, 0}, {"tls", overTLS, 5 * 40}} {
		for _, size := range []int{100, 20_000, 60_000, 64 << 20} {
			t.Run(fmt.Sprintf("%s, frames of %d bytes", test.name, size), func(t *testing.T) {
				r := newRig(t, test.transport, test.transport, Options{}, nil, nil)
				var senders sync.WaitGroup
				for _, end := range []struct {
					conn net.Conn
					as   Side
				}{{r.client, Client}, {r.backend, Backend}} {
					stream := bytes.Repeat(testFrame(end.as, ws.OpBinary, string(make([]byte, size))), 1+(1<<20)/size)
					senders.Go(func() {
						for {
							if _, err := end.conn.Write(stream); err != nil {
								return
							}
						}
					})
				}
				check := func() {
					toClient, toBackend, spliced := r.pending()
					if max(toClient, toBackend) > most+test.overhead || spliced > mostSpliced {
						t.Fatalf("%d bytes for the client and %d for the backend are pending, and %d in a pipe", toClient, toBackend, spliced)
					}
				}
				awaitFlat(func() uint64 {
					check()
					s := r.Stats()
					return s.ToClient.Bytes + s.ToBackend.Bytes
				})
				for name, s := range map[string]*endpoint{"client": &r.Tunnel.client, "backend": &r.Tunnel.backend} {
					if r.reads(s) {
						t.Errorf("the %s is still read from", name)
					}
				}
				r.client.Close()
				r.backend.Close()
				senders.Wait()
				r.wait(t)
			})
		}
	}
}

func TestTunnelIdleTimeoutSendsCloseFrames(t *testing.T) {
	r := newRig(t, plainTCP, plainTCP, Options{IdleTimeout: time.Minute, CloseTimeout: time.Second}, nil, nil)
	for range 5 { // activity in one direction keeps it open
		r.lives(t, 50*time.Second)
		r.tell(t, Backend, ws.AppendFrame(nil, ws.OpText, []byte("x"), nil))
	}
	r.lives(t, 50*time.Second)
	clock.Skip(10 * time.Second)
	stream := bytes.Repeat(ws.AppendFrame(nil, ws.OpText, []byte("x"), nil), 5)
	expect(t, "client", r.client, ws.AppendClose(stream, 1001, "idle timeout", nil))
	r.lives(t, 500*time.Millisecond)
	clock.Skip(500 * time.Millisecond)
	if res := r.wait(t); res.By != Proxy || res.Cause != CauseIdle {
		t.Errorf("ended by %s, %s", res.By, res.Cause)
	}
}
