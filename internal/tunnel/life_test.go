package tunnel

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"wstunnel/internal/ws"
)

func TestFramesMayBeCutAnywhere(t *testing.T) {
	message := testFrame(Client, ws.OpText, "text")
	message = append(message, testFrame(Client, ws.OpPing, "")...)
	message = append(message, testFrame(Client, ws.OpBinary, string(make([]byte, 130)))...)
	for _, transport := range []transport{plainTCP, overTLS, unixSocket} {
		r := newRig(t, transport, plainTCP, Options{}, nil, nil)
		for cut := range len(message) {
			r.client.Write(message[:cut])
			expect(t, "backend", r.backend, message[:cut])
			r.client.Write(message[cut:])
			expect(t, "backend", r.backend, message[cut:])
		}
		r.waitForBytes(t, len(message)*len(message), 0)
		if s := r.Stats().ToBackend; s.Opaque || s.Messages != uint64(2*len(message)) {
			t.Errorf("counted %d messages of %d, opaque %v", s.Messages, 2*len(message), s.Opaque)
		}
		r.end(t)
	}
}

// TestCloseOrderIsObeyedBehindASplicedFrame: the order comes while a payload moves inside the kernel, and the frame is
// the last that the backend sends.
func TestCloseOrderIsObeyedBehindASplicedFrame(t *testing.T) {
	r := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
	const size = 3 << 20
	head := binary.BigEndian.AppendUint64([]byte{0x82, 127}, size)
	r.backend.Write(head)
	expect(t, "client", r.client, head)
	half := make([]byte, size/2)
	r.backend.Write(half)
	expect(t, "client", r.client, half)
	r.Close(1001, "bye", CauseDrain, 5*time.Second)
	time.Sleep(20 * time.Millisecond)
	r.backend.Write(half)
	expect(t, "client", r.client, half)
	start := time.Now()
	checkClosed(t, "client", r.client, nil, nil)
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("the Close frame took %v", took)
	}
	r.end(t)
}

func TestOwnCloseIsNoReset(t *testing.T) {
	for range 50 {
		r := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
		r.Close(1001, "", CauseDrain, time.Millisecond)
		for name, conn := range map[string]net.Conn{"client": r.client, "backend": r.backend} {
			if _, err := io.ReadAll(conn); err != nil {
				t.Fatalf("the %s saw %v", name, err)
			}
		}
		if res := r.wait(t); res.Cause != CauseDrain {
			t.Fatalf("ended by %s, %s", res.By, res.Cause)
		}
	}
}

func TestStalledTunnelHarmsNoOther(t *testing.T) {
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	const stalled = 40
	for i := range stalled {
		transport := plainTCP
		if i%4 == 0 {
			transport = overTLS
		}
		r := newRig(t, transport, plainTCP, Options{}, nil, nil)
		go func() {
			flood := ws.AppendFrame(nil, ws.OpBinary, make([]byte, 60_000), nil)
			for {
				if _, err := r.backend.Write(flood); err != nil {
					return
				}
			}
		}()
		defer r.end(t)
	}
	time.Sleep(300 * time.Millisecond) // all buffers are full
	runtime.GC()
	runtime.ReadMemStats(&during)
	// In the heap: what is pending, and the senders' floods, which are not ours.
	if grown := int64(during.HeapAlloc) - int64(before.HeapAlloc); grown > stalled*(64+64+128)<<10 {
		t.Errorf("%d stalled tunnels hold %d KiB", stalled, grown>>10)
	}
	live := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
	defer live.end(t)
	var worst time.Duration
	for range 200 {
		message := testFrame(Client, ws.OpText, "are you there?")
		start := time.Now()
		live.client.Write(message)
		expect(t, "backend", live.backend, message)
		worst = max(worst, time.Since(start))
	}
	if worst > time.Second {
		t.Errorf("a message took %v beside stalled tunnels", worst)
	}
}

// TestThousandsOfTunnelsLeaveNothing ends 5,000 tunnels in every way, at any moment.
func TestThousandsOfTunnelsLeaveNothing(t *testing.T) {
	keeper := newRig(t, plainTCP, plainTCP, Options{}, testFrame(Client, ws.OpText, "begun"), nil)
	expect(t, "backend", keeper.backend, testFrame(Client, ws.OpText, "begun"))
	time.Sleep(50 * time.Millisecond) // it comes to rest
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	var ended sync.WaitGroup
	var known atomic.Int64
	const waves, size = 20, 250
	var streams, answers [17][]byte
	for i := range streams {
		random := rand.New(rand.NewPCG(uint64(i), 3))
		streams[i], _ = frames(random, true, 6)
		answers[i], _ = frames(random, false, 6)
	}
	streams[0], answers[1] = payload(rand.New(rand.NewPCG(1, 1)), 5000), payload(rand.New(rand.NewPCG(1, 2)), 5000)
	for wave := range waves {
		for i := range size {
			random := rand.New(rand.NewPCG(uint64(wave), uint64(i)))
			ourClient, client := dialled(t, listener)
			ourBackend, backend := dialled(t, listener)
			ended.Add(1)
			tunnel := join(t, ourClient, ourBackend, nil, nil, Options{
				HalfCloseTimeout: 200 * time.Millisecond, IdleTimeout: 400 * time.Millisecond,
				CloseTimeout: 50 * time.Millisecond, Ping: time.Duration(random.IntN(2)) * 100 * time.Millisecond,
			}, func(r Result) {
				if r.Cause != "" && r.By != "" {
					known.Add(1)
				}
				ended.Done()
			})
			seed := random.Uint64()
			ended.Go(func() { misbehave(client, Client, streams[i%len(streams)], seed) })
			ended.Go(func() { misbehave(backend, Backend, answers[i%len(answers)], seed+1) })
			if random.IntN(10) == 0 {
				tunnel.Close(1001, "bye", CauseDrain, 20*time.Millisecond)
			}
			tunnel.Inject(Client, ws.OpPing, []byte("x"))
			tunnel.Stats()
		}
		ended.Wait()
	}
	if n := known.Load(); n != waves*size {
		t.Errorf("%d tunnels of %d said why they ended", n, waves*size)
	}
	deadline := time.Now().Add(10 * time.Second)
	for openDescriptors() > descriptors+1 || runtime.NumGoroutine() > goroutines {
		if time.Now().After(deadline) {
			t.Fatalf("descriptors: %d, were %d; goroutines: %d, were %d",
				openDescriptors(), descriptors, runtime.NumGoroutine(), goroutines)
		}
		time.Sleep(5 * time.Millisecond)
	}
	keeper.end(t)
}

// openDescriptors counts the process's descriptors, but for those in the pools of pipes.
func openDescriptors() (n int) {
	entries, _ := os.ReadDir("/proc/self/fd")
	for _, e := range entries {
		if name, _ := os.Readlink("/proc/self/fd/" + e.Name()); len(name) < 5 || name[:5] != "pipe:" {
			n++
		}
	}
	return n
}

func dialled(t *testing.T, l net.Listener) (ours, peers net.Conn) {
	t.Helper()
	peers, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if ours, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return ours, peers
}

// misbehave plays a peer that talks, stalls, and leaves in any way.
func misbehave(conn net.Conn, as Side, stream []byte, seed uint64) {
	random := rand.New(rand.NewPCG(seed, 3))
	defer conn.Close()
	reading := random.IntN(4) > 0
	if reading {
		go io.Copy(io.Discard, conn)
	}
	conn.SetDeadline(time.Now().Add(time.Duration(random.IntN(100)) * time.Millisecond))
	stream = stream[:random.IntN(len(stream)+1)]
	for len(stream) > 0 {
		n := min(len(stream), 1+random.IntN(70_000))
		if _, err := conn.Write(stream[:n]); err != nil {
			break
		}
		stream = stream[n:]
	}
	tcp := conn.(*net.TCPConn)
	switch random.IntN(4) {
	case 0:
		tcp.SetLinger(0)
	case 1:
		tcp.CloseWrite()
		time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
	case 2:
		conn.Write(ws.AppendClose(nil, 1000, "", maskFor(as)))
	case 3:
		time.Sleep(time.Duration(random.IntN(30)) * time.Millisecond)
	}
}

func maskFor(as Side) *[4]byte {
	if as == Client {
		return &[4]byte{1, 2, 3, 4}
	}
	return nil
}

func TestResetIsPassedOnBehindWhatCameBefore(t *testing.T) {
	r := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
	message := testFrame(Backend, ws.OpText, "last words")
	r.backend.Write(message)
	expect(t, "client", r.client, message)
	r.backend.(*net.TCPConn).SetLinger(0)
	r.backend.Close()
	if rest, err := io.ReadAll(r.client); err == nil {
		t.Errorf("the client saw a clean end after %q", bytes.TrimSpace(rest))
	}
	r.wait(t)
}
