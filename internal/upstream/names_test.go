package upstream

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/sys/unix"

	"wstunnel/internal/leaks"
	"wstunnel/internal/reactor"
)

func TestMain(m *testing.M) { leaks.Verify(m) }

// nameServer is a name server with one zone: every name has its addresses, with its TTL.
type nameServer struct {
	conn      *net.UDPConn
	addresses atomic.Pointer[[]string]
	ttl       atomic.Int64 // seconds
	fails     atomic.Bool
	asked     atomic.Int64 // for IPv4 addresses
}

func startNameServer(t *testing.T, ttl int64, addresses ...string) *nameServer {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := &nameServer{conn: conn}
	s.addresses.Store(&addresses)
	s.ttl.Store(ttl)
	ended := make(chan bool)
	go func() {
		defer close(ended)
		for p := make([]byte, 512); ; {
			n, from, err := conn.ReadFromUDPAddrPort(p)
			if err != nil {
				return
			}
			if answer := s.answer(p[:n]); answer != nil {
				conn.WriteToUDPAddrPort(answer, from)
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-ended })
	return s
}

func (s *nameServer) answer(question []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(question) != nil || len(m.Questions) != 1 {
		return nil
	}
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	q := m.Questions[0]
	if q.Type == dnsmessage.TypeA {
		s.asked.Add(1)
		for _, a := range *s.addresses.Load() {
			m.Answers = append(m.Answers, dnsmessage.Resource{
				Header: dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: uint32(s.ttl.Load())}, Body: &dnsmessage.AResource{A: netip.MustParseAddr(a).As4()},
			})
		}
	}
	if s.fails.Load() {
		m.Answers, m.RCode = nil, dnsmessage.RCodeServerFailure
	}
	packed, _ := m.Pack()
	return packed
}

// resolving is a loop that asks a name server.
type resolving struct {
	t     *testing.T
	clock *reactor.Clock
	loop  *reactor.Loop
	names names
}

func startResolving(t *testing.T, s *nameServer) *resolving {
	t.Helper()
	r := &resolving{t: t, clock: reactor.NewClock()}
	group, err := reactor.NewGroup(slog.New(slog.DiscardHandler), r.clock)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(group.Close)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	r.loop = group.Loops[0]
	r.names.init(ctx, r.clock)
	r.names.dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, s.conn.LocalAddr().String())
	}
	return r
}

// find returns the addresses of a name, the first one first, or the error.
func (r *resolving) find() (text string) {
	r.t.Helper()
	found := make(chan string, 1)
	tell := func(at []unix.Sockaddr, err error) {
		if err != nil {
			found <- err.Error()
			return
		}
		text := ""
		for _, a := range at {
			text += netip.AddrFrom4(a.(*unix.SockaddrInet4).Addr).String() + " "
		}
		found <- text
	}
	r.loop.Post(func() {
		if at, _ := r.names.find(r.loop, "backend.example:80", 30*time.Second, 5*time.Second, tell); at != nil {
			tell(at, nil)
		}
	})
	select {
	case text = <-found:
	case <-time.After(10 * time.Second):
		r.t.Fatal("no answer")
	}
	return text
}

// becomes waits until a name has an address.
func (r *resolving) becomes(want string) {
	r.t.Helper()
	got := ""
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		if got = r.find(); got == want {
			return
		}
	}
	r.t.Fatalf("got %s, want %s", got, want)
}

func TestNameIsLookedUpAgainAsItsTTLSays(t *testing.T) {
	for _, tt := range []struct {
		ttl    int64
		counts time.Duration
	}{{10, 10 * time.Second}, {0, time.Second}, {3600, 30 * time.Second}} {
		t.Run(fmt.Sprint(tt.ttl), func(t *testing.T) {
			s := startNameServer(t, tt.ttl, "127.0.0.1")
			r := startResolving(t, s)
			r.becomes("127.0.0.1 ")
			s.addresses.Store(&[]string{"127.0.0.2"})
			early := max(500*time.Millisecond, tt.counts/5) // this clock goes by itself, too
			r.clock.Skip(tt.counts - early)
			asked := s.asked.Load()
			if got := r.find(); got != "127.0.0.1 " || s.asked.Load() != asked {
				t.Errorf("before its time: %s", got)
			}
			r.clock.Skip(early)
			r.becomes("127.0.0.2 ")
			s.addresses.Store(&[]string{"127.0.0.3"})
			r.clock.Skip(time.Hour) // what is so old is not used any more
			if got := r.find(); got != "127.0.0.3 " {
				t.Errorf("an hour later: %s", got)
			}
		})
	}
}

func TestFailedLookUpKeepsTheAddresses(t *testing.T) {
	s := startNameServer(t, 5, "127.0.0.1")
	r := startResolving(t, s)
	s.fails.Store(true)
	if got := r.find(); got == "127.0.0.1 " {
		t.Error("it did not fail")
	}
	s.fails.Store(false)
	r.clock.Skip(2 * time.Second)
	r.becomes("127.0.0.1 ")
	s.fails.Store(true)
	for range 5 {
		r.clock.Skip(time.Minute)
		if got := r.find(); got != "127.0.0.1 " {
			t.Errorf("got %s", got)
		}
	}
	s.fails.Store(false)
	s.addresses.Store(&[]string{"127.0.0.9"})
	r.clock.Skip(2 * time.Second)
	r.becomes("127.0.0.9 ")
}

func TestConnectionsGoRoundTheAddressesOfAName(t *testing.T) {
	r := startResolving(t, startNameServer(t, 60, "127.0.0.1", "127.0.0.2", "127.0.0.3"))
	first := map[string]int{}
	for range 9 {
		first[r.find()[:9]]++
	}
	if len(first) != 3 || first["127.0.0.1"] != 3 {
		t.Errorf("got %v", first)
	}
}

// TestNameIsLookedUpOnceForAll who want it at a time.
func TestNameIsLookedUpOnceForAll(t *testing.T) {
	s := startNameServer(t, 60, "127.0.0.1")
	r := startResolving(t, s)
	done := make(chan bool, 100)
	r.loop.Post(func() {
		for range 100 {
			at, _ := r.names.find(r.loop, "backend.example:80", 30*time.Second, 5*time.Second, func([]unix.Sockaddr, error) { done <- true })
			if at != nil { // it is known by now
				done <- true
			}
		}
	})
	for range 100 {
		<-done
	}
	if n := s.asked.Load(); n != 1 {
		t.Errorf("the name server was asked %d times", n)
	}
}

// FuzzTTL has answers of the DNS of all kinds looked at.
func FuzzTTL(f *testing.F) {
	s := &nameServer{}
	s.addresses.Store(&[]string{"127.0.0.1", "127.0.0.2"})
	s.ttl.Store(7)
	question, _ := (&dnsmessage.Message{Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName("a.example."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}}}).Pack()
	f.Add(s.answer(question))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		if ttl, ok := shortestIn(p); ttl < 0 || !ok && ttl != 0 {
			t.Errorf("%v %v", ttl, ok)
		}
	})
}
