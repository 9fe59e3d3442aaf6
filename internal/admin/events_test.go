package admin

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// busy are tunnels to which something happens all the time.
type busy struct {
	Tunnels
	left chan struct{} // told of each watch that ends
}

func (busy) Count([]string) int { return 0 }

func (b busy) Watch([]string) Watch { return flood(b) }

type flood busy

func (flood) Next(ctx context.Context) (missed int, some []Event, err error) {
	if ctx.Err() != nil {
		return 0, nil, ctx.Err()
	}
	return 17, []Event{{Event: "opened", Tunnel: &Tunnel{Path: strings.Repeat("x", 4096)}}}, nil
}

func (f flood) Close() { f.left <- struct{}{} }

// always is for tests in which what is granted stays so.
func always(*Grant) bool { return true }

// anySite is for tests in which every site is there, for whom it may be.
func anySite(g *Grant, site string) (string, error) {
	if site != "" && !g.sees(site) {
		return "", errNotSeen
	}
	return site, nil
}

// watchedBy returns those who watch tunnels, of whom nobody may take nothing for long.
func watchedBy(tunnels Tunnels) *watchers {
	ws := newWatchers(tunnels, always, anySite)
	ws.timeout = 50 * time.Millisecond
	return ws
}

func awaitLeft(t *testing.T, left <-chan struct{}) {
	t.Helper()
	select {
	case <-left:
	case <-time.After(20 * time.Second):
		t.Fatal("who takes nothing still watches")
	}
}

func TestWatcherThatNeverReadsIsClosed(t *testing.T) {
	b := busy{left: make(chan struct{}, 1)}
	ws := watchedBy(b)
	t.Run("Server-Sent Events", func(t *testing.T) {
		mux := &router{}
		ws.handle(mux)
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mux.ServeHTTP(w, r.WithContext(withWatching(withGrant(r.Context(), &Grant{Verbs: List}), t.Context())))
		}))
		defer s.Close()
		conn, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "GET /v1/events HTTP/1.1\r\nHost: x\r\n\r\n")
		awaitLeft(t, b.left)
	})
	t.Run("lines", func(t *testing.T) {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		client, err := net.DialUnix("unix", nil, l.Addr().(*net.UnixAddr))
		if err != nil {
			t.Fatal(err)
		}
		conn, err := l.AcceptUnix()
		if err != nil {
			t.Fatal(err)
		}
		s := &sorter{desk: &Desk{tunnels: b, watchers: ws}, crowd: newCrowd(1)}
		c := &caller{UnixConn: conn, first: bufio.NewReader(conn)}
		go func() {
			s.watch(c, bufio.NewWriter(conn), &Grant{Verbs: List}, "")
			conn.Close()
		}()
		awaitLeft(t, b.left)
		first, err := bufio.NewReader(client).ReadString('\n')
		if first != "OK 0\n" || err != nil {
			t.Errorf("it is told %q, %v", first, err)
		}
		s.all.Wait()
		client.Close()
	})
}

// farewells are tunnels of which there is one more thing to tell in the end.
type farewells struct{ busy }

func (farewells) Watch([]string) Watch { return &lastWord{} }

type lastWord struct{ said bool }

func (w *lastWord) Next(ctx context.Context) (missed int, some []Event, err error) {
	<-ctx.Done()
	time.Sleep(50 * time.Millisecond) // as on a machine that has much to do
	if w.said {
		return 0, nil, ctx.Err()
	}
	w.said = true
	return 0, []Event{{Event: "upgrade"}}, nil
}

func (*lastWord) Close() {}

// TestWatchersAreToldOfTheEnd, on a server that is closed when it has hardly let them go.
func TestWatchersAreToldOfTheEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	socket, err := Listen(path, Rights{0o600, -1}, false)
	if err != nil {
		t.Fatal(err)
	}
	server := NewDesk(quiet{}, farewells{}, nil, slog.New(slog.DiscardHandler)).Serve(socket)
	d := dialAny(t, "unix", path)
	io.WriteString(d, "WATCH\n")
	if line, err := d.br.ReadString('\n'); line != "OK 0\n" {
		t.Fatalf("%q, %v", line, err)
	}
	server.Leave()
	go server.Close()
	if line, err := d.br.ReadString('\n'); !strings.Contains(line, "upgrade") {
		t.Errorf("it is told %q, %v", line, err)
	}
}

func TestSoManyMayWatch(t *testing.T) {
	b := busy{left: make(chan struct{}, maxWatchers)}
	ws := newWatchers(b, always, anySite)
	var leave []func()
	for range maxWatchers {
		w, err := ws.begin(&Grant{}, "")
		if err != nil {
			t.Fatal(err)
		}
		leave = append(leave, w.leave)
	}
	if _, err := ws.begin(&Grant{}, ""); err == nil || !strings.Contains(err.Error(), "64 watch already") {
		t.Errorf("one more: %v", err)
	}
	leave[0]()
	if _, err := ws.begin(&Grant{}, ""); err != nil {
		t.Error(err)
	}
}

// TestWatcherSeesOnlyItsSites, and asks in vain for another.
func TestWatcherSeesOnlyItsSites(t *testing.T) {
	ws := newWatchers(busy{}, always, anySite)
	for _, test := range []struct {
		granted []string
		site    string
		want    string // of sites; all for nil
	}{
		{nil, "", "all"}, {nil, "a", "a"}, {[]string{"a", "b"}, "", "a b"}, {[]string{"a", "b"}, "b", "b"}, {[]string{"a"}, "b", "refused"},
	} {
		w, err := ws.begin(&Grant{Sites: test.granted}, test.site)
		if test.want == "refused" {
			if err == nil {
				t.Errorf("of %v with %q it sees something", test.granted, test.site)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got := strings.Join(w.sites, " ")
		if w.sites == nil {
			got = "all"
		}
		if got != test.want {
			t.Errorf("of %v with %q it sees %q; want %q", test.granted, test.site, got, test.want)
		}
	}
}
