package tunnel

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
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
	r.Close(1001, "bye", CauseDrain, time.Hour)
	r.lives(t, 0) // it has its order
	r.backend.Write(half)
	expect(t, "client", r.client, half)
	checkClosed(t, "client", r.client, nil, nil)
	r.end(t)
}

func TestOwnCloseIsNoReset(t *testing.T) {
	for range 50 {
		r := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
		r.Close(1001, "", CauseDrain, time.Minute)
		r.lives(t, 50*time.Second)
		clock.Skip(10 * time.Second)
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
	const stalled = 40
	var all []*rig
	for i := range stalled {
		transport := plainTCP
		if i%4 == 0 {
			transport = overTLS
		}
		r := newRig(t, transport, plainTCP, Options{}, nil, nil)
		r.flood(t)
		all = append(all, r)
	}
	awaitFlat(func() (n uint64) {
		for _, r := range all {
			n += r.Stats().ToClient.Bytes
		}
		return n
	})
	live := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
	defer live.end(t)
	var took []time.Duration
	for range 200 {
		message := testFrame(Client, ws.OpText, "are you there?")
		start := time.Now()
		live.client.Write(message)
		expect(t, "backend", live.backend, message)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	if median := took[len(took)/2]; median > 10*time.Millisecond {
		t.Errorf("a message takes %v beside stalled tunnels", median)
	}
}

// TestThousandsOfTunnelsLeaveNothing ends 5,000 tunnels in every way, at any moment.
func TestThousandsOfTunnelsLeaveNothing(t *testing.T) {
	keeper := newRig(t, plainTCP, plainTCP, Options{}, testFrame(Client, ws.OpText, "begun"), nil)
	expect(t, "backend", keeper.backend, testFrame(Client, ws.OpText, "begun"))
	front, back := plainTCP.listen(t), plainTCP.listen(t)
	came := acceptOn(t, front)
	awaitFlat(func() uint64 { return uint64(runtime.NumGoroutine() + openDescriptors()) })
	goroutines, descriptors := runtime.NumGoroutine(), openDescriptors()
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
			client, err := net.Dial("tcp", front.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			ourClient := <-came
			ourBackend, backend := dialTo(t, ourClient.Loop(), back)
			ended.Add(1)
			tunnel := join(ourClient, ourBackend, nil, nil, Options{
				HalfCloseTimeout: time.Minute, IdleTimeout: 2 * time.Minute,
				CloseTimeout: 10 * time.Second, Ping: time.Duration(random.IntN(2)) * 30 * time.Second,
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
				tunnel.Close(1001, "bye", CauseDrain, 5*time.Second)
			}
			tunnel.Inject(Client, ws.OpPing, []byte("x"))
			tunnel.Stats()
		}
		turnUntil(&ended)
	}
	if n := known.Load(); n != waves*size {
		t.Errorf("%d tunnels of %d said why they ended", n, waves*size)
	}
	deadline := time.Now().Add(10 * time.Second)
	for openDescriptors() > descriptors || runtime.NumGoroutine() > goroutines {
		if time.Now().After(deadline) {
			t.Fatalf("descriptors: %d, were %d; goroutines: %d, were %d",
				openDescriptors(), descriptors, runtime.NumGoroutine(), goroutines)
		}
		time.Sleep(5 * time.Millisecond)
	}
	keeper.end(t)
}

// turnUntil turns the clock until all have ended.
func turnUntil(ended *sync.WaitGroup) {
	done := make(chan struct{})
	go func() {
		ended.Wait()
		close(done)
	}()
	for {
		select {
		case <-done:
			return
		case <-time.After(5 * time.Millisecond):
			clock.Skip(2 * time.Second)
		}
	}
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
