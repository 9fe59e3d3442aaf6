package tunnel

import (
	"net"
	"strings"
	"testing"
	"time"

	"wstunnel/internal/ws"
)

// pushed puts a text into the stream to the client and returns the first outcome, and where the second one comes.
func (r *rig) pushed(t *testing.T, text string, ttl time.Duration) (first Outcome, then chan Outcome) {
	t.Helper()
	then = make(chan Outcome, 2)
	Push([]*Tunnel{r.Tunnel}, NewMessage(Client, ws.OpText, []byte(text), ttl), func(o Outcome, _ bool) { then <- o })
	return <-then, then
}

// midMessage has the backend begin a message, whose rest it returns.
func (r *rig) midMessage(t *testing.T) (rest []byte) {
	t.Helper()
	message := testFrame(Backend, ws.OpText, "a message in two pieces")
	r.backend.Write(message[:7])
	expect(t, "client", r.client, message[:7])
	return message[7:]
}

func TestPushedMessageIsWrittenBetweenMessages(t *testing.T) {
	r := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
	if first, _ := r.pushed(t, "at once", time.Second); first != Written {
		t.Errorf("outcome %d", first)
	}
	if op, text := readFrame(t, r.client); op != ws.OpText || string(text) != "at once" {
		t.Fatalf("client read %x %q", op, text)
	}
	rest := r.midMessage(t)
	var thens []chan Outcome
	for _, text := range []string{"one", "two", "three"} {
		first, then := r.pushed(t, text, time.Second)
		if first != Queued {
			t.Errorf("outcome %d", first)
		}
		thens = append(thens, then)
	}
	r.backend.Write(rest)
	expect(t, "client", r.client, rest)
	for i, want := range []string{"one", "two", "three"} {
		if _, text := readFrame(t, r.client); string(text) != want {
			t.Errorf("client read %q, want %q", text, want)
		}
		if o := <-thens[i]; o != Written {
			t.Errorf("%s: outcome %d", want, o)
		}
	}
	r.end(t)
}

func TestMessageToTheBackendIsMaskedAfresh(t *testing.T) {
	r := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
	m, told := NewMessage(Backend, ws.OpText, []byte("up"), time.Second), make(chan Outcome, 1)
	Push([]*Tunnel{r.Tunnel}, m, func(o Outcome, _ bool) { told <- o })
	if op, text := readFrame(t, r.backend); op != ws.OpText || string(text) != "up" || <-told != Written {
		t.Errorf("backend read %x %q", op, text)
	}
	if one, other := string(m.Frame()), string(m.Frame()); one == other {
		t.Error("two masks are the same")
	}
	r.end(t)
}

func TestQueueOfPushedMessagesIsBounded(t *testing.T) {
	for _, c := range []struct {
		name  string
		text  string
		taken int
	}{
		{"in number", "short", 64},
		{"in bytes", strings.Repeat("x", 64<<10), 4},
		{"the longest message", strings.Repeat("x", MaxMessage), 1},
	} {
		r := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
		rest := r.midMessage(t)
		for n := range c.taken + 1 {
			want := Queued
			if n == c.taken {
				want = Full
			}
			if first, _ := r.pushed(t, c.text, time.Minute); first != want {
				t.Fatalf("%s: message %d has outcome %d, want %d", c.name, n+1, first, want)
			}
		}
		r.backend.Write(rest)
		expect(t, "client", r.client, rest)
		for range c.taken {
			expect(t, "client", r.client, testFrame(Backend, ws.OpText, c.text))
		}
		if first, _ := r.pushed(t, "room again", time.Second); first != Written {
			t.Errorf("%s: outcome %d", c.name, first)
		}
		r.end(t)
	}
}

func TestPushedMessageExpires(t *testing.T) {
	r := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
	rest := r.midMessage(t)
	_, early := r.pushed(t, "early", 10*time.Second)
	_, late := r.pushed(t, "late", 30*time.Second)
	r.loop.Clock().Skip(9 * time.Second)
	if len(early) > 0 {
		t.Fatal("dropped before its time")
	}
	r.loop.Clock().Skip(2 * time.Second)
	if o := <-early; o != Expired {
		t.Errorf("outcome %d", o)
	}
	r.backend.Write(rest)
	expect(t, "client", r.client, append(rest, testFrame(Backend, ws.OpText, "late")...))
	if o := <-late; o != Written {
		t.Errorf("outcome %d", o)
	}
	r.end(t)
}

func TestNothingIsPushedWhereNoMessageMayStand(t *testing.T) {
	for _, c := range []struct {
		name string
		last []byte
		want Outcome
	}{
		{"behind a Close frame", ws.AppendClose(nil, ws.CloseNormal, "", nil), Closed},
		{"behind a violation", []byte{0x83, 0}, Broken},
	} {
		r := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
		r.backend.Write(c.last)
		expect(t, "client", r.client, c.last)
		if first, _ := r.pushed(t, "too late", time.Second); first != c.want {
			t.Errorf("%s: outcome %d, want %d", c.name, first, c.want)
		}
		r.end(t)
		if first, _ := r.pushed(t, "gone", time.Second); first != Closed {
			t.Errorf("%s, ended: outcome %d", c.name, first)
		}
	}
}

// TestEndOfATunnelIsToldOfItsMessages that wait, and a Close frame that comes first, too.
func TestEndOfATunnelIsToldOfItsMessages(t *testing.T) {
	r := newRig(t, plainTCP, plainTCP, Options{}, nil, nil)
	r.midMessage(t)
	_, then := r.pushed(t, "waits", time.Minute)
	r.client.(*net.TCPConn).SetLinger(0)
	r.end(t)
	if o := <-then; o != Closed {
		t.Errorf("outcome %d", o)
	}
}
