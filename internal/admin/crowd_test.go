package admin

import (
	"bufio"
	"crypto/sha256"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience bounds every single wait.
const patience = 30 * time.Second

// slow is a service whose status takes until it is let go.
type slow struct {
	Service
	asked, let chan struct{}
	crowds     map[string]*crowd // by network
}

func (s slow) Status() Status {
	s.asked <- struct{}{}
	<-s.let
	return Status{PID: 7}
}

// few are the connections that may be open, and fewLong the long bodies.
const few, fewLong = 16, 2

// endless is a page that is as long as somebody reads it.
var endless = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
	for some := make([]byte, 1<<20); ; {
		if _, err := w.Write(some); err != nil {
			return
		}
	}
})

// serveSlow answers on a socket and over TCP.
func serveSlow(t *testing.T) (socket, address string, service slow) {
	t.Helper()
	service = slow{asked: make(chan struct{}), let: make(chan struct{})}
	desk := NewDesk(service, nil, endless, slog.New(slog.DiscardHandler))
	desk.most, desk.large = few, make(chan struct{}, fewLong)
	socket = filepath.Join(t.TempDir(), "control.sock")
	s, err := Listen(socket, Rights{0o660, -1}, false)
	if err != nil {
		t.Fatal(err)
	}
	settle, err := desk.Move("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	settle(true)
	server := desk.Serve(s)
	desk.Admit(&Access{Tokens: []Token{{Hash: sha256.Sum256([]byte("good")), Grant: &Grant{Who: "token good", Verbs: All}}}})
	t.Cleanup(func() {
		server.Close()
		desk.CloseWeb()
	})
	service.crowds = map[string]*crowd{"unix": server.sorter.crowd, "tcp": desk.web.current.crowd}
	return socket, desk.web.current.Addr().String(), service
}

// dialed is a connection with what it reads.
type dialed struct {
	net.Conn
	br *bufio.Reader
}

func dialAny(t *testing.T, network, address string) dialed {
	t.Helper()
	conn, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(patience))
	return dialed{conn, bufio.NewReader(conn)}
}

// rest is all that is said until the end.
func (d dialed) rest() string {
	all, err := io.ReadAll(d.br)
	if err != nil && len(all) == 0 {
		return err.Error()
	}
	return string(all)
}

// ask is a request for the status, with a token that counts over TCP.
const ask = "GET /v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer good\r\n\r\n"

// status reads an answer of HTTP.
func (d dialed) status(t *testing.T) int {
	t.Helper()
	resp, err := http.ReadResponse(d.br, nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	resp.Body.Close()
	return resp.StatusCode
}

// TestWhoWaitsLongestMakesRoom: beyond the bound, connections that have nothing to say are told so, in what they speak, and the next one has its answer.
func TestWhoWaitsLongestMakesRoom(t *testing.T) {
	socket, address, service := serveSlow(t)
	go func() {
		for range service.asked {
			service.let <- struct{}{}
		}
	}()
	defer close(service.asked)
	for _, c := range []struct{ name, network, address, says, answer, told string }{
		{"lines", "unix", socket, "x\n", "ERR 400 ", "ERR 503 too many connections"},
		{"HTTP on the socket", "unix", socket, "OPTIONS /v1/status HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 405 ", "HTTP/1.1 503 "},
		{"HTTP over TCP", "tcp", address, strings.Replace(ask, "GET", "OPTIONS", 1), "HTTP/1.1 405 ", "HTTP/1.1 503 "},
	} {
		t.Run(c.name, func(t *testing.T) {
			crowd := service.crowds[c.network]
			crowd.await(t, 0)
			var all []dialed
			for range few {
				d := dialAny(t, c.network, c.address)
				io.WriteString(d, c.says)
				if line, err := d.br.ReadString('\n'); err != nil || !strings.HasPrefix(line, c.answer) {
					t.Fatalf("%q, %v", line, err)
				}
				all = append(all, d)
			}
			for n := range 3 {
				crowd.await(t, few)
				d := dialAny(t, c.network, c.address)
				io.WriteString(d, ask)
				if got := d.status(t); got != http.StatusOK {
					t.Errorf("the next one is answered %d", got)
				}
				if rest := all[n].rest(); !strings.Contains(rest, c.told) {
					t.Errorf("the one that has waited longest is told %q", rest)
				}
			}
			if !strings.Contains(c.says, "HTTP") { // which ends idle connections by itself, in time
				io.WriteString(all[3], c.says)
				if line, err := all[3].br.ReadString('\n'); err != nil || !strings.HasPrefix(line, c.answer) {
					t.Errorf("one that has waited for less is answered %q, %v", line, err)
				}
			}
			for _, d := range all {
				d.Close()
			}
		})
	}
}

// await waits until so many are in, and for none of them anything is done.
func (w *crowd) await(t *testing.T, members int) {
	t.Helper()
	quiet := func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		busy := 0
		for _, s := range w.members {
			if s.busy {
				busy++
			}
		}
		return len(w.members) == members && busy == 0
	}
	for end := time.Now().Add(patience); !quiet(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("there are never %d who wait", members)
		}
	}
}

// TestWhoIsAnsweredIsNotSentAway: where all are busy the next one is told to try again, whatever it speaks.
func TestWhoIsAnsweredIsNotSentAway(t *testing.T) {
	socket, address, service := serveSlow(t)
	for _, c := range []struct {
		network, address string
		most             int
	}{{"unix", socket, few + reserved}, {"tcp", address, few}} { // who runs the test is the owner
		t.Run(c.network, func(t *testing.T) {
			var all []dialed
			for range c.most {
				d := dialAny(t, c.network, c.address)
				io.WriteString(d, ask)
				<-service.asked
				all = append(all, d)
			}
			late := dialAny(t, c.network, c.address)
			io.WriteString(late, ask)
			if got := late.status(t); got != http.StatusServiceUnavailable {
				t.Errorf("one more is answered %d", got)
			}
			if c.network == "unix" {
				lines := dialAny(t, c.network, c.address)
				io.WriteString(lines, "COUNT\n")
				if got := lines.rest(); !strings.HasPrefix(got, "ERR 503 ") {
					t.Errorf("one more that speaks in lines is answered %q", got)
				}
			}
			for range all {
				service.let <- struct{}{}
			}
			for _, d := range all {
				if got := d.status(t); got != http.StatusOK {
					t.Errorf("one that was busy is answered %d", got)
				}
				d.Close()
			}
		})
	}
}

// TestLongBodiesAreFew at a time: those that are dealt with hold up others that are long, and no short ones.
func TestLongBodiesAreFew(t *testing.T) {
	socket, _, service := serveSlow(t)
	long := "GET /v1/status HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\nConnection: close\r\n\r\n" + strings.Repeat("x", 100_000)
	var all []dialed
	begin := func(request string) {
		d := dialAny(t, "unix", socket)
		io.WriteString(d, request)
		all = append(all, d)
	}
	for range fewLong {
		begin(long)
		<-service.asked
	}
	begin(long)
	begin(ask)
	<-service.asked
	select {
	case <-service.asked:
		t.Error("a long one more is dealt with")
	default:
	}
	for range fewLong + 1 {
		service.let <- struct{}{}
	}
	<-service.asked
	service.let <- struct{}{}
	for _, d := range all {
		if got := d.status(t); got != http.StatusOK {
			t.Errorf("answered %d", got)
		}
	}
}

// standIn is a connection of which only is noted that it was told to go.
type standIn struct {
	net.Conn
	told bool
}

func (s *standIn) dismiss() { s.told = true }

// TestOwnerHasRoomBesideThoseWhoAreBusy, for some, of whom the one that waits makes room as all others do.
func TestOwnerHasRoomBesideThoseWhoAreBusy(t *testing.T) {
	w := newCrowd(2)
	admit := func(owner bool) (*standIn, bool) {
		m := &standIn{}
		in, _ := w.admit(m, owner)
		return m, in
	}
	for n := range 2 + reserved {
		m, in := admit(n >= 2)
		if !in || !w.occupy(m, true) {
			t.Fatalf("connection %d is not let in", n)
		}
	}
	last, in := admit(true)
	if in {
		t.Error("the owner has more than is reserved")
	}
	for m := range w.members {
		last = m.(*standIn)
	}
	w.occupy(last, false)
	if _, in := admit(false); !in || !last.told {
		t.Error("one that waits does not make room")
	}
}

// TestPageTakesNoRoomFromThoseWithAToken: who asks for the page, which takes no token, and does not read it keeps nobody from asking.
func TestPageTakesNoRoomFromThoseWithAToken(t *testing.T) {
	_, address, service := serveSlow(t)
	for range few {
		d := dialAny(t, "tcp", address)
		io.WriteString(d, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
		if got, err := d.br.ReadString('\n'); err != nil || got != "HTTP/1.1 200 OK\r\n" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	d := dialAny(t, "tcp", address)
	io.WriteString(d, ask)
	select {
	case <-service.asked:
		service.let <- struct{}{}
	case <-time.After(patience):
	}
	if got := d.status(t); got != http.StatusOK {
		t.Errorf("one with a token is answered %d", got)
	}
}

// TestNoRoomIsSaidWithoutWaiting for a peer that reads nothing, and the write that waits for it ends.
func TestNoRoomIsSaidWithoutWaiting(t *testing.T) {
	l, err := net.Listen("unix", filepath.Join(t.TempDir(), "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dialAny(t, "unix", l.Addr().String())
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	say := atOnce{conn.(*net.UnixConn)}
	for err == nil { // until there is no room
		_, err = say.Write(make([]byte, 1<<10))
	}
	conn.SetWriteDeadline(time.Time{})
	ended := make(chan error)
	go func() {
		_, err := conn.Write(make([]byte, 1<<20))
		ended <- err
	}()
	for told := false; !told; {
		select {
		case err := <-ended:
			if !os.IsTimeout(err) {
				t.Errorf("the write ended: %v", err)
			}
			told = true
		case <-time.After(10 * time.Millisecond):
			if n, err := io.WriteString(say, noRoom()); n > 0 || err == nil {
				t.Fatalf("%d bytes were written, %v", n, err)
			}
		}
	}
}

// TestStrangersHaveNoAnswerToOPTIONS of the server as a whole (RFC 9110, section 9.3.7) either.
func TestStrangersHaveNoAnswerToOPTIONS(t *testing.T) {
	desk := NewDesk(slow{}, nil, nil, slog.New(slog.DiscardHandler))
	settle, err := desk.Move("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	settle(true)
	defer desk.CloseWeb()
	d := dialAny(t, "tcp", desk.web.current.Addr().String())
	io.WriteString(d, "OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
	if got := d.status(t); got != http.StatusUnauthorized {
		t.Errorf("answered %d", got)
	}
}
