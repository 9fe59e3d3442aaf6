//go:build linux && !portable

package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// order is a request that says how it is to be answered, and knows the answer.
type order struct {
	id     int
	method string
	manner string
	upload string // how its body is framed
	size   int    // of its body, in repetitions of the id
}

// Manners in which a backend answers. Of those that are whole, each has an answer that the client must get.
var (
	wholeManners  = []string{"plain", "chunked", "trailers", "close", "hints", "early", "late", "slow", "extra", "big"}
	brokenManners = []string{"cut", "cut-chunk", "reset", "silent", "garbage"}
)

// content is a body of an id.
func content(id, times int) string { return strings.Repeat(strconv.Itoa(id)+",", times) }

// answerTo is the body of the answer to a request of which so many bytes came.
func answerTo(id int, manner string, got int) string {
	times := 3
	if manner == "big" {
		times = 50_000
	}
	if manner == "early" {
		got = 0 // nobody waits for them
	}
	return fmt.Sprintf("%d bytes,", got) + content(id, times)
}

// serveOrders is a backend that answers as it is told.
func serveOrders(_ *backend, conn net.Conn) {
	for br := bufio.NewReader(conn); ; {
		r, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		var id int
		var manner string
		fmt.Sscanf(r.URL.Path, "/%d/%s", &id, &manner)
		if manner == "early" {
			text := answerTo(id, manner, 0)
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(text))
			if r.Method != http.MethodHead {
				io.WriteString(conn, text)
			}
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		text := answerTo(id, manner, len(body))
		if string(body) != content(id, strings.Count(string(body), ",")) {
			text = "the body of another request"
		}
		if manner != "early" && !writeOrder(conn, r.Method, manner, text) {
			return
		}
	}
}

// writeOrder writes an answer. It reports whether the connection goes on.
func writeOrder(conn net.Conn, method, manner, text string) bool {
	const chunkedHead = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n"
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	half := len(text) / 2
	all := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(text))
	body := text
	switch manner {
	case "hints":
		all = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + all
	case "chunked":
		all, body = chunkedHead+"\r\n", chunk(text[:half])+chunk(text[half:])+"0\r\n\r\n"
	case "trailers":
		all, body = chunkedHead+"Trailer: X-Sum\r\n\r\n", chunk(text)+"0\r\nX-Sum: a\r\n\r\n"
	case "close":
		all = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
	case "late":
		time.Sleep(20 * time.Millisecond)
	case "cut":
		body = text[:half]
	case "cut-chunk":
		all, body = chunkedHead+"\r\n", chunk(text[:half])
	case "silent":
		return false
	case "garbage":
		io.WriteString(conn, "what?\r\n\r\n")
		return false
	}
	if method == http.MethodHead {
		body = ""
	}
	if manner == "extra" {
		body += "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"
	}
	if manner == "slow" || manner == "chunked" {
		io.WriteString(conn, all)
		for len(body) > 0 {
			n := min(len(body), 7)
			io.WriteString(conn, body[:n])
			body = body[n:]
			time.Sleep(time.Millisecond)
		}
		return true
	}
	io.WriteString(conn, all+body)
	if manner == "reset" {
		conn.(*net.TCPConn).SetLinger(0)
	}
	return manner != "cut" && manner != "cut-chunk" && manner != "reset" && manner != "close"
}

// newOrder makes an order at random.
func newOrder(random *rand.Rand, id int) order {
	o := order{id: id, method: http.MethodGet, manner: wholeManners[random.IntN(len(wholeManners))]}
	if random.IntN(5) == 0 {
		o.manner = brokenManners[random.IntN(len(brokenManners))]
	}
	switch random.IntN(5) {
	case 0:
		o.method = http.MethodHead
	case 1, 2:
		o.method, o.upload = http.MethodPost, []string{"length", "chunked", "expect"}[random.IntN(3)]
		o.size = []int{0, 1, 10, 1000, 20_000}[random.IntN(5)]
	}
	return o
}

func (o order) path() string { return fmt.Sprintf("/%d/%s", o.id, o.manner) }

// wire is the order over HTTP/1.1.
func (o order) wire() string {
	head := o.method + " " + o.path() + " HTTP/1.1\r\n" + host
	body := content(o.id, o.size)
	switch o.upload {
	case "":
		return head + "\r\n"
	case "expect":
		head += "Expect: 100-continue\r\n" // the body follows all the same
		fallthrough
	case "length":
		return fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", head, len(body), body)
	}
	var all strings.Builder
	all.WriteString(head + "Transfer-Encoding: chunked\r\n\r\n")
	for len(body) > 0 {
		n := min(len(body), 1+o.id%5000)
		fmt.Fprintf(&all, "%x\r\n%s\r\n", n, body[:n])
		body = body[n:]
	}
	return all.String() + "0\r\n\r\n"
}

// check compares what a client has got for an order; err is of reading the body.
func (o order) check(status int, body string, err error) error {
	want := answerTo(o.id, o.manner, len(content(o.id, o.size)))
	if o.method == http.MethodHead {
		want = ""
	}
	whole := strings.Contains(strings.Join(wholeManners, " "), o.manner)
	switch {
	case status == 200 && err == nil && body == want && (whole || o.method == http.MethodHead || o.manner == "reset"):
	case status == 200 && err != nil && !whole && strings.HasPrefix(want, body):
	case status == http.StatusBadGateway && !whole:
	case status == http.StatusBadGateway && o.method == http.MethodPost: // its kept connection had ended, and it can't be repeated
	default:
		return fmt.Errorf("%s %s of %d, %q: %d %.60q, %v", o.method, o.path(), o.size, o.upload, status, body, err)
	}
	return nil
}

// orderer is a client of many orders.
type orderer struct {
	f        *front
	random   *rand.Rand
	ids      *atomic.Int64
	answered *atomic.Int64
}

// pipeline sends some orders over HTTP/1.1 at once, and reads the answers, unless it leaves.
func (c *orderer) pipeline(secure bool) error {
	address := c.f.plain
	if secure {
		address = c.f.secure
	}
	raw, err := net.Dial("tcp", address)
	if err != nil {
		return err
	}
	defer raw.Close()
	conn := net.Conn(&patient{Conn: raw})
	if secure {
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: "example.com"})
	}
	var orders []order
	var text strings.Builder
	for range 1 + c.random.IntN(5) {
		o := newOrder(c.random, int(c.ids.Add(1)))
		orders = append(orders, o)
		text.WriteString(o.wire())
	}
	all, leaves := text.String(), c.random.IntN(4) == 0
	if leaves {
		all = all[:c.random.IntN(len(all)+1)]
	}
	cut := c.random.IntN(len(all) + 1)
	var writing sync.WaitGroup
	defer writing.Wait()
	writing.Go(func() {
		io.WriteString(conn, all[:cut])
		time.Sleep(time.Millisecond)
		io.WriteString(conn, all[cut:])
	})
	if leaves {
		time.Sleep(time.Duration(c.random.IntN(20)) * time.Millisecond)
		switch c.random.IntN(3) {
		case 0:
			raw.(*net.TCPConn).SetLinger(0)
		case 1:
			raw.(*net.TCPConn).CloseWrite()
			io.Copy(io.Discard, conn)
		}
		raw.Close()
		return nil
	}
	br := bufio.NewReader(conn)
	for i, o := range orders {
		response, err := readFinal(br, o.method)
		if err != nil {
			return fmt.Errorf("no answer to %s %s, %d in the line: %w", o.method, o.path(), i, err)
		}
		body, err := io.ReadAll(response.Body)
		if err := o.check(response.StatusCode, string(body), err); err != nil {
			return err
		}
		if c.answered.Add(1); err != nil || response.Close {
			break
		}
	}
	raw.Close()
	return nil
}

// readFinal reads a response behind those of 1xx.
func readFinal(br *bufio.Reader, method string) (*http.Response, error) {
	for {
		response, err := http.ReadResponse(br, &http.Request{Method: method})
		if err != nil || response.StatusCode >= 200 {
			return response, err
		}
	}
}

// multiplex sends some orders over HTTP/2 side by side, and gives some of them up. What the transport has dialled for those it keeps for a second.
func (c *orderer) multiplex() error {
	transport := &http.Transport{ForceAttemptHTTP2: true, IdleConnTimeout: time.Second, TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "example.com"}}
	defer transport.CloseIdleConnections()
	failures := make(chan error, 20)
	count := 1 + c.random.IntN(20)
	for range count {
		o := newOrder(c.random, int(c.ids.Add(1)))
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		gaveUp := c.random.IntN(4) == 0
		if gaveUp {
			time.AfterFunc(time.Duration(c.random.IntN(20))*time.Millisecond, cancel)
		}
		go func() {
			defer cancel()
			err := c.overHTTP2(ctx, transport, o)
			if gaveUp && ctx.Err() != nil {
				err = nil
			}
			failures <- err
		}()
	}
	var failed error
	for range count {
		if err := <-failures; err != nil {
			failed = err
		}
	}
	return failed
}

func (c *orderer) overHTTP2(ctx context.Context, transport http.RoundTripper, o order) error {
	var upload io.Reader
	switch body := content(o.id, o.size); o.upload {
	case "":
	case "length":
		upload = strings.NewReader(body)
	default:
		upload = io.MultiReader(strings.NewReader(body)) // whose length is not known
	}
	r, err := http.NewRequestWithContext(ctx, o.method, "https://"+c.f.secure+o.path(), upload)
	if err != nil {
		return err
	}
	r.Host = "example.com"
	response, err := transport.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("%s %s: %w", o.method, o.path(), err)
	}
	defer response.Body.Close()
	var body bytes.Buffer
	_, err = io.Copy(&body, response.Body)
	if err := o.check(response.StatusCode, body.String(), err); err != nil {
		return err
	}
	c.answered.Add(1)
	return nil
}

// TestEveryAnswerBelongsToItsRequest: clients that pipeline, upload in every framing, leave anywhere; backends that answer in every manner, or break off.
// What is answered is what was asked for, in order; what was cut is seen to be; and at the end nothing is left.
func TestEveryAnswerBelongsToItsRequest(t *testing.T) {
	const lasts, clients = 3 * time.Second, 60
	b := startBackend(t, serveOrders)
	f := startTLS(t, "access_log: off\n"+secureSite(httpTo(b.address)))
	f.visitOnce()
	before := openFiles(t) - openPipes(t)
	var ids, answered atomic.Int64
	end := time.Now().Add(lasts)
	var running sync.WaitGroup
	for i := range uint64(clients) {
		running.Go(func() {
			c := &orderer{f, rand.New(rand.NewPCG(i, rand.Uint64())), &ids, &answered}
			for time.Now().Before(end) && !t.Failed() {
				var err error
				if i%3 == 2 {
					err = c.multiplex()
				} else {
					err = c.pipeline(i%3 == 1)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	t.Logf("%d of %d were answered", answered.Load(), ids.Load())
	f.leavesNothing(t, before)
	if _, found, ok := strings.Cut(f.log.String(), "panic"); ok {
		t.Errorf("panic%s", found[:min(len(found), 2500)])
	}
}

// visitOnce has everything opened that stays open.
func (f *front) visitOnce() {
	c := f.dial()
	c.send(strings.Replace(get, "/ ", "/1/plain ", 1))
	c.expect(200)
	c.Close()
}
