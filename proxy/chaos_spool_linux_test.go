package proxy_test

import (
	"context"
	"crypto/sha256"
	ctls "crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// bytesOf is so many bytes that an id stands for.
func bytesOf(id uint64, n int) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{byte(id), byte(id >> 8), byte(id >> 16)}), int64(n))
}

// halting is a reader that halts now and then, or breaks off.
type halting struct {
	io.Reader
	halts int
	cut   bool
}

var errLeft = errors.New("the client leaves")

func (h *halting) Read(p []byte) (int, error) {
	if h.halts > 0 && rand.N(20) == 0 {
		h.halts--
		time.Sleep(rand.N(300 * time.Millisecond))
	}
	if h.cut && rand.N(40) == 0 {
		return 0, errLeft
	}
	return h.Reader.Read(p[:min(len(p), 1+rand.N(64<<10))])
}

// startSpoolBackend answers /id/manner/size.
func startSpoolBackend(t *testing.T) string {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(r.URL.Path, "/")
		id, _ := strconv.ParseUint(parts[1], 10, 64)
		size, _ := strconv.Atoi(parts[3])
		sum := sha256.New()
		switch manner := parts[2]; manner {
		case "early":
		case "reset":
			io.CopyN(io.Discard, r.Body, rand.Int64N(1<<20))
			conn, _, _ := http.NewResponseController(w).Hijack()
			conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
			return
		default:
			in := &halting{Reader: r.Body}
			if manner == "slow" {
				in.halts = 3
			}
			if n, err := io.Copy(sum, in); err != nil {
				return
			} else if r.ContentLength >= 0 && n != r.ContentLength {
				panic("length")
			}
		}
		w.Header().Set("X-Sum", fmt.Sprintf("%x", sum.Sum(nil)))
		w.Header().Set("Trailer", "X-End")
		if id%2 == 0 {
			w.Header().Set("Content-Length", parts[3])
		}
		body := bytesOf(id, size)
		if parts[2] == "cut" {
			io.Copy(w, io.LimitReader(body, int64(size/2)))
			panic(http.ErrAbortHandler)
		}
		io.Copy(w, body)
		w.Header().Set("X-End", parts[1])
	}))
	s.Config.ErrorLog = nil
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func spoolSum(id uint64, n int) string {
	sum := sha256.New()
	io.Copy(sum, bytesOf(id, n))
	return fmt.Sprintf("%x", sum.Sum(nil))
}

// oneSpoolExchange asks for what it knows, and compares.
func oneSpoolExchange(client *http.Client, url string, id uint64) error {
	manner := []string{"plain", "plain", "slow", "slow", "early", "cut", "reset"}[rand.N(7)]
	size := []int{0, 10, 100_000, 3 << 20, 12 << 20}[rand.N(5)]
	upload := []int{-1, 0, 10, 60_000, 100_000, 3 << 20, 9 << 20}[rand.N(7)]
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Second)
	defer cancel()
	leaves := rand.N(5) == 0
	if leaves {
		time.AfterFunc(rand.N(800*time.Millisecond), cancel)
	}
	var body io.Reader
	cut := false
	if upload >= 0 {
		cut = rand.N(12) == 0
		body = &halting{bytesOf(id+1, upload), rand.N(4), cut}
	}
	method := http.MethodGet
	if upload >= 0 {
		method = http.MethodPost
	}
	r, _ := http.NewRequestWithContext(ctx, method, fmt.Sprintf("%s/%d/%s/%d", url, id, manner, size), body)
	r.Host = "example.com"
	if upload > 0 && rand.N(2) == 0 {
		r.ContentLength = int64(upload)
	}
	if rand.N(4) == 0 && upload > 0 {
		r.Header.Set("Expect", "100-continue")
	}
	what := fmt.Sprintf("%s %s proto %s upload %d length %d leaves %v cut %v", method, r.URL, url[:5], upload, r.ContentLength, leaves, cut)
	resp, err := client.Do(r)
	if err != nil {
		if leaves || cut || upload >= 0 && (manner == "early" || manner == "reset") {
			return nil
		}
		return fmt.Errorf("%s: %w", what, err)
	}
	defer resp.Body.Close()
	sum := sha256.New()
	in := &halting{Reader: resp.Body}
	if rand.N(2) == 0 {
		in.halts = 4
		time.Sleep(rand.N(700 * time.Millisecond))
	}
	n, err := io.Copy(sum, in)
	got := fmt.Sprintf("%x", sum.Sum(nil))
	switch {
	case leaves || cut:
		if resp.StatusCode == 200 && err == nil && manner != "cut" && got != spoolSum(id, size) {
			return fmt.Errorf("%s: wrong body %d", what, n)
		}
		return nil
	case resp.StatusCode == 200 && manner == "cut":
		if err == nil && size > 0 {
			return fmt.Errorf("%s: a cut answer was whole, %d", what, n)
		}
		return nil
	case resp.StatusCode == 502 && (manner == "reset" || manner == "early" || manner == "cut"):
		return nil
	case resp.StatusCode == 502 && upload >= 0: // its kept connection had ended
		return nil
	case resp.StatusCode != 200:
		return fmt.Errorf("%s: %d", what, resp.StatusCode)
	case err != nil && upload > 0 && manner == "early":
		return nil
	case err != nil:
		return fmt.Errorf("%s: %w after %d", what, err, n)
	case got != spoolSum(id, size):
		return fmt.Errorf("%s: wrong body %d", what, n)
	case manner != "early" && resp.Header.Get("X-Sum") != spoolSum(id+1, max(upload, 0)):
		return fmt.Errorf("%s: wrong upload", what)
	case resp.Trailer.Get("X-End") != "" && resp.Trailer.Get("X-End") != fmt.Sprint(id):
		return fmt.Errorf("%s: wrong trailer", what)
	}
	return nil
}

// TestChaosOfSpools lets clients of all kinds send, take and leave as they like, over reloads and with a disk that is full at times: whoever stays gets what the
// backend sent, and nothing is left over.
func TestChaosOfSpools(t *testing.T) {
	dir := t.TempDir()
	mounted := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=2m") == nil
	if mounted {
		defer unix.Unmount(dir, 0)
	}
	storage := t.TempDir()
	t.Setenv("TMPDIR", dir)
	address := startSpoolBackend(t)
	configs := []string{}
	for _, settings := range []string{
		"spool: true\n", "", "spool: true\nbuffer: {request: off, response: off}\n", "spool: true\nspool_max: 1MiB\n",
		"spool: true\nlimits: {spool_space: 3MiB, buffer_memory: 8MiB}\n", "spool_max: off\n", "spool: true\nbuffer: {response: 128KiB}\n",
	} {
		configs = append(configs, bothListeners+"tls: {storage: "+storage+"}\nupstreams: {one: {servers: [\""+address+"\"], max_connections: 8, queue: 30s}}\n"+
			settings+secureSite(`{path: /, http: "http://one"}`))
	}
	f := startWith(t, configs[0])
	end := time.Now().Add(4 * time.Second)
	var ids atomic.Uint64
	var running sync.WaitGroup
	plain := &http.Transport{MaxIdleConnsPerHost: 20}
	secure := &http.Transport{TLSClientConfig: &ctls.Config{InsecureSkipVerify: true, ServerName: "example.com"}, TLSNextProto: map[string]func(string, *ctls.Conn) http.RoundTripper{}}
	h2 := &http.Transport{TLSClientConfig: &ctls.Config{InsecureSkipVerify: true, ServerName: "example.com"}, ForceAttemptHTTP2: true}
	for i, tr := range []*http.Transport{plain, secure, h2} {
		client := &http.Client{Transport: tr}
		url := "https://" + f.secure
		if i == 0 {
			url = "http://" + f.plain
		}
		for range 8 {
			running.Go(func() {
				for time.Now().Before(end) && !t.Failed() {
					if err := oneSpoolExchange(client, url, ids.Add(2)+uint64(rand.N(2))); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	running.Go(func() {
		for time.Now().Before(end) {
			time.Sleep(rand.N(300 * time.Millisecond))
			f.apply(t, configs[rand.N(len(configs))])
			if mounted {
				unix.Mount("tmpfs", dir, "tmpfs", unix.MS_REMOUNT, fmt.Sprintf("size=%dm", 1+rand.N(40)))
			}
		}
	})
	running.Wait()
	for _, tr := range []*http.Transport{plain, secure, h2} {
		tr.CloseIdleConnections()
	}
	f.awaitNoSpools(t)
	await(t, "no connections", func() bool { c := f.server.Counts(); return c.Backends == c.Idle })
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("%s was left", left[0].Name())
	}
	for _, line := range strings.Split(f.log.String(), "\n") {
		if strings.Contains(line, "panic") {
			t.Error(line)
		}
	}
}
