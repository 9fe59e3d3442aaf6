package proxy_test

import (
	"bufio"
	"bytes"
	"compress/flate"
	"crypto/subtle"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"wstunnel/internal/ws"
)

const maxRelayMessage = 1 << 20

func relayTo(address string) string {
	return `{path: /ws, mode: relay, websocket: "ws://` + address + `"}`
}

const deflateLine = "Sec-WebSocket-Extensions: permessage-deflate\r\n"

// upgradeWith is a handshake on /ws with further header lines.
func upgradeWith(lines string) string {
	return strings.TrimSuffix(upgrade, "\r\n") + lines + "\r\n"
}

// relayed opens a relayed connection.
func relayed(t *testing.T, f *front, lines string) *client {
	t.Helper()
	c := f.dial()
	c.send(upgradeWith(lines))
	if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		t.Fatalf("answered with %q", head)
	}
	return c
}

// awaitRelaysEnd waits until nothing is left of any relayed connection.
func awaitRelaysEnd(t *testing.T, f *front) {
	t.Helper()
	await(t, "the end of the tunnels", func() bool { return f.server.TunnelCount() == 0 })
	stacks := make([]byte, 1<<20)
	await(t, "the end of the relay's goroutines", func() bool {
		all := string(stacks[:runtime.Stack(stacks, true)])
		return !strings.Contains(all, "websocketproxy") && !strings.Contains(all, "internal/relay.")
	})
}

// clientFrame is a frame from a client, with the first byte given.
func clientFrame(first byte, payload []byte) string {
	frame := ws.AppendFrame(nil, 0, payload, nil)
	frame[0] = first
	frame[1] |= 0x80
	mask := []byte{9, 8, 7, 6}
	masked := slices.Insert(frame, len(frame)-len(payload), mask...)
	xor(masked[len(masked)-len(payload):], mask)
	return string(masked)
}

func clientClose(code uint16, reason string) string {
	return string(ws.AppendClose(nil, code, reason, &[4]byte{1, 2, 3, 4}))
}

// First bytes of frames.
const (
	textFrame       = 0x81
	binaryFrame     = 0x82
	compressedFrame = 0xC1
	closeFrame      = 0x88
)

// deflated is a message as permessage-deflate carries it.
func deflated(message []byte) []byte {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.BestSpeed)
	w.Write(message)
	w.Flush()
	return bytes.TrimSuffix(b.Bytes(), []byte{0, 0, 0xFF, 0xFF})
}

// message reads a masked or unmasked frame of any size, up to what a relayed message may be.
func message(r io.Reader) (first byte, payload []byte, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, nil, err
	}
	size := uint64(head[1] & 0x7F)
	if size >= 126 {
		extra := make([]byte, map[uint64]int{126: 2, 127: 8}[size])
		io.ReadFull(r, extra)
		size = binary.BigEndian.Uint64(append(make([]byte, 8-len(extra)), extra...))
	}
	var mask [4]byte
	if head[1]&0x80 != 0 {
		io.ReadFull(r, mask[:])
	}
	payload = make([]byte, min(size, 16*maxRelayMessage))
	_, err = io.ReadFull(r, payload)
	xor(payload, mask[:])
	return head[0], payload, err
}

// xor masks or unmasks a payload; some here are long.
func xor(payload, mask []byte) {
	subtle.XORBytes(payload, payload, bytes.Repeat(mask, len(payload)/len(mask)+1))
}

// gotten is what a backend got: a frame, or the end.
type gotten struct {
	first   byte
	payload []byte
	err     error
}

func (g gotten) String() string {
	return fmt.Sprintf("%02x %.40q of %d bytes, %v", g.first, g.payload, len(g.payload), g.err)
}

// startReader is a backend that says what it gets and answers a Close frame.
func startReader(t *testing.T) (*backend, <-chan gotten) {
	got, done := make(chan gotten), make(chan bool)
	b := startSocket(t, func(conn net.Conn, br *bufio.Reader) {
		for {
			g := gotten{}
			g.first, g.payload, g.err = message(br)
			if g.first == closeFrame {
				conn.Write(ws.AppendFrame(nil, ws.OpClose, g.payload, nil))
			}
			select {
			case got <- g:
			case <-done:
				return
			}
			if g.err != nil {
				return
			}
		}
	})
	t.Cleanup(func() { close(done) })
	return b, got
}

func next(t *testing.T, got <-chan gotten) gotten {
	t.Helper()
	select {
	case g := <-got:
		return g
	case <-time.After(patience):
		t.Fatal("the backend got nothing")
		return gotten{}
	}
}

// code is the Close code in a payload.
func code(payload string) int {
	if len(payload) < 2 {
		return ws.CloseNoStatus
	}
	return int(binary.BigEndian.Uint16([]byte(payload)))
}

func TestRelayCloseDoesNotWaitForAStalledClient(t *testing.T) {
	for _, scheme := range []string{"ws", "wss"} {
		t.Run(scheme, func(t *testing.T) {
			closed := make(chan bool, 1)
			b := startSocket(t, func(conn net.Conn, br *bufio.Reader) {
				go func() {
					_, payload, err := message(br)
					if err == nil && code(string(payload)) == ws.CloseGoingAway {
						closed <- true
					}
				}()
				flood := bytes.Repeat([]byte(serverText(strings.Repeat("x", 50_000))), 20)
				for {
					if _, err := conn.Write(flood); err != nil {
						return
					}
				}
			})
			f := startTLS(t, secureSite(relayTo(b.address)))
			var c io.Writer = f.dial()
			if scheme == "wss" {
				c = f.dialTLS()
			}
			io.WriteString(c, upgrade)
			await(t, "the tunnel", func() bool { return f.server.TunnelCount() == 1 })
			awaitStall(t, f)
			closing := f.watch()
			ended := f.beginShutdown()
			select {
			case <-closed:
			case <-time.After(patience):
				t.Error("the backend got no Close frame")
			}
			closing.turnTo(4 * time.Second)
			if len(ended) > 0 {
				t.Errorf("it ended too early: %v", <-ended)
			}
			f.server.Skip(time.Second)
			if err := <-ended; err != nil {
				t.Error(err)
			}
			awaitRelaysEnd(t, f)
			if log := f.log.String(); !strings.Contains(log, `"cause":"drain"`) {
				t.Error(log)
			}
		})
	}
}

// awaitStall waits until the write of the only relay to its client has got nowhere for a while.
func awaitStall(t *testing.T, f *front) {
	t.Helper()
	await(t, "the relay", func() bool { return len(f.server.Tunnels()) == 1 })
	stacks, held, before := make([]byte, 1<<20), 0, uint64(0)
	await(t, "the client's stall", func() bool {
		if sent := f.server.Tunnels()[0].ToClient.Bytes; sent != before {
			held, before = 0, sent
		}
		held++
		return held > 100 && strings.Contains(string(stacks[:runtime.Stack(stacks, true)]), "relay.(*endpoint).Write")
	})
}

func TestRelayAnswersTheHandshakeBeforeItCloses(t *testing.T) {
	release := make(chan bool)
	b := startBackend(t, func(b *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		head, _ := rawHead(br)
		b.note(head)
		<-release
		io.WriteString(conn, switching)
		io.Copy(io.Discard, br)
	})
	f := start(t, oneSite(relayTo(b.address)))
	c := f.dial()
	c.send(upgrade)
	await(t, "the handshake", func() bool { return len(b.seen()) == 1 })
	ended := f.beginShutdown()
	await(t, "the drain", func() bool {
		conn, err := net.Dial("tcp", f.plain)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	c.waits(f, 0)
	close(release)
	if head := c.head(); !strings.HasPrefix(head, "HTTP/1.1 101 ") {
		t.Fatalf("the client was first sent %q", head)
	}
	if op, payload := frame(t, c.br); op != ws.OpClose || code(payload) != ws.CloseGoingAway {
		t.Errorf("then opcode %d with %q, want a Close with 1001", op, payload)
	}
	f.server.Skip(5 * time.Second)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestRelayBoundsEachMessageByItself(t *testing.T) {
	b, got := startReader(t)
	f := start(t, oneSite(relayTo(b.address)))
	c := relayed(t, f, "")
	frame := clientFrame(binaryFrame, make([]byte, 4000))
	half, rest := frame[:2000], frame[2000:]
	c.send(half)
	for range maxRelayMessage/4000 + 1 { // no read ever ends where a message does
		c.send(rest, half)
		if g := next(t, got); g.first != binaryFrame || len(g.payload) != 4000 {
			t.Fatalf("the backend got %v", g)
		}
	}
}

func TestRelayRefusesAMessageAboveTheLimit(t *testing.T) {
	b, got := startReader(t)
	f := start(t, oneSite(relayTo(b.address)))
	c := relayed(t, f, "")
	half := make([]byte, maxRelayMessage/2)
	go c.send(clientFrame(0x02, half), clientFrame(0x80, half)) // just as much as may be
	if g := next(t, got); g.first != binaryFrame || len(g.payload) != maxRelayMessage {
		t.Fatalf("the backend got %v", g)
	}
	go c.send(clientFrame(0x02, half), clientFrame(0x00, half), clientFrame(0x80, []byte{1}), clientClose(1009, ""))
	if g := next(t, got); g.first != closeFrame || code(string(g.payload)) != ws.CloseTooBig {
		t.Errorf("the backend got %v", g)
	}
	if op, payload := frame(t, c.br); op != ws.OpClose || code(payload) != ws.CloseTooBig {
		t.Errorf("the client got opcode %d with %q", op, payload)
	}
	c.rest()
	awaitRelaysEnd(t, f)
	if log := f.log.String(); !strings.Contains(log, `"close_code":1009,"closed_by":"proxy","cause":"message too big"`) {
		t.Error(log)
	}
}

func TestRelayKeepsNoMemoryOfABigMessage(t *testing.T) {
	b, got := startReader(t)
	f := start(t, oneSite(relayTo(b.address)))
	c := relayed(t, f, deflateLine)
	c.send(clientFrame(compressedFrame, deflated([]byte("small"))))
	if g := next(t, got); string(g.payload) != "small" {
		t.Fatalf("the backend got %v", g)
	}
	before := heap()
	big := compressible(maxRelayMessage)
	c.send(clientFrame(compressedFrame, deflated(big)))
	if g := next(t, got); !bytes.Equal(g.payload, big) {
		t.Fatalf("the backend got %v", g)
	}
	await(t, "the memory to be free", func() bool { return heap() < before+512<<10 })
}

// compressible is a message that deflates to a tenth or less of its size, yet not to less than a hundredth.
func compressible(size int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "line %x of a long message that nobody reads; ", i*i)
	}
	return b.Bytes()[:size]
}

// collected is when a test had the garbage collected last, in which loops have to help.
var collected atomic.Int64

// heap returns how many bytes live.
func heap() uint64 {
	collected.Store(math.MaxInt64)
	defer func() { collected.Store(time.Now().UnixNano()) }()
	runtime.GC()
	runtime.GC() // what a sync.Pool held is gone after the second
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	metrics.Read(live)
	return live[0].Value.Uint64()
}

func TestRelayRefusesAMessageThatInflatesTooFar(t *testing.T) {
	b, got := startReader(t)
	f := start(t, oneSite(relayTo(b.address)))
	c := relayed(t, f, deflateLine)
	c.send(clientFrame(compressedFrame, deflated(compressible(maxRelayMessage+1))))
	if op, payload := frame(t, c.br); op != ws.OpClose || code(payload) != ws.CloseTooBig {
		t.Errorf("the client got opcode %d with %q", op, payload)
	}
	if g := next(t, got); g.first != closeFrame || code(string(g.payload)) != ws.CloseTooBig {
		t.Errorf("the backend got %v", g)
	}
}

func TestRelayRefusesAMessageThatIsMostlyAir(t *testing.T) {
	good := [][]byte{make([]byte, 1<<20), compressible(5 << 18)}
	packed := [][]byte{deflated(good[0]), deflated(good[1])} // before the time that a connection has begins
	air := deflated(make([]byte, 2<<20))
	b, got := startReader(t)
	f := start(t, oneSite(`{path: /ws, mode: relay, max_message: 16MiB, websocket: "ws://`+b.address+`"}`))
	c := relayed(t, f, deflateLine)
	for i := range good {
		c.send(clientFrame(compressedFrame, packed[i]))
		if g := next(t, got); !bytes.Equal(g.payload, good[i]) {
			t.Errorf("the backend got %v", g)
		}
	}
	c.send(clientFrame(compressedFrame, air))
	if op, payload := frame(t, c.br); op != ws.OpClose || code(payload) != ws.CloseTooBig || !strings.Contains(payload, "100 times") {
		t.Errorf("the client got opcode %d with %q", op, payload)
	}
	if g := next(t, got); g.first != closeFrame {
		t.Errorf("the backend got %v", g)
	}
}

func TestRelayInflatesFragmentsWithAPingBetween(t *testing.T) {
	b, got := startReader(t)
	f := start(t, oneSite(relayTo(b.address)))
	c := relayed(t, f, deflateLine)
	compressed := deflated([]byte(strings.Repeat("fragments ", 1000)))
	c.send(clientFrame(0x41, compressed[:10]), clientFrame(0x89, []byte("there?")))
	if op, payload := frame(t, c.br); op != ws.OpPong || payload != "there?" {
		t.Fatalf("the client got opcode %d with %q", op, payload)
	}
	c.send(clientFrame(0x00, nil), clientFrame(0x80, compressed[10:]), text("plain"))
	if g := next(t, got); g.first != textFrame || string(g.payload) != strings.Repeat("fragments ", 1000) {
		t.Errorf("the backend got %v", g)
	}
	if g := next(t, got); g.first != textFrame || string(g.payload) != "plain" {
		t.Errorf("the backend got %v", g)
	}
}

func TestRelayWritesALongMessageToTheBackendAsOneFrame(t *testing.T) {
	b, got := startReader(t)
	f := start(t, oneSite(relayTo(b.address)))
	c := relayed(t, f, "")
	for _, size := range []int{0, 1, 125, 126, 4095, 4096, 4097, 8192, 8193, 65535, 65536, 1 << 20} {
		payload := make([]byte, size)
		for i := range payload {
			payload[i] = byte(i ^ i>>8)
		}
		go c.send(clientFrame(0x01, payload[:size/3]), clientFrame(0x80, payload[size/3:]))
		if g := next(t, got); g.first != textFrame || !bytes.Equal(g.payload, payload) {
			t.Fatalf("of %d bytes the backend got %v", size, g)
		}
	}
}

func TestRelayReachesAUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "chat.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	startBackendOn(t, l, func(_ *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		rawHead(br)
		io.WriteString(conn, switching+serverText("hello"))
		io.Copy(io.Discard, br)
	})
	f := start(t, oneSite(`{path: /ws, mode: relay, websocket: "unix:`+path+`"}`))
	if op, payload := frame(t, relayed(t, f, "").br); op != ws.OpText || payload != "hello" {
		t.Errorf("got opcode %d with %q", op, payload)
	}
}

func TestRelayTakesAHandshakeWithManyCookies(t *testing.T) {
	b, _ := startReader(t)
	f := start(t, oneSite(relayTo(b.address)))
	cookie := "Cookie: " + strings.Repeat("c", 6000) + "\r\n"
	relayed(t, f, cookie)
	if !strings.Contains(b.seen()[0], cookie) {
		t.Error("the backend did not get the cookie")
	}
}

func TestRelayClosesOnAProtocolError(t *testing.T) {
	tests := []struct {
		name   string
		lines  string
		frames string
		code   int
		reason string
	}{
		{"RSV1 without compression", "", clientFrame(0xC1, deflated([]byte("x"))), 1002, "reserved bit"},
		{"RSV1 in a ping", deflateLine, clientFrame(0xC9, nil), 1002, "reserved bit"},
		{"RSV1 in a continuation", deflateLine, clientFrame(0x01, nil) + clientFrame(0xC0, nil), 1002, "reserved bit"},
		{"RSV2", deflateLine, clientFrame(0xA1, nil), 1002, "reserved bit"},
		{"no mask", "", serverText("x"), 1002, "masked"},
		{"reserved opcode", "", clientFrame(0x83, nil), 1002, "opcode"},
		{"continuation of nothing", "", clientFrame(0x80, nil), 1002, "continuation"},
		{"Close code 1005", "", clientClose(1005, ""), 1002, "code 1005"},
		{"Close reason", "", clientClose(1000, "\xff"), 1007, "UTF-8"},
		{"no deflate", deflateLine, clientFrame(0xC1, []byte{0xFF, 0xFF}), 1007, "inflating"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b, got := startReader(t)
			f := start(t, oneSite(relayTo(b.address)))
			c := relayed(t, f, tt.lines)
			c.send(text("before"), tt.frames)
			if op, payload := frame(t, c.br); op != ws.OpClose || code(payload) != tt.code || !strings.Contains(payload, tt.reason) {
				t.Errorf("the client got opcode %d with %q", op, payload)
			}
			if g := next(t, got); string(g.payload) != "before" {
				t.Errorf("the backend got %v, not the message before the error", g)
			}
			if g := next(t, got); g.first != closeFrame || code(string(g.payload)) != tt.code {
				t.Errorf("the backend got %v", g)
			}
			c.Close()
			awaitRelaysEnd(t, f)
			want := fmt.Sprintf(`"close_code":%d,"closed_by":"proxy","cause":"protocol error","error":"client: `, tt.code)
			if log := f.log.String(); !strings.Contains(log, want) {
				t.Errorf("no %s in %s", want, log)
			}
		})
	}
}

func TestRelayClosesOnACompressedMessageFromTheBackend(t *testing.T) {
	b := startSocket(t, func(conn net.Conn, br *bufio.Reader) {
		conn.Write([]byte{0xC1, 0})
		io.Copy(io.Discard, br)
	})
	f := start(t, oneSite(relayTo(b.address)))
	c := relayed(t, f, deflateLine)
	if op, payload := frame(t, c.br); op != ws.OpClose || code(payload) != 1002 {
		t.Errorf("the client got opcode %d with %q", op, payload)
	}
}

func TestRelayRefusesExtensionsThatNobodyAskedFor(t *testing.T) {
	b := startHeads(t, always(strings.TrimSuffix(switching, "\r\n")+deflateLine+"\r\n"))
	f := start(t, oneSite(relayTo(b.address)))
	c := f.dial()
	c.send(upgradeWith(deflateLine))
	c.expect(502)
	if log := f.log.String(); !strings.Contains(log, "extensions that nobody asked for") {
		t.Error(log)
	}
}

func TestRelayDeclinesAnOfferThatItCannotKeep(t *testing.T) {
	b, _ := startReader(t)
	f := start(t, oneSite(relayTo(b.address)))
	for offer, want := range map[string]int{
		"permessage-deflate; client_max_window_bits":    1,
		"permessage-deflate; server_max_window_bits=10": 0,
	} {
		c := f.dial()
		c.send(upgradeWith("Sec-WebSocket-Extensions: " + offer + "\r\n"))
		if head := c.head(); len(field(head, "Sec-WebSocket-Extensions")) != want {
			t.Errorf("%s was answered with %q", offer, head)
		}
	}
}

func TestRelayDeliversWhatCameBeforeTheClose(t *testing.T) {
	for name, last := range map[string]string{"with a code": clientClose(4000, "bye"), "empty": clientFrame(closeFrame, nil)} {
		t.Run(name, func(t *testing.T) {
			b, got := startReader(t)
			f := start(t, oneSite(relayTo(b.address)))
			c := relayed(t, f, "")
			c.send(text("one"), text("two"), last)
			for _, want := range []string{"one", "two"} {
				if g := next(t, got); string(g.payload) != want {
					t.Fatalf("the backend got %v, want %q", g, want)
				}
			}
			_, payload, _ := message(strings.NewReader(last))
			if g := next(t, got); g.first != closeFrame || !bytes.Equal(g.payload, payload) {
				t.Errorf("the backend got %v", g)
			}
			if op, answer := frame(t, c.br); op != ws.OpClose || answer != string(payload) {
				t.Errorf("the client got opcode %d with %q", op, answer)
			}
			c.rest()
		})
	}
}

func TestRelayEndsWithTheAnswerOfABackendThatGoesOnSending(t *testing.T) {
	b := startSocket(t, func(conn net.Conn, br *bufio.Reader) {
		message(br)
		io.WriteString(conn, serverText("late"))
		time.Sleep(20 * time.Millisecond)
		io.WriteString(conn, serverText("late")+string(ws.AppendClose(nil, 4001, "at last", nil)))
		io.Copy(io.Discard, br)
	})
	f := start(t, oneSite(relayTo(b.address)))
	c := relayed(t, f, "")
	c.send(clientClose(4000, ""))
	for range 2 {
		if op, payload := frame(t, c.br); op != ws.OpText || payload != "late" {
			t.Errorf("the client got opcode %d with %q", op, payload)
		}
	}
	if op, payload := frame(t, c.br); op != ws.OpClose || payload != "\x0f\xa1at last" {
		t.Errorf("the client got opcode %d with %q", op, payload)
	}
	begin := time.Now()
	if rest := c.rest(); rest != "" {
		t.Errorf("after the Close frame came %q", rest)
	}
	if took := time.Since(begin); took > 2*time.Second { // of the 2.5 s that one who says nothing more has
		t.Errorf("it took %v", took)
	}
	awaitRelaysEnd(t, f)
}

// TestRelayAnswersACloseThatTheBackendDoesNot, whether that goes or stays.
func TestRelayAnswersACloseThatTheBackendDoesNot(t *testing.T) {
	for name, after := range map[string]func(net.Conn){
		"goes":  func(net.Conn) {},
		"stays": func(conn net.Conn) { io.Copy(io.Discard, conn) },
	} {
		t.Run(name, func(t *testing.T) {
			got := make(chan bool, 1)
			b := startSocket(t, func(conn net.Conn, br *bufio.Reader) {
				message(br)
				got <- true
				after(conn)
			})
			f := start(t, oneSite(relayTo(b.address)))
			c := relayed(t, f, "")
			c.send(clientClose(4000, "bye"))
			pass(got)
			if name == "stays" {
				c.waits(f, 2*time.Second)
				f.server.Skip(500 * time.Millisecond) // half of what the closing handshake may take
			}
			if op, payload := frame(t, c.br); op != ws.OpClose || payload != "\x0f\xa0" {
				t.Errorf("the client got opcode %d with %q", op, payload)
			}
			if name == "stays" {
				f.server.Skip(2500 * time.Millisecond)
			}
			c.rest()
			awaitRelaysEnd(t, f)
		})
	}
}

func TestRelayRefusesASubprotocolThatNobodyAskedFor(t *testing.T) {
	b := startHeads(t, always(strings.TrimSuffix(switching, "\r\n")+"Sec-WebSocket-Protocol: chat\r\n\r\n"))
	f := start(t, oneSite(relayTo(b.address)))
	for offer, status := range map[string]int{"": 502, "Sec-WebSocket-Protocol: talk\r\n": 502, "Sec-WebSocket-Protocol: talk, chat\r\n": 101} {
		c := f.dial()
		c.send(upgradeWith(offer))
		if head := c.head(); !strings.HasPrefix(head, fmt.Sprint("HTTP/1.1 ", status)) {
			t.Errorf("offered %q: %q", offer, head)
		}
	}
}

// TestRelayAnswersNoHandshakeThatIsNoWebSocket13, whatever the backend makes of it: what the client is answered is a handshake of its own.
func TestRelayAnswersNoHandshakeThatIsNoWebSocket13(t *testing.T) {
	gone := make(chan bool, 2)
	b := startBackend(t, func(_ *backend, conn net.Conn) {
		br := bufio.NewReader(conn)
		head, _ := rawHead(br)
		accept := sampleAccept
		if strings.Contains(head, "c2hvcnQ=") {
			accept = ws.Accept("c2hvcnQ=")
		}
		io.WriteString(conn, strings.Replace(switching, sampleAccept, accept, 1))
		io.Copy(io.Discard, br)
		gone <- true
	})
	f := start(t, oneSite(relayTo(b.address)))
	for name, request := range map[string]string{
		"Sec-WebSocket-Version": strings.Replace(upgrade, "Version: 13", "Version: 8", 1),
		"Sec-WebSocket-Key":     strings.Replace(upgrade, sampleKey, "c2hvcnQ=", 1),
	} {
		c := f.dial()
		c.send(request)
		if answer := c.rest(); !strings.HasPrefix(answer, "HTTP/1.1 400 ") || !strings.Contains(answer, name) {
			t.Errorf("answered with %q", answer)
		}
		<-gone
	}
	awaitRelaysEnd(t, f)
}

func TestRelayCountsOnce(t *testing.T) {
	b, _ := startReader(t)
	f := start(t, oneSite(relayTo(b.address)))
	f.server.SetCapacity(3)
	f.apply(t, plainListener+oneSite(relayTo(b.address)))
	for range 3 {
		relayed(t, f, "")
	}
	await(t, "three relays", func() bool {
		c := f.server.Counts()
		return c.Live == 3 && c.Opening == 0
	})
}

func TestRelayLogsWhoEndedItAndLeavesNothing(t *testing.T) {
	half := clientFrame(binaryFrame, make([]byte, 1000))[:500]
	reset := func(conn net.Conn) {
		conn.(*net.TCPConn).SetLinger(0)
		conn.Close()
	}
	wait := func(_ net.Conn, br *bufio.Reader) { io.Copy(io.Discard, br) }
	tests := []struct {
		name   string
		client func(*client)
		serve  func(net.Conn, *bufio.Reader)
		log    string
		noise  bool // websocketproxy may say something about it
	}{
		{
			name: "the client closes", client: func(c *client) { c.send(clientClose(1000, "")); c.rest() },
			serve: func(conn net.Conn, br *bufio.Reader) { message(br); io.WriteString(conn, "\x88\x02\x03\xe8") },
			log:   `"close_code":1000,"closed_by":"client","cause":"close frame"`,
		},
		{
			name: "the backend closes", client: func(c *client) { frame(c.t, c.br); c.send(clientClose(1000, "")); c.rest() },
			serve: func(conn net.Conn, br *bufio.Reader) {
				io.WriteString(conn, "\x88\x02\x03\xe8")
				message(br)
				message(br)
			},
			log: `"close_code":1000,"closed_by":"backend","cause":"close frame"`,
		},
		{
			name: "both close", client: func(c *client) { c.send(clientClose(4001, "")); c.rest() },
			serve: func(conn net.Conn, br *bufio.Reader) {
				message(br)
				io.WriteString(conn, "\x88\x02\x0f\xa1")
				wait(conn, br)
			},
			log: `"close_code":4001,"closed_by":"client","cause":"close frame"`,
		},
		{
			name: "the client ends its stream", client: func(c *client) { c.Close() }, serve: wait,
			log: `"close_code":1006,"closed_by":"client","cause":"end of stream"}`,
		},
		{
			name: "the client is gone in a message", client: func(c *client) { c.send(half); c.Close() }, serve: wait,
			log: `"close_code":1006,"closed_by":"client","cause":"end of stream"}`,
		},
		{
			name: "the client's connection breaks", client: func(c *client) { c.send(half); reset(c.Conn) }, serve: wait,
			log: `"close_code":1006,"closed_by":"client","cause":"connection lost","error":"`, noise: true,
		},
		{
			name: "the backend ends its stream", client: func(c *client) { c.rest() }, serve: func(net.Conn, *bufio.Reader) {},
			log: `"close_code":1006,"closed_by":"backend","cause":"end of stream"}`,
		},
		{
			name: "the backend is gone in a message", client: func(c *client) { c.rest() },
			serve: func(conn net.Conn, _ *bufio.Reader) { io.WriteString(conn, serverText("whole message")[:5]) },
			log:   `"close_code":1006,"closed_by":"backend","cause":"end of stream"}`,
		},
		{
			name: "the backend's connection breaks", client: func(c *client) { c.rest() },
			serve: func(conn net.Conn, _ *bufio.Reader) { reset(conn) },
			log:   `"close_code":1006,"closed_by":"backend","cause":"connection lost","error":"`, noise: true,
		},
		{
			name: "nobody says anything", client: func(c *client) { frame(c.t, c.br); c.send(clientClose(1001, "")); c.rest() },
			serve: func(_ net.Conn, br *bufio.Reader) { message(br) },
			log:   `"close_code":1001,"closed_by":"proxy","cause":"idle timeout"}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			noise := &logBuffer{}
			defer log.SetOutput(log.Writer())
			log.SetOutput(noise)
			b := startSocket(t, tt.serve)
			f := start(t, "timeouts: {tunnel_idle: 1m}\n"+oneSite(relayTo(b.address)))
			c := relayed(t, f, "")
			if tt.name == "nobody says anything" {
				await(t, "the relay", func() bool { return len(f.server.Tunnels()) == 1 })
				c.waits(f, 55*time.Second)
				f.server.Skip(5 * time.Second)
			}
			tt.client(c)
			awaitRelaysEnd(t, f)
			if log := f.log.String(); !strings.Contains(log, tt.log) {
				t.Errorf("no %s in %s", tt.log, log)
			}
			if text := noise.String(); text != "" && !tt.noise {
				t.Errorf("the library logged %q", text)
			}
		})
	}
}
