package handover

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"wstunnel/internal/tunnel"
	"wstunnel/internal/ws"
)

func fullRecord() *Tunnel {
	end := func(role ws.Role) tunnel.EndState {
		return tunnel.EndState{
			Scan:  ws.ScannerState{Messages: 7, Head: []byte{0x81, 0xFE, 1}, Mask: [2]byte{8, 9}, Opcode: ws.OpText, Role: role, InMessage: true, CloseCode: 1000},
			Bytes: 1 << 40, Messages: 7, Bulk: true, Near: true, Unsent: []byte("unsent"), Control: [][]byte{{0x89, 0}}, Data: []tunnel.WaitingMessage{{Frame: []byte{0x81, 0}}, {Frame: []byte{0x82, 0}, TTL: time.Second}},
			Held: []byte{0x8A}, AwaitsPong: true,
		}
	}
	return &Tunnel{
		ID: 1 << 63, Since: time.Unix(1, 5), Listener: "[::]:443", Remote: netip.MustParseAddrPort("[fe80::1%eth0]:65535"), Counted: true,
		Site: "example.com", Location: "/ws", Host: "example.com:443", Path: "/ws/é", Named: netip.MustParseAddr("192.0.2.1"), Upstream: "one", Backend: "127.0.0.1:9000",
		Subprotocol: "chat", Secret: 1<<32 - 1, User: "anna", Groups: []string{"lobby", "room-7"}, Push: 2, Line: &Line{Client: netip.MustParseAddr("::1"), Proto: "b", Target: "c", Referer: "d", UserAgent: "e"},
		State: tunnel.State{
			Idle: time.Hour, HalfClose: time.Minute, Close: time.Second, Quiet: time.Millisecond, Ended: &tunnel.Result{By: tunnel.Client, Cause: tunnel.CauseEOF, Code: 1006},
			Pings:  &tunnel.PingState{Interval: time.Minute, ID: [8]byte{1}, Client: tunnel.PingedState{Sent: -1, End: 1<<64 - 1}},
			Client: end(ws.FromClient), Backend: end(ws.FromServer),
		},
	}
}

func TestRecordComesAsItWent(t *testing.T) {
	for _, want := range []*Tunnel{{}, fullRecord()} {
		b, err := want.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeTunnel(b)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v\n%+v\n%+v", err, got, want)
		}
		for cut := range b {
			if _, err := decodeTunnel(b[:cut]); err == nil {
				t.Fatalf("%d of %d bytes are a record", cut, len(b))
			}
		}
		if _, err := decodeTunnel(append(b, 0)); !errors.Is(err, errLong) {
			t.Error(err)
		}
	}
}

func TestRecordBeyondABoundIsRefused(t *testing.T) {
	for name, change := range map[string]func(*Tunnel){
		"site":     func(r *Tunnel) { r.Site = strings.Repeat("x", maxName+1) },
		"path":     func(r *Tunnel) { r.Path = strings.Repeat("x", maxKept+1) },
		"unsent":   func(r *Tunnel) { r.State.Client.Unsent = make([]byte, maxUnsent+1) },
		"frames":   func(r *Tunnel) { r.State.Client.Data = make([]tunnel.WaitingMessage, maxFrames+1) },
		"groups":   func(r *Tunnel) { r.Groups = make([]string, maxGroups+1) },
		"push":     func(r *Tunnel) { r.Push = maxPush + 1 },
		"a frame":  func(r *Tunnel) { r.State.Client.Control = [][]byte{make([]byte, maxFrame+1)} },
		"duration": func(r *Tunnel) { r.State.Quiet = 1<<63 - 1 },
		"header":   func(r *Tunnel) { r.State.Backend.Scan.Head = make([]byte, 14) },
	} {
		r := fullRecord()
		change(r)
		if _, err := r.encode(); !errors.Is(err, errBound) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzRecord finds bytes that are read and would be written otherwise, or that a tunnel cannot be made of without a panic.
func FuzzRecord(f *testing.F) {
	for _, r := range []*Tunnel{{}, fullRecord()} {
		b, err := r.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeTunnel(b)
		if err != nil {
			return
		}
		again, err := r.encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("% x became % x, %v", b, again, err)
		}
		for _, s := range []ws.ScannerState{r.State.Client.Scan, r.State.Backend.Scan} {
			if scan, err := ws.ScannerAt(s); err == nil {
				scan.Scan(b)
			}
		}
	})
}

// FuzzLink feeds a link with bytes as a younger or an older process that has gone mad would send them.
func FuzzLink(f *testing.F) {
	f.Add([]byte{byte(helloMessage), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2})
	f.Add([]byte{byte(tunnelMessage), 2, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0})
	f.Add([]byte{byte(commitMessage), 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		ours, theirs, err := Pair()
		if err != nil {
			t.Fatal(err)
		}
		taker, err := NewTaker(ours)
		if err != nil {
			t.Fatal(err)
		}
		mad, err := newLink(theirs)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			mad.conn.Write(b)
			mad.conn.CloseWrite()
		}()
		taker.Run(nobody{})
		mad.close()
	})
}

// FuzzState reads the file of a store.
func FuzzState(f *testing.F) {
	f.Add([]byte(magic + "\x01\x00\x00\x01\x02ab"))
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := decodeState(b)
		if err != nil {
			return
		}
		for _, record := range records {
			decodeTunnel(record)
		}
	})
}

// nobody takes no tunnel.
type nobody struct{}

func (nobody) Adopt(_ *Tunnel, client, backend int) (Adopted, error) {
	unix.Close(client)
	unix.Close(backend)
	return nil, errors.New("nobody")
}
func (nobody) Main()       {}
func (nobody) Left(Status) {}

func TestHelloOfAnotherVersionIsUnderstoodAsSuch(t *testing.T) {
	h := Hello{Version: Version + 1, Program: "v9", PID: 1}
	body, err := encoded(h.pass)
	if err != nil {
		t.Fatal(err)
	}
	var got Hello
	if err := decode(append(body, "whatever it has besides"...), got.pass); err != nil {
		t.Fatal(err)
	}
	if err := got.check(); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("format %d", Version+1)) {
		t.Error(err)
	}
	if err := decode([]byte("GET / HTTP/1.1\r\n\r\n"), got.pass); err == nil {
		t.Error("a request is a hello")
	}
}
