package proxy_test

import (
	ctls "crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"wstunnel/proxy"
)

// startChatter is a backend that says n messages, in pieces of 64 bytes with pings between them, compressed where that is agreed on, and closes when told to. It
// takes what comes.
func startChatter(t *testing.T, n int, closing <-chan bool) (address string) {
	t.Helper()
	upgrader := websocket.Upgrader{WriteBufferSize: 64, EnableCompression: true, CheckOrigin: func(*http.Request) bool { return true }}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, err := upgrader.Upgrade(w, r, http.Header{"X-Wstunnel-Groups": {"all"}})
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		ended := make(chan bool)
		go func() {
			defer close(ended)
			for err := error(nil); err == nil; {
				_, _, err = conn.NextReader()
			}
		}()
		for i := range n {
			conn.WriteControl(websocket.PingMessage, []byte("are you there"), time.Now().Add(patience))
			conn.EnableWriteCompression(i%3 != 0)
			m, _ := conn.NextWriter(websocket.TextMessage)
			fmt.Fprintf(m, "backend %d ", i)
			for range rand.IntN(40) {
				fmt.Fprintf(m, "%x", rand.Uint64())
			}
			if m.Close() != nil {
				return
			}
		}
		<-closing
		conn.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4000, "that was all"), time.Now().Add(patience))
		<-ended // the answer, without which what is on its way would be lost
	}))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

// TestPushedMessagesStandBetweenThoseOfABackend that sends fragments, pings and compressed messages: a strict client gets all of both, each once and whole, those of
// one speaker in their order; and nothing behind the Close frame.
func TestPushedMessagesStandBetweenThoseOfABackend(t *testing.T) {
	for _, mode := range []string{"tunnel", "relay"} {
		for _, scheme := range []string{"ws", "wss"} {
			t.Run(mode+" over "+scheme, func(t *testing.T) { checkMixture(t, mode, scheme, false) })
			t.Run("compressed "+mode+" over "+scheme, func(t *testing.T) { checkMixture(t, mode, scheme, true) })
		}
	}
}

func checkMixture(t *testing.T, mode, scheme string, compressed bool) {
	const said, pushers, pushed = 300, 4, 50
	closing := make(chan bool)
	f := startTLS(t, secureSite(`{path: /ws, mode: `+mode+`, websocket: "ws://`+startChatter(t, said, closing)+`"}`))
	address := map[string]string{"ws": f.plain, "wss": f.secure}[scheme]
	dialer := websocket.Dialer{EnableCompression: compressed, TLSClientConfig: &ctls.Config{InsecureSkipVerify: true, ServerName: "example.com"}}
	conn, _, err := dialer.Dial(scheme+"://"+address+"/ws", http.Header{"Host": {"example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	await(t, "the tunnel", func() bool { return len(f.server.Tunnels()) == 1 })
	key := f.server.Tunnels()[0].Key
	var all sync.WaitGroup
	for p := range pushers {
		all.Go(func() {
			for i := range pushed {
				message := fmt.Sprintf("pusher%d %d %s", p, i, strings.Repeat("x", rand.IntN(3000)))
				if got, err := f.server.PushTo(t.Context(), key, textTo(message), i%2 == 0); err != nil || got.Written+got.Queued != 1 {
					t.Errorf("message %d: %+v, %v", i, got, err)
				}
			}
		})
	}
	go func() {
		all.Wait()
		close(closing)
	}()
	heard, err := hearAll(conn)
	if err != nil || heard["backend"] != said || len(heard) != 1+pushers {
		t.Errorf("heard were %v, %v", heard, err)
	}
	for p := range pushers {
		if n := heard[fmt.Sprintf("pusher%d", p)]; n != pushed {
			t.Errorf("pusher %d was heard %d times, want %d", p, n, pushed)
		}
	}
	if _, err := f.server.PushTo(t.Context(), key, textTo("behind it"), true); !errors.Is(err, proxy.ErrGone) {
		t.Errorf("behind a Close frame: %v", err)
	}
}

// hearAll reads to the Close frame, and returns how many messages there were of each speaker. Each has to number its own.
func hearAll(conn *websocket.Conn) (heard map[string]int, err error) {
	heard = map[string]int{}
	for {
		conn.SetReadDeadline(time.Now().Add(patience))
		_, message, err := conn.ReadMessage()
		if websocket.IsCloseError(err, 4000) {
			return heard, nil
		}
		if err != nil {
			return heard, err
		}
		var who string
		var n int
		if _, err := fmt.Sscanf(string(message), "%s %d ", &who, &n); err != nil || n != heard[who] {
			return heard, fmt.Errorf("got %.40q, want number %d", message, heard[who])
		}
		heard[who]++
	}
}

// TestPushedMessagesSurviveAHandOver: while tunnels in whose backends' messages there are fragments go to a new binary, what either process has taken in arrives once and
// in its order, and what one has refused does not.
func TestPushedMessagesSurviveAHandOver(t *testing.T) {
	const tunnels, said, pushedBehind = 8, 3000, 50
	closing := make(chan bool)
	yaml := plainListener + oneSite(socketTo(startChatter(t, said, closing)))
	old := startWith(t, yaml)
	var conns [tunnels]*websocket.Conn
	for i := range conns {
		conn, _, err := websocket.DefaultDialer.Dial("ws://"+old.plain+"/ws", http.Header{"Host": {"example.com"}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns[i] = conn
		await(t, "the tunnel", func() bool { return len(old.server.Tunnels()) == i+1 })
	}
	s := succeed(t, old, yaml)
	var clients, pushers sync.WaitGroup
	var accepted [tunnels]int
	for i, live := range old.server.Tunnels() {
		key := live.Key
		clients.Go(func() {
			if heard, err := hearAll(conns[i]); err != nil || heard["backend"] != said || heard["pusher"] != accepted[i] {
				t.Errorf("tunnel %d: heard were %v, %v; accepted were %d", i, heard, err, accepted[i])
			}
		})
		pushers.Go(func() {
			server := old.server
			for behind := 0; behind < pushedBehind; {
				switch _, err := server.PushTo(t.Context(), key, textTo(fmt.Sprintf("pusher %d %s", accepted[i], strings.Repeat("x", rand.IntN(300)))), false); {
				case err == nil:
					if accepted[i]++; server == s.young.server {
						behind++
					}
				case errors.Is(err, proxy.ErrGone):
					server = s.young.server
				case errors.Is(err, proxy.ErrFull), errors.Is(err, proxy.ErrNoTunnel): // which is on its way
				default:
					t.Errorf("message %d: %v", accepted[i], err)
					return
				}
			}
		})
	}
	s.handOver(t, tunnels)
	pushers.Wait()
	close(closing)
	clients.Wait()
	t.Logf("accepted were %v", accepted)
}
